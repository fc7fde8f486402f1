"""Numbers as a reader wants them."""

import math


def percent(share: float) -> str:
    "A share from 0 to 1 in whole percent"
    return f"{100 * share:.0f} %"


def number(x: float, digits: int = 3) -> str:
    "An integer in full, a float with so many digits; no exponent below 10^15, which a reader need not know."
    if isinstance(x, int):
        return f"{x:,}"
    if x == 0 or not abs(x) < 1e15:
        return f"{x:.{digits}g}"
    return f"{x:,.{max(0, digits - 1 - math.floor(math.log10(abs(x))))}f}"

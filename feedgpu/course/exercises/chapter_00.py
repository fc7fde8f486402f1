"""The exercise of chapter 00: what is asked of an answer."""

from ..verdicts import exercise, short, told

TRIED = (([1, 1], [2], 0.5), ([3.0], [], 1), ([0.5, 0.25], [0.75, 1.5], 0.25), ([], [], 0), ([0.0], [0.0], 0))


@exercise
def waiting_share(answer):
    "the share of the whole time, also of an epoch that took none"
    for waiting, computing, expected in TRIED:
        asked = f"waiting {waiting} and computing {computing}"
        with told(f"for {asked}"):
            given = answer(list(waiting), list(computing))
        if given is None:
            return f"expected {expected} for {asked}, you gave None: a `return` is missing"
        try:
            number = float(given)  # also of a tensor or of NumPy
        except (TypeError, ValueError):
            return f"expected {expected} for {asked}, you gave {short(given)}: return a number"
        if abs(number - expected) > 1e-6:
            why = "the whole is waiting and computing together" if waiting else "no time at all was spent"
            if abs(number - 100 * expected) < 1e-6:
                why = "yours is in percent, a share goes from 0 to 1"
            elif abs(number - (1 - expected)) < 1e-6:
                why = "yours is the share of computing"
            return f"expected {expected} for {asked}, you gave {short(given)}: {why}"

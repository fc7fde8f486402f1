"""The exercise of chapter 00: what is asked of an answer."""

from ..verdicts import exercise, short, told


@exercise
def waiting_share(answer):
    "the share of the whole time, also of an epoch that took none"
    for waiting, computing, expected in (
        ([1, 1], [2], 0.5),
        ([3.0], [], 1),
        ([0.5, 0.25], [0.75, 1.5], 0.25),
        ([], [], 0),
    ):
        asked = f"waiting {waiting} and computing {computing}"
        with told(f"for {asked}"):
            given = answer(list(waiting), list(computing))
        if not isinstance(given, (int, float)) or abs(given - expected) > 1e-9:
            why = "the whole is waiting and computing together" if waiting else "no time at all was spent"
            if isinstance(given, (int, float)) and abs(given - 100 * expected) < 1e-9:
                why = "yours is in percent, a share goes from 0 to 1"
            return f"expected {expected} for {asked}, you gave {short(given)}: {why}"

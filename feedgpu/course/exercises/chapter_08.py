"""The exercise of chapter 08: what is asked of an answer.

The rates are simulated from fixed parts, so the verdict is the same on every machine, however busy it is.
"""

from ...measure.parts import Parts
from ...measure.simulation import simulate
from ..verdicts import Right, exercise, short

MAY_LOSE = 0.05  # of the best rate
HAND_OVER = {"collating": 0.0002, "copying": 0.0003, "receiving": 0.0005}
START = {"starting": 0.008, "arriving": 0.012, "ending": 0.010}


def loader(sample: float, cpu_share: float) -> Parts:
    return Parts([sample], cpu_share=cpu_share, batch_size=4, cpus=2, **HAND_OVER, **START)


LOADERS = {  # {name: (parts, batches of the epoch, seconds of a step, why its best choice is the best)}
    "samples that wait for 8 ms": (
        loader(0.008, 0),
        48,
        0.009,
        "a worker that waits uses no CPU, so four workers wait for four samples at the same time",
    ),
    "60 samples that wait for 0.4 ms": (
        loader(0.0004, 0),
        15,
        0.004,
        "each worker needs time to start, and an epoch of 15 batches is too short to win that back",
    ),
    "samples that compute for 2 ms": (
        loader(0.002, 1),
        24,
        0.004,
        "two workers use both CPUs, so a third worker adds its start and no speed",
    ),
    "samples that wait for 2 ms, steps of 7.7 ms": (
        loader(0.002, 0),
        200,
        0.0077,
        "one worker makes a batch in little more than a step, so a second one gains 3 %",
    ),
}


@exercise
def choose(answer):
    "each choice is the fewest workers within 5 % of the best simulated rate"
    told = []
    for name, (parts, batches, step, why) in LOADERS.items():
        chosen = answer(parts, batches, step)
        if type(chosen) is not int or not 0 <= chosen <= 4:
            return f"{name}: expected a whole number of workers from 0 to 4, you gave {short(chosen)}"
        rates = rates_of(parts, batches, step)
        best = max(rates, key=rates.get)
        fewest = min(n for n in rates if loses(rates, n) <= MAY_LOSE)
        if loses(rates, chosen) > MAY_LOSE:
            return (
                f"{name}: you chose {workers(chosen)}, with {rates[chosen]:,.0f} samples/s; "
                f"{workers(best)} give {rates[best]:,.0f} samples/s, so your choice loses "
                f"{100 * loses(rates, chosen):.0f} %. Why: {why}"
            )
        if chosen > fewest:
            return (
                f"{name}: you chose {workers(chosen)}, with {rates[chosen]:,.0f} samples/s, where "
                f"{workers(fewest)} would do, with {rates[fewest]:,.0f}. Why: {why}"
            )
        told.append(f"{name}: {workers(chosen)}, {rates[chosen]:,.0f} samples/s")
    return Right("Simulated: " + "; ".join(told))


def workers(number: int) -> str:
    return f"{number} worker{'s' * (number != 1)}"


def rates_of(parts: Parts, batches: int, step: float) -> dict[int, float]:
    "{number of workers: simulated samples/s of an epoch in which they start}"
    return {n: simulate(parts, n, batches=batches, step=step).rate for n in range(5)}


def loses(rates: dict[int, float], number: int) -> float:
    "The share of the best rate that this number of workers loses, 0 to 1"
    return 1 - rates[number] / max(rates.values())

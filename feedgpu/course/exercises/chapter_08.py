"""The exercise of chapter 08: what is asked of an answer.

The rates are simulated from fixed parts, so the verdict is the same on every machine, however busy it is.
"""

from ...measure.parts import Parts
from ...measure.simulation import simulate
from ..verdicts import Right, exercise, short

STEP = 0.004  # seconds of a step
MAY_LOSE = 0.05  # of the best rate
HAND_OVER = {"collating": 0.0002, "copying": 0.0003, "receiving": 0.0005}
START = {"starting": 0.008, "arriving": 0.012, "ending": 0.010}
LOADERS = {  # {name: (parts, batches of the epoch, why its best choice is the best)}
    "samples that wait for 8 ms": (
        Parts([0.008], cpu_share=0, batch_size=4, cpus=2, **HAND_OVER, **START),
        16,
        "a worker that waits uses no CPU, so four workers wait for four samples at the same time",
    ),
    "12 samples that wait for 2 ms": (
        Parts([0.002], cpu_share=0, batch_size=4, cpus=2, **HAND_OVER, **START),
        3,
        "each worker needs time to start, and an epoch of 3 batches is too short to win that back",
    ),
    "samples that compute for 2 ms": (
        Parts([0.002], cpu_share=1, batch_size=4, cpus=2, **HAND_OVER, **START),
        24,
        "two workers use both CPUs, so a third worker adds its start and no speed",
    ),
}


@exercise
def choose(answer):
    "each choice is within 5 % of the best simulated rate"
    told = []
    for name, (parts, batches, why) in LOADERS.items():
        chosen = answer(parts, batches, STEP)
        if type(chosen) is not int or not 0 <= chosen <= 4:
            return f"{name}: expected a whole number of workers from 0 to 4, you gave {short(chosen)}"
        rates = rates_of(parts, batches)
        best = max(rates, key=rates.get)
        if loses(rates, chosen) > MAY_LOSE:
            return (
                f"{name}: you chose {chosen} workers, which give {rates[chosen]:,.0f} samples/s; {best} "
                f"workers give {rates[best]:,.0f} samples/s, so your choice loses "
                f"{100 * loses(rates, chosen):.0f} %. Why: {why}"
            )
        told.append(f"{name}: {chosen} workers, {rates[chosen]:,.0f} samples/s")
    return Right("Simulated: " + "; ".join(told))


def rates_of(parts: Parts, batches: int) -> dict[int, float]:
    "{number of workers: simulated samples/s of an epoch in which they start}"
    return {n: simulate(parts, n, batches=batches, step=STEP).rate for n in range(5)}


def loses(rates: dict[int, float], workers: int) -> float:
    "The share of the best rate that this number of workers loses, 0 to 1"
    return 1 - rates[workers] / max(rates.values())

"""The exercise of chapter 08: what is asked of an answer."""

import sys
from collections.abc import Iterable

from torch.utils.data import DataLoader

from ...measure.epoch import run_epoch
from ...measure.loaders import similar
from ...measure.parts import measure_parts
from ...measure.simulation import simulate
from ...measure.spread import alternate
from ...measure.stand_in import Device
from ...measure.workloads import Costly
from ..verdicts import Right, exercise, short


@exercise(seconds=90)
def choose(answer):
    "each choice is within 15 % of the best measured rate, or within 30 % where the simulation errs as much"
    loaders = {
        "samples that wait for 8 ms": loader_of(Costly(64, waiting=0.008)),
        "12 samples that wait for 2 ms": loader_of(Costly(12, waiting=0.002)),
        "samples that compute for 2 ms": loader_of(Costly(96, computing=0.002)),
    }
    why = {
        "samples that wait for 8 ms": "a worker that waits needs no CPU, so more of them pay, until the step "
        "or their own start takes longer",
        "12 samples that wait for 2 ms": "each worker has to start, and the epoch is over before that pays",
        "samples that compute for 2 ms": "workers take work from the loop, until all CPUs are taken",
    }
    step = 0.004
    chosen = {}
    for name, loader in loaders.items():
        chosen[name] = answer(loader, step)
        if type(chosen[name]) is not int or not 0 <= chosen[name] <= 4:
            return f"{name}: expected a number of workers from 0 to 4, you gave {short(chosen[name])}"
    told = []
    for name, loader in loaders.items():
        rates, simulated = measured_choice(loader, step, chosen[name])
        if not near_enough(rates, chosen[name], simulated):
            again = answer(
                loader, step
            )  # others may have used the CPUs when it chose, or when it was measured
            if type(again) is int and 0 <= again <= 4 and again != chosen[name]:
                chosen[name] = again
                rates, simulated = measured_choice(loader, step, again)
        best, lost = max(rates, key=rates.get), f"≈ {100 * loses(rates, chosen[name]):.0f} %"
        if not near_enough(rates, chosen[name], simulated):
            return (
                f"{name}: you chose {chosen[name]} workers, {rates[chosen[name]]:,.0f} samples/s; {best} "
                f"give {rates[best]:,.0f} samples/s, so your choice loses {lost}. The simulation would have "
                f"chosen {simulated}. Why: {why[name]}"
            )
        yours = f"≈ {chosen[name]} workers gave {rates[chosen[name]]:,.0f} samples/s"
        told.append(f"{name}: {yours}, the best, ≈ {best}, {rates[best]:,.0f} samples/s, regret {lost}")
    return Right("Measured: " + "; ".join(told))


def measured_choice(loader: DataLoader, step: float, chosen: int) -> tuple[dict[int, float], int]:
    "The rates by number of workers, and the number that the simulation would have chosen"
    parts = measure_parts(loader)
    foreseen = [simulate(parts, n, batches=len(loader), step=step).rate for n in range(5)]
    simulated = min(n for n in range(5) if foreseen[n] >= 0.95 * max(foreseen))
    rates = rates_of(loader, step, range(5), rounds=1)
    if loses(rates, chosen) > 0.15:  # a single round may have been disturbed
        rates = rates_of(loader, step, {chosen, simulated, max(rates, key=rates.get)}, rounds=3)
    return rates, simulated


def loader_of(dataset) -> DataLoader:
    "With one worker, so that it is known how workers are born: quickly, where the system can fork"
    context = "fork" if sys.platform == "linux" else None
    return DataLoader(dataset, batch_size=4, num_workers=1, multiprocessing_context=context)


def rates_of(loader: DataLoader, step: float, numbers: Iterable[int], rounds: int) -> dict[int, float]:
    "{number of workers: samples/s of an epoch in which they start}, the median of so many rounds in turn"
    runs = {}
    for n in sorted(numbers):
        one = similar(loader, num_workers=n)
        runs[n] = lambda one=one: len(one.dataset) / run_epoch(one, Device(step)).seconds
    return {n: spread.median for n, spread in alternate(runs, rounds).items()}


def near_enough(rates: dict[int, float], chosen: int, simulated: int) -> bool:
    "Whether a choice is good, or hardly worse than the simulation's, which may err, but not by any amount"
    allowed = min(0.3, max(0.15, 0.05 + loses(rates, simulated)))
    return loses(rates, chosen) <= allowed


def loses(rates: dict[int, float], workers: int) -> float:
    "The share of the best rate that this number of workers gives away, 0 to 1"
    return 1 - rates[workers] / max(rates.values())

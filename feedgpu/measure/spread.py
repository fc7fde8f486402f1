"""Repeated measurements: in turn, so that a disturbance meets all of them; their median and their ends."""

import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from statistics import median
from typing import Any

from .words import number


@dataclass
class Spread:
    "The median of repeated measurements, and the least and the greatest of them"

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> "Spread":
        values = list(values)
        return cls(median(values), min(values), max(values))

    def times(self, other: "Spread") -> str:
        "This one's median as a multiple of the other's; where their ranges overlap, the sentence says so"
        overlap = self.low <= other.high and other.low <= self.high
        return f"{self.median / other.median:.1f} ×" + " (the ranges overlap)" * overlap

    def __format__(self, unit: str) -> str:
        "f'{spread:samples/s}': the median, and from where to where; '%' and 'ms' scale it"
        scale = {"%": 100, "ms": 1e3, "µs": 1e6}.get(unit, 1)
        middle, low, high = (number(scale * x, 2 if unit == "%" else 3) for x in vars(self).values())
        if unit == "%":
            return f"≈ {middle} % (≈ {low} to ≈ {high} %)"
        return f"{middle} {unit} ({low}–{high} {unit})"


def alternate(runs: dict[str, Callable[[], float]], rounds: int = 5) -> dict[str, Spread]:
    """Measures several things in turn, `rounds` times over, so that a disturbance meets all of them.

    `runs`: {name: function that measures once and returns the number}. Returns {name: Spread}.
    """
    values = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            values[name].append(run())
    return {name: Spread.of(found) for name, found in values.items()}


def repeat(run: Callable[[], float], rounds: int = 5) -> Spread:
    "Measures one thing `rounds` times; `run` measures once and returns the number."
    return alternate({"": run}, rounds)[""]


def each(action: Callable[[Any], object], items: list[Any], threads: int = 1) -> Callable[[], float]:
    """A function that calls `action` on every item and returns the seconds an item, for `alternate`.

    `threads`: how many share the items.
    """

    def part(some: list[Any]) -> None:
        for item in some:
            action(item)

    def run() -> float:
        start = time.perf_counter()
        if threads == 1:
            part(items)
        else:
            with ThreadPoolExecutor(threads) as pool:
                list(pool.map(part, [items[thread::threads] for thread in range(threads)]))
        return (time.perf_counter() - start) / len(items)

    return run

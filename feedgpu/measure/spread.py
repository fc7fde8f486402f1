"""Repeated measurements: in turn, so that a disturbance meets all of them; their median and their ends."""

import time
from collections.abc import Callable, Iterable
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


def each(action: Callable[[Any], object], items: list[Any]) -> Callable[[], float]:
    "A function that calls `action` on every item and returns the seconds an item, for `alternate`"

    def run() -> float:
        start = time.perf_counter()
        for item in items:
            action(item)
        return (time.perf_counter() - start) / len(items)

    return run

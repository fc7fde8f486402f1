"""What batches are made of: their padding, who meets whom in them, and the programs that a compiler makes."""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from statistics import median
from typing import Any

import torch


def padding_share(masks: Iterable[torch.Tensor]) -> float:
    "The share of padding, 0 to 1, in batches with these masks (bool, True where a value is a sample's)."
    filled = places = 0
    for mask in masks:
        filled += int(mask.sum())
        places += mask.numel()
    return 1 - filled / places


def meet_again(batches: Iterable[Sequence[int]], later: Iterable[Sequence[int]]) -> float:
    "Of the pairs of samples that share a batch, the share, 0 to 1, that shares one of the later batches too."
    first, second = (
        {pair for batch in some for pair in combinations(sorted(map(int, batch)), 2)}
        for some in (batches, later)
    )
    return len(first & second) / len(first)


@dataclass
class Programs:
    "What torch.compile did with a row of batches; times in milliseconds, medians"

    after_each: list[int]  # programs made so far, after each batch
    compiled: int = 0  # batches that ran through a program
    making: list[float] = field(default_factory=list)  # ms of each batch for which a program was made
    without: list[float] = field(default_factory=list)  # ms of each of the others

    def __str__(self) -> str:
        count = len(self.after_each)
        return f"programs {self.after_each[-1]}, batches compiled {self.compiled} of {count}"

    def times(self) -> str:
        making, without = median(self.making), median(self.without)
        return f"a batch with a new program: ≈ {making:.0f} ms, without: ≈ {without:.2f} ms"


def programs(
    step: Callable[..., Any], batches: Iterable[Sequence[torch.Tensor]], mark: int | None = None, **how: Any
) -> Programs:
    """Compiles `step` with a backend that generates no code, calls it with each batch, counts the programs.

    `mark`: the dimension that is declared dynamic. `how`: further arguments of torch.compile. Raises
    AssertionError if a compiled result differs.
    """
    torch.compiler.reset()
    found = Programs([])
    made = 0

    def backend(graph: Any, inputs: Any) -> Callable[..., Any]:
        nonlocal made
        made += 1

        def program(*inputs: Any) -> Any:
            found.compiled += 1
            return graph.forward(*inputs)

        return program

    compiled = torch.compile(step, backend=backend, **how)
    for batch in batches:
        batch = [part.clone() for part in batch]  # a mark stays with its tensor
        if mark is not None:
            for part in batch:
                torch._dynamo.mark_dynamic(part, mark)
        before, start = made, time.perf_counter()
        result = compiled(*batch)
        milliseconds = 1e3 * (time.perf_counter() - start)
        assert torch.equal(result, step(*batch))
        (found.making if made > before else found.without).append(milliseconds)
        found.after_each.append(made)
    return found

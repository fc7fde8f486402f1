"""The exercise of chapter 04: what is asked of an answer."""

import torch

from ..verdicts import exercise, short


@exercise
def feed(answer):
    "every sample once an epoch, in an order that depends on the epoch and on nothing else"
    dataset = list(range(100, 127))
    epochs = seen(answer(dataset, 0))
    if isinstance(epochs, str):
        return epochs
    for number, epoch in enumerate(epochs, 1):
        samples = sum(epoch, [])
        twice, missed = len(samples) - len(set(samples)), len(set(dataset) - set(samples))
        if twice:
            return (
                f"expected 27 samples once, but epoch {number} repeats {twice} and misses {missed}: "
                "iter(loader) begins a new pass, so next(iter(loader)) is always a first batch"
            )
        if missed:
            return f"expected 27 samples, epoch {number} has {len(samples)}: where is the last, small batch?"
        if [len(batch) for batch in epoch] != [8, 8, 8, 3]:
            return f"expected batches of 8, 8, 8 and 3 samples, you gave {[len(batch) for batch in epoch]}"
    orders = [sum(epoch, []) for epoch in epochs]
    if dataset in orders:
        return f"expected a random order, epoch {orders.index(dataset) + 1} has that of the dataset"
    if orders[0] == orders[1] or orders[1] == orders[2] or orders[0] == orders[2]:
        return "expected a new order each epoch, two are equal: does set_epoch tell the sampler its epoch?"
    if seen(answer(dataset, 0)) != epochs:
        return "expected the same order at every call, a second call gave another: the order has no seed"
    others = seen(answer(dataset, 2))
    if isinstance(others, str):
        return f"right with no workers, but with 2: {others}"
    if others != epochs:
        wrong = 1 + [a == b for a, b in zip(epochs, others, strict=True)].index(False)
        return (
            f"expected the same order for 0 and 2 workers, epoch {wrong} differs: the generator also gives "
            "the workers' seed, but to persistent ones only once. Make the order from (seed, epoch)"
        )


def seen(epochs) -> list | str:
    "Three epochs as lists of lists of numbers, or what else they are."
    if not isinstance(epochs, (list, tuple)) or len(epochs) != 3:
        return f"expected a list of three epochs, you gave {short(epochs)}"
    try:
        return [[torch.as_tensor(batch).tolist() for batch in epoch] for epoch in epochs]
    except (TypeError, ValueError, RuntimeError):
        return f"expected each epoch as a list of the loader's batches, you gave {short(epochs[0])}"

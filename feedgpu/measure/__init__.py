"""What a loop waits for: stalls, parts, time lines, predictions; and stand-ins to measure them on.

print(data_stall(training_generator, step))
print(stalls(training_generator, step))
"""

from typing import TYPE_CHECKING

from ..rooms import lazily, require

if TYPE_CHECKING:
    from .diagnosis import Stalls, because, sample_parts, stalls
    from .epoch import data_stall, median_epoch, run_epoch, training_step
    from .spread import Spread, alternate, each, repeat
    from .this_machine import machine, memory
    from .words import number, percent

require(__name__, "psutil", "psutil", "measure")
__all__ = [
    "Spread",
    "Stalls",
    "alternate",
    "because",
    "data_stall",
    "each",
    "machine",
    "median_epoch",
    "memory",
    "number",
    "percent",
    "repeat",
    "run_epoch",
    "sample_parts",
    "stalls",
    "training_step",
]
__getattr__, __dir__ = lazily(
    __name__,
    {
        "diagnosis": ["Stalls", "because", "sample_parts", "stalls"],
        "epoch": ["data_stall", "median_epoch", "run_epoch", "training_step"],
        "spread": ["Spread", "alternate", "each", "repeat"],
        "this_machine": ["machine", "memory"],
        "words": ["number", "percent"],
    },
)

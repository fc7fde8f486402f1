"""The pictures of the course: one message each, said in the title; the same colour for the same thing.

Each function draws and shows one figure, and returns nothing.
"""

from .charts import bars, dots, guesses_and_measured, lines, ticks, waterfall
from .runs import gantt, strip, strips, timeline
from .samples import grid_of_samples, mosaic, padded_batches, photos, repeats, visited

__all__ = [
    "bars",
    "dots",
    "gantt",
    "grid_of_samples",
    "guesses_and_measured",
    "lines",
    "mosaic",
    "padded_batches",
    "photos",
    "repeats",
    "strip",
    "strips",
    "ticks",
    "timeline",
    "visited",
    "waterfall",
]

"""From a source of any kind to a dataset in the article's layout; and what packs it and checks it.

partition, labels = write(folder("my_images", size=(64, 64)), "data")
"""

from typing import TYPE_CHECKING

from ..rooms import lazily

if TYPE_CHECKING:
    from .any_source import pack_from
    from .checking import check
    from .folders import folder
    from .layout import Source, Unreadable, write
    from .packing import pack
    from .sources import digits, photographs, pixels, sounds, split, synthetic
    from .streaming import pack_samples
    from .tables import table

__all__ = [
    "Source",
    "Unreadable",
    "check",
    "digits",
    "folder",
    "pack",
    "pack_from",
    "pack_samples",
    "photographs",
    "pixels",
    "sounds",
    "split",
    "synthetic",
    "table",
    "write",
]
__getattr__, __dir__ = lazily(
    __name__,
    {
        "any_source": ["pack_from"],
        "checking": ["check"],
        "folders": ["folder"],
        "layout": ["Source", "Unreadable", "write"],
        "packing": ["pack"],
        "sources": ["digits", "photographs", "pixels", "sounds", "split", "synthetic"],
        "streaming": ["pack_samples"],
        "tables": ["table"],
    },
)

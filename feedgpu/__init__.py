"""Feeds PyTorch models with data in parallel: datasets, loaders, orders, and what measures them.

    from feedgpu import PackedDataset, PrefetchLoader, load_notation

    partition, labels = load_notation("data")
    training_set = PackedDataset(partition["train"], labels)
    training_generator = PrefetchLoader(training_set, batch_size=64, shuffle=True)

Needs torch and numpy. What needs more is imported by its own name: feedgpu.images (Pillow), feedgpu.prepare,
feedgpu.measure, feedgpu.course. The names below are imported when they are first asked for, so that
`feedgpu --help` need not wait for torch.
"""

from typing import TYPE_CHECKING

from .rooms import lazily

if TYPE_CHECKING:
    from .augmented import Augmented
    from .meter import Meter
    from .notation import DatasetError, load_notation
    from .order import EpochSampler, Visit, draws
    from .packed import PackedDataset
    from .prefetch import PrefetchLoader
    from .sample import read_sample
    from .several_packs import ConcatPacked
    from .system import available_cpus, save_whole
    from .unequal import SimilarLengths, padded

__version__ = "0.2.0"
__all__ = [
    "Augmented",
    "ConcatPacked",
    "DatasetError",
    "EpochSampler",
    "Meter",
    "PackedDataset",
    "PrefetchLoader",
    "SimilarLengths",
    "Visit",
    "available_cpus",
    "draws",
    "load_notation",
    "padded",
    "read_sample",
    "save_whole",
]

__getattr__, __dir__ = lazily(
    __name__,
    {
        "augmented": ["Augmented"],
        "meter": ["Meter"],
        "notation": ["DatasetError", "load_notation"],
        "order": ["EpochSampler", "Visit", "draws"],
        "packed": ["PackedDataset"],
        "prefetch": ["PrefetchLoader"],
        "sample": ["read_sample"],
        "several_packs": ["ConcatPacked"],
        "system": ["available_cpus", "save_whole"],
        "unequal": ["SimilarLengths", "padded"],
    },
)

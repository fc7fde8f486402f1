"""What the chapters bring along: a folder to work in, a logbook of guesses, verdicts, pictures, widgets."""

from typing import TYPE_CHECKING

from ..rooms import lazily, require

if TYPE_CHECKING:
    from .gpu_results import gpu_results
    from .logbook import calibration, log_share, predict, running_table, running_waterfall, scores
    from .opening import open_chapter
    from .verdicts import verdict

require(__name__, "matplotlib", "matplotlib", "course")
__all__ = [
    "calibration",
    "gpu_results",
    "log_share",
    "open_chapter",
    "predict",
    "running_table",
    "running_waterfall",
    "scores",
    "verdict",
]
__getattr__, __dir__ = lazily(
    __name__,
    {
        "gpu_results": ["gpu_results"],
        "logbook": [
            "calibration",
            "log_share",
            "predict",
            "running_table",
            "running_waterfall",
            "scores",
        ],
        "opening": ["open_chapter"],
        "verdicts": ["verdict"],
    },
)

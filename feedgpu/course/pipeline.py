"""The widget of chapter 08: a DataLoader simulated, and measured beside it."""

from dataclasses import replace
from functools import cache, partial

import ipywidgets
from torch.utils.data import DataLoader

from ..measure.parts import Parts, measure_parts
from ..measure.simulation import simulate
from ..measure.stand_in import Device
from ..measure.timeline import Timeline, record
from ..measure.words import number, percent
from ..measure.workloads import Costly
from .pictures import gantt
from .widgets import View, panel, viewed

COSTS = {"computes": "computing", "waits": "waiting"}  # what a sample does: the argument of Costly
SHAPE = (3, 64, 64)  # of a sample that `pipeline` makes
BATCHES = 24  # of the epoch that it simulates and measures


def simulated(
    workers: int = 2,
    batch_size: int = 32,
    prefetch: int = 2,
    sample: float = 2.0,
    step: float = 12.0,
    does: str = "computes",
    parts: Parts | None = None,
) -> View:
    """Simulates a DataLoader whose samples take `sample` ms each and whose steps take `step` ms: a time line,
    the rate and the data stall, by `feedgpu.measure.simulation.simulate`.

    `does`: a sample "computes", and shares the CPUs with other work, or "waits", as for a remote disk.
    `parts`: the times of collating, handing over and starting, and the CPUs that other programs use, as
    `measure_parts` of feedgpu.measure.parts measures them; without `parts` they are measured here. Raises
    ValueError for impossible settings.
    """
    parts = parts or parts_here()
    lines = {"predicted": _simulated(workers, batch_size, prefetch, sample, step, does, parts)}
    stall = _stall(lines["predicted"], step)
    who = f"{workers} worker{'s' * (workers > 1)}" if workers else "no worker"
    title = f"With {who} ≈ {percent(stall)} of the time would vanish if batches were free"
    said = (
        f"{who}, batches of {batch_size}, prefetch {prefetch}; a sample {does} for {number(sample, 2)} ms, "
    )
    said += f"a step takes {number(step, 2)} ms; other programs use ≈ {parts.others:.1f} CPUs"
    return viewed("\n".join([said, *_told(lines, step)]), gantt, lines, title)


def measured_beside(
    workers: int = 2,
    batch_size: int = 32,
    prefetch: int = 2,
    sample: float = 2.0,
    step: float = 12.0,
    does: str = "computes",
    parts: Parts | None = None,
) -> View:
    """Draws the prediction of `simulated` and, below it, a real run with the same settings: a DataLoader of
    `Costly` samples, with the stand-in `Device` as the model.

    Raises ValueError for impossible settings, and for a run that would take more than 10 s.
    """
    predicted = _simulated(workers, batch_size, prefetch, sample, step, does, parts)
    if predicted.seconds > 10:
        raise ValueError(
            f"{BATCHES} batches with these settings would take {predicted.seconds:.0f} s, more than the 10 s "
            "allowed: choose a shorter sample, smaller batches or more workers"
        )
    dataset = Costly(BATCHES * batch_size, **{COSTS[does]: sample / 1000}, shape=SHAPE)
    ahead = prefetch if workers else None
    loader = DataLoader(dataset, batch_size, num_workers=workers, prefetch_factor=ahead)
    measured = record(loader, Device(step / 1000))
    lines = {"predicted": predicted, "measured": measured}
    off = abs(predicted.rate / measured.rate - 1)
    title = f"Predicted and measured rates differ by ≈ {percent(off)}"
    return viewed("\n".join(_told(lines, step)), gantt, lines, title)


def pipeline(parts: Parts | None = None) -> ipywidgets.VBox:
    """A widget over `simulated`: sliders for workers, batch size, prefetch, sample and step, and a button
    that runs the same settings and draws the run below the prediction. `parts`: as for `simulated`."""
    parts = parts or parts_here()
    controls = {
        "workers": ipywidgets.IntSlider(2, 0, 8, description="workers"),
        "batch_size": ipywidgets.SelectionSlider(
            options=(8, 16, 32, 64, 128), value=32, description="batch size"
        ),
        "prefetch": ipywidgets.IntSlider(2, 1, 8, description="prefetch"),
        "sample": ipywidgets.FloatLogSlider(2.0, min=-1, max=1.5, step=0.1, description="sample (ms)"),
        "step": ipywidgets.FloatSlider(12.0, min=0.0, max=50.0, step=1.0, description="step (ms)"),
        "does": ipywidgets.ToggleButtons(options=list(COSTS), description="a sample"),
    }
    for control in controls.values():
        if hasattr(control, "continuous_update"):
            control.continuous_update = False
    return panel(
        partial(simulated, parts=parts), controls, {"measure it": partial(measured_beside, parts=parts)}
    )


@cache
def parts_here() -> Parts:
    "The parts of a loader on this machine whose samples take no time to make"
    return measure_parts(DataLoader(Costly(256, shape=SHAPE), batch_size=32))


def _simulated(workers, batch_size, prefetch, sample, step, does, parts) -> Timeline:
    if does not in COSTS:
        raise ValueError(f"a sample {' or '.join(COSTS)}, but does={does!r} was given")
    if not 0 <= sample <= 1000 or not 0 <= step <= 10_000:
        raise ValueError("sample must be 0 to 1,000 ms, and step 0 to 10,000 ms")
    parts = (parts or parts_here()).with_batch_size(batch_size)
    parts = replace(parts, samples=[sample / 1000], cpu_share=float(does == "computes"), in_main=None)
    return simulate(parts, workers, BATCHES, step / 1000, prefetch=prefetch)


def _stall(timeline: Timeline, step: float) -> float:
    "The data stall: with batches from memory, only the steps would take time"
    return max(0.0, 1 - BATCHES * step / 1000 / max(timeline.seconds, 1e-9))


def _told(lines: dict[str, Timeline], step: float) -> list[str]:
    return [
        f"{name:9}  {number(line.rate)} samples/s, data stall ≈ {percent(_stall(line, step))}, "
        f"{line.seconds:.2f} s for {BATCHES} batches"
        for name, line in lines.items()
    ]

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
    """What a DataLoader would do with samples that each take `sample` ms and steps of `step` ms: a time line,
    throughput and data stall, by `feedgpu.measure.simulation.simulate`.

    `does`: a sample "computes", and shares the CPUs with others, or "waits", as for a distant disk. `parts`:
    collating, handing over and starting up as `measure_parts` of feedgpu.measure.parts
    finds them; without it, as they are here. Raises ValueError for settings that cannot be.
    """
    lines = {"predicted": _simulated(workers, batch_size, prefetch, sample, step, does, parts)}
    stall = _stall(lines["predicted"], step)
    who = f"{workers} worker{'s' * (workers > 1)}" if workers else "no worker"
    title = f"With {who} ≈ {percent(stall)} of the time would vanish if batches were free"
    said = (
        f"{who}, batches of {batch_size}, prefetch {prefetch}; a sample {does} for {number(sample, 2)} ms, "
    )
    said += f"a step takes {number(step, 2)} ms"
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
    """`simulated`, and below it the same settings really run: a DataLoader over samples that are `Costly`,
    behind the stand-in `Device`, with what they took.

    Raises ValueError for settings that cannot be, or that would run for more than 10 s.
    """
    predicted = _simulated(workers, batch_size, prefetch, sample, step, does, parts)
    if predicted.seconds > 10:
        raise ValueError(
            f"{BATCHES} batches of this would run for {predicted.seconds:.0f} s, and nobody waits for more "
            "than 10 s: choose a shorter sample, smaller batches or more workers"
        )
    dataset = Costly(BATCHES * batch_size, **{COSTS[does]: sample / 1000}, shape=SHAPE)
    ahead = prefetch if workers else None
    loader = DataLoader(dataset, batch_size, num_workers=workers, prefetch_factor=ahead)
    measured = record(loader, Device(step / 1000))
    lines = {"predicted": predicted, "measured": measured}
    off = abs(predicted.rate / measured.rate - 1)
    title = f"Predicted and measured throughput differ by ≈ {percent(off)}"
    return viewed("\n".join(_told(lines, step)), gantt, lines, title)


def pipeline(parts: Parts | None = None) -> ipywidgets.VBox:
    """A widget over `simulated`: sliders for workers, batch size, prefetch, sample and step, and a button
    that runs the same setting and draws it below the prediction. `parts`: as for `simulated`."""
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
    "What handing over and starting up take on this machine, for samples that cost nothing to make"
    return measure_parts(DataLoader(Costly(256, shape=SHAPE), batch_size=32))


def _simulated(workers, batch_size, prefetch, sample, step, does, parts) -> Timeline:
    if does not in COSTS:
        raise ValueError(f"a sample {' or '.join(COSTS)}, and nothing else")
    if not 0 <= sample <= 1000 or not 0 <= step <= 10_000:
        raise ValueError("a sample takes from 0 to 1,000 ms, a step from 0 to 10,000 ms")
    parts = (parts or parts_here()).with_batch_size(batch_size)
    parts = replace(parts, samples=[sample / 1000], cpu_share=float(does == "computes"), in_main=None)
    return simulate(parts, workers, BATCHES, step / 1000, prefetch=prefetch)


def _stall(timeline: Timeline, step: float) -> float:
    "Data stall: batches from memory would leave the steps alone"
    return max(0.0, 1 - BATCHES * step / 1000 / max(timeline.seconds, 1e-9))


def _told(lines: dict[str, Timeline], step: float) -> list[str]:
    return [
        f"{name:9}  {number(line.rate)} samples/s, data stall ≈ {percent(_stall(line, step))}, "
        f"{line.seconds:.2f} s for {BATCHES} batches"
        for name, line in lines.items()
    ]

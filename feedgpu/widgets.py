"""Widgets: sliders and buttons over the course's instruments, for JupyterLab.

    explored("id-1")        # text and a picture: kept in the notebook, for whoever does not run it
    explore("data")         # the same, for any sample of the dataset, chosen by button, slider or ID

Each widget is two things: a function that returns the View of given settings, and `panel`, which puts
controls above it. In a chapter the function is called in a cell of its own, which is compared, and the
widget in the next one, tagged nbval-ignore-output.

To add a widget, write a function that returns a View in well under 0.2 s, and give `panel` its controls by
the names of its arguments. Each has a `description`, with its unit ("step (ms)"), and its value can be read
in the View's text, so that every move is seen to do something; a slider has continuous_update=False if a View
takes more than 0.1 s. For settings that it cannot show the function raises an error in words: the reader sees
that sentence, no traceback. No Dropdown and no RadioButtons: JupyterLab takes the arrow keys away from them,
to move between cells. ToggleButtons are reached by the tab key and pressed by Enter.
"""

import base64
import io
import json
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from html import escape
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import ipywidgets
import matplotlib.pyplot as plt
import numpy as np
import torch
from IPython.display import display
from torch.utils.data import DataLoader

from feedgpu.pictures import OTHERS, STYLE, gantt, number, percent
from feedgpu.predict import Parts, calibrate, simulate
from feedgpu.stand_in import Device
from feedgpu.timeline import Timeline, record
from feedgpu.workloads import Costly
from my_classes import Dataset, DatasetError, describe, file_of, is_class, load_notation, reason

LABELS, CONTROL = "8em", "34em"  # the widths of a control's description, and of all of it
PIXELS = 512  # of an image, each way: more are not seen, and cost time
COSTS = {"computes": "computing", "waits": "waiting"}  # what a sample does: the argument of Costly
SHAPE = (3, 64, 64)  # of a sample that `pipeline` makes
BATCHES = 24  # of the epoch that it simulates and measures


class View(NamedTuple):
    "What a widget shows: text, a picture (the bytes of a PNG) or none, and that picture's message in words"

    text: str
    picture: bytes | None = None
    message: str = ""

    def _ipython_display_(self):
        print(self.text)
        if self.picture:
            png = base64.b64encode(self.picture).decode()
            display({"image/png": png, "text/plain": self.message}, raw=True)


def viewed(text: str, draw: Callable | None = None, *args) -> View:
    """The View with `text` and the figure that `draw(*args)` shows: a function as those of feedgpu.pictures,
    which ends in plt.show(). The message is the figure's title."""
    if draw is None:
        return View(text)
    png, others = io.BytesIO(), plt.get_fignums()
    try:
        with mock.patch.object(plt, "show"):
            draw(*args)
        figure = plt.gcf()
        figure.savefig(png, format="png")
        message = figure.get_suptitle() or figure.axes[0].get_title(loc="left")
    finally:
        for number in set(plt.get_fignums()) - set(others):
            plt.close(number)
    return View(text, png.getvalue(), message)


def panel(
    show: Callable[..., View],
    controls: dict[str, ipywidgets.Widget],
    buttons: dict[str, Callable[..., View]] | None = None,
) -> ipywidgets.VBox:
    """The controls above what `show(**settings)` returns, drawn anew whenever a setting changes.

    `controls`: {name of the setting: the widget that has its value}. `buttons`: {description: a function
    of the same settings, for what takes seconds}. Its View comes below, and goes when a setting changes,
    since it would be that of other settings.
    """
    screen, below = ipywidgets.HTML(), ipywidgets.HTML()
    row = [ipywidgets.Button(description=description) for description in buttons or {}]
    drawn = None

    def settings() -> dict:
        return {name: control.value for name, control in controls.items()}

    def redraw(_=None):
        nonlocal drawn
        if drawn != settings():  # a control may have moved another one, which has drawn already
            drawn = settings()
            below.value = ""
            screen.value = as_html(show, drawn)

    def press(button):
        for each in row:
            each.disabled = True
        try:
            below.value = "<p>Running …</p>"
            below.value = as_html(buttons[button.description], settings())
        finally:
            for each in row:
                each.disabled = False

    for control in controls.values():
        control.style.description_width, control.layout.width = LABELS, CONTROL
        control.tooltip = control.description  # or the slider's says "null"
        control.add_class("jupyter-widgets").add_class("widget-inline-hbox")  # ToggleButtons lack them
        control.observe(redraw, names="value")
    for button in row:
        button.on_click(press)
    redraw()
    return ipywidgets.VBox([*controls.values(), screen, *([ipywidgets.HBox(row), below] if row else [])])


def as_html(show: Callable[..., View], settings: dict) -> str:
    "`show(**settings)` as HTML, or, if that raises an error, its sentence"
    try:
        view = show(**settings)
    except Exception as error:
        told = str(error) if isinstance(error, (DatasetError, ValueError)) else reason(error)
        return f'<p role="alert" style="margin: 0.5em 0"><b>✗</b> {escape(told)}</p>'
    html = f'<pre style="margin: 0.5em 0; line-height: 1.4; white-space: pre-wrap">{escape(view.text)}</pre>'
    if view.picture:
        # With its size given, the page does not jump while a browser decodes the next picture.
        width, height = (int.from_bytes(view.picture[at : at + 4]) for at in (16, 20))
        png = base64.b64encode(view.picture).decode()
        html += f'<img alt="{escape(view.message)}" width="{width}" height="{height}"'
        html += f' style="max-width: 100%; height: auto" src="data:image/png;base64,{png}">'
    return html


def explored(ID: str, root="data", notation: tuple[dict, dict] | None = None) -> View:
    """What there is to know about one sample of the dataset in the folder `root`, and its picture.

    `notation`: `(partition, labels)`; without it, what `load_notation(root)` returns. A tensor of shape H×W,
    1×H×W or 3×H×W is drawn as an image, from its lowest to its highest value, another one as a line.

    Raises DatasetError, one sentence, for an ID that is in no partition or leads out of the folder, and for
    a sample whose file cannot be read or which has no label.
    """
    partition, labels = notation or load_notation(root)
    places = [
        f"{name}, at index {IDs.index(ID):,} of {len(IDs):,}" for name, IDs in partition.items() if ID in IDs
    ]
    if not places:
        raise DatasetError(f"{ID!r} is in no partition")
    file = file_of(ID, root)
    X, y = Dataset([ID], labels, root)[0]
    name = class_name(y, root)
    shown = file.relative_to(Path(root).parent) if file.is_absolute() else file
    facts = {
        "ID": ID,
        "partition": "; ".join(places),
        "label": f"{y}, {name}" if name else y,
        "file": f"{shown.as_posix()}, {file.stat().st_size:,} bytes",
        "tensor": describe(X),
    }
    drawing = ()
    if X.layout == torch.strided and X.numel() and not X.is_complex():
        values = X.detach().double().numpy()
        facts["values"] = f"{values.min():.4g} to {values.max():.4g}"
        drawing = (_sample, values, f"{ID if len(ID) <= 30 else '…' + ID[-29:]} is of class {name or y}")
    return viewed("\n".join(f"{what:10} {fact}" for what, fact in facts.items()), *drawing)


def explore(root="data", notation: tuple[dict, dict] | None = None) -> ipywidgets.VBox:
    """A widget that shows, as `explored` does, any sample of a dataset: by partition and index, or by its ID.

    Raises DatasetError for a dataset that `load_notation` refuses, or without any partition. A `notation`
    that is given is taken as it is: what is wrong with a sample is said where the sample would be shown.
    """
    partition, labels = notation or load_notation(root)
    if not partition:
        raise DatasetError(f"{root}: there is no partition to explore")
    sizes = [(f"{name}: {len(IDs):,}", name) for name, IDs in partition.items()]
    name = ipywidgets.ToggleButtons(options=sizes, description="partition", style={"button_width": "auto"})
    index = ipywidgets.IntSlider(min=0, description="index")
    ID = ipywidgets.Text(description="ID", continuous_update=False)

    def pick(_=None):
        "Partition and index say which ID"
        IDs = partition[name.value]
        index.disabled = len(IDs) < 2
        index.max = max(1, len(IDs) - 1)  # a slider must have some way to go
        index.value = min(index.value, max(0, len(IDs) - 1))
        ID.value = str(IDs[index.value]) if IDs else ""

    def find(_):
        "A typed ID says which partition and index"
        typed = ID.value
        homes = [home for home, IDs in partition.items() if typed in IDs]
        if homes and name.value not in homes:
            name.value = homes[0]
        if homes and partition[name.value][index.value] != typed:
            index.value = partition[name.value].index(typed)

    def show(name, index, ID):
        if not ID and not partition[name]:
            raise DatasetError(f"partition {name!r} is empty")
        return explored(ID, root, (partition, labels))

    pick()
    name.observe(pick, names="value")
    index.observe(pick, names="value")
    ID.observe(find, names="value")
    return panel(show, {"name": name, "index": index, "ID": ID})


def class_name(y, root="data") -> str | None:
    "What classes.json calls class `y`; None without that file, or if it has no name for `y`"
    file = Path(root) / "classes.json"
    if not file.exists():
        return None
    try:
        classes = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DatasetError(f"{file} cannot be read: {reason(error)}") from error
    return str(classes[y]) if isinstance(classes, list) and is_class(y) and y < len(classes) else None


def _sample(values: np.ndarray, title: str):
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(4.4, 2.8))
        if values.ndim == 2 or (values.ndim == 3 and len(values) in (1, 3)):
            *_, height, width = values.shape
            image = np.nan_to_num(values[..., :: -(-height // PIXELS), :: -(-width // PIXELS)])
            image = (image - image.min()) / max(np.ptp(image), 1e-9)
            axes.imshow(np.moveaxis(image, 0, -1) if image.ndim == 3 else image, cmap="gray", vmin=0, vmax=1)
            axes.set(xticks=[], yticks=[], xlabel=f"{width:,} pixels", ylabel=f"{height:,} pixels")
            axes.spines[:].set_visible(False)
            axes.set_anchor("W")
        else:
            line = values.flatten()[:: -(-values.size // PIXELS)]
            axes.plot(line, color=OTHERS[0], lw=1)
            axes.set(ylabel="value", xlabel=f"{len(line):,} of the {values.size:,} elements, in their order")
        axes.set_title(title, parse_math=False)  # an ID may have a $ in it
        plt.show()


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
    throughput and data stall, by `feedgpu.predict.simulate`.

    `does`: a sample "computes", and shares the CPUs with others, or "waits", as for a distant disk. `parts`:
    collating, handing over and starting up as `feedgpu.predict.calibrate` measured them; without it, as
    they are here. Raises ValueError for settings that cannot be.
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
    """`simulated`, and below it the same settings really run: DataLoader over `feedgpu.workloads.Costly`,
    behind the stand-in `feedgpu.stand_in.Device`, with what they took.

    Raises ValueError for settings that cannot be, or that would run for more than 10 s.
    """
    predicted = _simulated(workers, batch_size, prefetch, sample, step, does, parts)
    if predicted.seconds > 10:
        raise ValueError(
            f"{BATCHES} batches of this would run for {predicted.seconds:.0f} s, and nobody waits for more "
            "than 10 s: choose a shorter sample, smaller batches or more workers"
        )
    dataset = Costly(BATCHES * batch_size, **{COSTS[does]: sample / 1000}, shape=SHAPE)
    ahead = {"prefetch_factor": prefetch} if workers else {}
    measured = record(DataLoader(dataset, batch_size, num_workers=workers, **ahead), Device(step / 1000))
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
    return calibrate(DataLoader(Costly(256, shape=SHAPE), batch_size=32))


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

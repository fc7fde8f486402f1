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
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import ipywidgets
import matplotlib.pyplot as plt
import numpy as np
import torch
from IPython.display import display

from ..notation import DatasetError, file_of, load_notation, reading
from ..outside import read_json, reason
from ..sample import describe, fields, is_class, read_sample
from .pictures.style import OTHERS, STYLE

LABELS, CONTROL = "8em", "34em"  # the widths of a control's description, and of all of it
PIXELS = 512  # of an image, each way: more are not seen, and cost time


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
    """The View with `text` and the figure that `draw(*args)` shows: a function as those of
    feedgpu.course.pictures, which ends in plt.show(). The message is the figure's title."""
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
            below.value = as_html((buttons or {})[button.description], settings())
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


def explored(ID: str, root="data", notation: tuple[dict, dict | None] | None = None) -> View:
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
    with reading(ID, file):
        X = read_sample(file)
    if labels is not None and ID not in labels:
        raise DatasetError(f"sample {ID!r}, read from {file}, has no label: add it to labels")
    y = labels[ID] if labels is not None else "none"
    name = class_name(y, root)
    shown = file.relative_to(Path(root).parent) if file.is_absolute() else file
    facts = {
        "ID": ID,
        "partition": "; ".join(places),
        "label": f"{y}, {name}" if name else y,
        "file": f"{shown.as_posix()}, {file.stat().st_size:,} bytes",
        "tensor": describe(X),
    }
    drawing: tuple = ()
    X = next(iter(fields(X).values()))  # of several fields the first one is drawn
    if X.layout == torch.strided and X.numel() and not X.is_complex():
        values = X.detach().double().numpy()
        facts["values"] = f"{values.min():.4g} to {values.max():.4g}"
        drawing = (_sample, values, f"{ID if len(ID) <= 30 else '…' + ID[-29:]} is of class {name or y}")
    return viewed("\n".join(f"{what:10} {fact}" for what, fact in facts.items()), *drawing)


def explore(root="data", notation: tuple[dict, dict | None] | None = None) -> ipywidgets.VBox:
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
        classes = read_json(file)
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

"""The pictures of the course: one message each, said in the title; the same colour for the same thing.

Each function draws and shows one figure, and returns nothing.
"""

import math

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import ListedColormap
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

# Okabe and Ito's palette (2008), which colour-blind readers can tell apart.
COLOURS = {
    "waiting": "#E69F00",
    "computing": "#0072B2",
    "reading": "#56B4E9",
    "decoding": "#CC79A7",
    "copying": "#009E73",
}
OTHERS = ["#333333", "#D55E00", "#999999", *COLOURS.values()]  # for what has no colour of its own
STYLE = {
    "figure.dpi": 100,
    "figure.constrained_layout.use": True,
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
}
SHARES = {
    0.1: "A tenth of the time",
    0.2: "A fifth of the time",
    0.25: "A quarter of the time",
    1 / 3: "A third of the time",
    0.4: "Two fifths of the time",
    0.5: "Half of the time",
    0.6: "Three fifths of the time",
    2 / 3: "Two thirds of the time",
    0.75: "Three quarters of the time",
    0.9: "Nine tenths of the time",
    1: "Almost all of the time",
}


def strip(waiting: list[float], computing: list[float], title: str | None = None):
    """Draws what became of a loop's time: the seconds of waiting and of computing, in turn, which a
    `my_classes.Meter` lists. By default the title says which share of it was waiting."""
    share = sum(waiting) / max(sum(waiting) + sum(computing), 1e-9)
    _strips({"": (waiting, computing)}, title or f"{in_words(share)} ({percent(share)})")


def strips(meters: dict, title: str | None = None):
    "Draws several loops under one another, on one axis of time. `meters`: {label: my_classes.Meter}."
    shares = {label: meter.waiting_share for label, meter in meters.items()}
    least, most = min(shares, key=shares.get), max(shares, key=shares.get)
    said = f"Waiting takes {percent(shares[most])} of the time with {most}"
    said += f", {percent(shares[least])} with {least}"
    _strips({label: (meter.waiting, meter.computing) for label, meter in meters.items()}, title or said)


def _strips(loops: dict, title: str):
    end = max(sum(waiting) + sum(computing) for waiting, computing in loops.values())
    steps = max(len(computing) for _, computing in loops.values())
    # More steps than can be told apart are gathered: the height of a column is the share of waiting in it.
    columns = 100 if steps > 120 else None
    with plt.rc_context(STYLE):
        figure, rows = plt.subplots(
            len(loops), figsize=(7, 0.9 + 0.42 * len(loops)), sharex=True, squeeze=False
        )
        for axes, (label, (waiting, computing)) in zip(rows[:, 0], loops.items(), strict=True):
            edges, height = waiting_over_time(waiting, computing, columns)
            for what, top in (("computing", np.ones_like(height)), ("waiting", height)):
                axes.stairs(top, edges, fill=True, color=COLOURS[what], lw=0, antialiased=False, label=what)
            axes.set(xlim=(0, end), ylim=(0, 1), yticks=[])
            axes.set_ylabel(label, rotation=0, ha="right", va="center")
            axes.spines["left"].set_visible(False)
        rows[0, 0].set_title(title)
        unit = f"seconds ({steps:,} steps, gathered in columns)" if columns else "seconds"
        axes.set_xlabel(unit, loc="left")
        legend = figure.legend(
            *axes.get_legend_handles_labels(), loc="lower right", ncols=2, borderaxespad=0.2, handlelength=1
        )
        legend.set_in_layout(False)
        plt.show()


def waiting_over_time(waiting, computing, columns: int | None = None):
    """`(edges, height)`: the times at which columns begin and end, and the share of waiting in each.

    Without `columns` there is one for each span, and the share is 1 or 0.
    """
    spans = np.zeros(len(waiting) + len(computing))
    spans[0::2], spans[1::2] = waiting, computing
    edges = np.append(0, spans.cumsum())
    if columns is None:
        return edges, np.arange(len(spans)) % 2 == 0
    spans[1::2] = 0
    waited = np.append(0, spans.cumsum())
    grid = np.linspace(0, edges[-1], columns + 1)
    return grid, np.diff(np.interp(grid, edges, waited)) / np.diff(grid)


def bars(values: dict, unit: str, title: str, log: bool = False):
    "Draws a bar for each of {label: value}, with the value, in `unit`, written at its end."
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(7, 0.9 + 0.28 * len(values)))
        colours = [COLOURS.get(label, OTHERS[0]) for label in values]
        drawn = axes.barh(list(values), list(values.values()), height=0.7, color=colours)
        axes.bar_label(drawn, [number(value) for value in values.values()], padding=3)
        axes.set(xscale="log" if log else "linear", xlabel=unit, title=title)
        axes.margins(x=0.12)
        axes.invert_yaxis()
        axes.tick_params(left=False)
        plt.show()


def lines(x, ys: dict, xlabel: str, ylabel: str, title: str):
    "Draws a line for each of {label: values at x}."
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(7, 2.8))
        for i, (label, y) in enumerate(ys.items()):
            colour = COLOURS.get(label, OTHERS[i % len(OTHERS)])
            axes.plot(x, y, "-" + "osD^v"[i % 5], color=colour, markersize=4, label=label)
        axes.set(xlabel=xlabel, ylabel=ylabel, title=title)
        axes.grid(axis="y", color="0.9")
        if len(ys) > 1:
            axes.legend()
        plt.show()


def grid_of_samples(tensors, titles=None):
    "Draws small images, H×W or C×H×W with 1 or 3 channels, each from its own darkest to its own brightest."
    columns = min(10, max(5, len(tensors)))
    rows = -(-len(tensors) // columns)
    with plt.rc_context(STYLE | {"axes.titlelocation": "center", "axes.titlesize": 8}):
        figure, places = plt.subplots(
            rows, columns, figsize=(7, rows * (7 / columns + 0.2 * bool(titles))), squeeze=False
        )
        for axes in places.flat:
            axes.axis("off")
        for i, (axes, tensor) in enumerate(zip(places.flat, tensors, strict=False)):
            image = np.asarray(tensor, dtype=float)
            image = image.transpose(1, 2, 0) if image.ndim == 3 else image
            image = (image - image.min()) / max(np.ptp(image), 1e-9)
            axes.imshow(image, cmap="gray")
            if titles is not None:
                axes.set_title(titles[i])
        plt.show()


def visited(batches, size: int, title: str | None = None):
    """Draws which of `size` samples each batch took; below it, which were taken once, more often and never.

    `batches`: for each batch the indices of its samples: a list, a range, a tensor. By default the title
    counts what was missed and what was repeated.
    """
    taken = np.zeros((len(batches), size), dtype=int)
    for row, indices in zip(taken, batches, strict=True):
        np.add.at(row, np.asarray(indices, dtype=int), 1)
    times = taken.sum(0)
    never, repeated = (times == 0).sum(), (times > 1).sum()
    said = f"Of {size:,} samples {never:,} were never visited and {repeated:,} more than once"

    # At most 600 columns, and whatever is rare must be seen: a column shows the worst of its samples.
    starts = np.unique(np.arange(min(size, 600)) * size // min(size, 600))
    marks = np.maximum.reduceat(taken > 0, starts, axis=1)
    states = np.select([times == 0, times > 1], [2, 1], 0)
    worst = np.maximum.reduceat(states, starts)
    names = {"once": "black", "more than once": "#F0E442", "never": "#D55E00"}
    with plt.rc_context(STYLE):
        height = min(2.5, 0.3 + 0.14 * len(batches))
        figure, (above, below) = plt.subplots(
            2, figsize=(7, height + 1.1), sharex=True, height_ratios=[height, 0.22]
        )
        frame = {"aspect": "auto", "interpolation": "nearest"}
        above.imshow(
            marks,
            extent=(0, size, len(batches) - 0.5, -0.5),
            cmap=ListedColormap(["white", "black"]),
            **frame,
        )
        above.set(ylabel="batch", title=title or said)
        above.yaxis.set_major_locator(MaxNLocator(integer=True))
        below.imshow(
            worst[None],
            extent=(0, size, 0, 1),
            cmap=ListedColormap(list(names.values())),
            vmin=0,
            vmax=2,
            **frame,
        )
        below.set(yticks=[])
        below.set_ylabel("in all", rotation=0, ha="right", va="center")
        below.set_xlabel("sample", loc="left")
        patches = [Patch(color=colour, label=name) for name, colour in names.items()]
        figure.legend(
            handles=patches, loc="lower right", ncols=3, borderaxespad=0.2, handlelength=1
        ).set_in_layout(False)
        plt.show()


def calibration(guesses: list[float], values: list[float], title: str):
    "Draws guesses against what was measured: positive numbers of whatever units, on logarithmic axes."
    ends = np.array([min(*guesses, *values) / 3, max(*guesses, *values) * 3])
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(4.6, 4.2))
        axes.fill_between(ends, ends / 3, ends * 3, color="0.92", label="within a factor of 3", lw=0)
        axes.plot(ends, ends, color="0.6", lw=1)
        axes.plot(guesses, values, "o", color=OTHERS[0], alpha=0.7, label="a prediction")
        axes.set(xscale="log", yscale="log", xlim=ends, ylim=ends, title=title)
        axes.set(xlabel="your guess, in its own unit", ylabel="measured, in the same unit")
        axes.legend(loc="upper left")
        plt.show()


def in_words(share: float) -> str:
    "The nearest simple fraction: 'Half of the time the model waits for data'."
    if share < 0.06:
        return "The model hardly ever waits for data"
    return f"{SHARES[min(SHARES, key=lambda simple: abs(simple - share))]} the model waits for data"


def percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def number(x: float, digits: int = 3) -> str:
    "An integer in full, a float with so many digits; no exponent below 10^15, which a reader need not know."
    if isinstance(x, int):
        return f"{x:,}"
    if x == 0 or not abs(x) < 1e15:
        return f"{x:.{digits}g}"
    return f"{x:,.{max(0, digits - 1 - math.floor(math.log10(abs(x))))}f}"

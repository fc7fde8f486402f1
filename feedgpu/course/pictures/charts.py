"""Pictures of numbers: bars, dots, lines, tables of ticks."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import blended_transform_factory

from ...measure.words import number, percent
from .style import COLOURS, OTHERS, STYLE, show_in_few_colours


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


def waterfall(stalls: dict, step: float):
    """Draws how the data stall of one workload shrinks: {label: share of the time, 0 to 1}, in the order in
    which its causes were taken away, behind a device whose step takes `step` seconds.

    A bar is the time of one batch in milliseconds, for shares of unlike wholes cannot be subtracted: the
    step, what is left of the waiting and, outlined, what went.
    """
    shares = list(stalls.values())
    ends = [1e3 * step / max(1 - share, 0.001) for share in shares]
    said = f"The device computes for {1e3 * step:.0f} of a batch's {ends[-1]:.0f} ms"
    if len(shares) > 1:
        said = f"The data stall of a batch: {percent(shares[0])} at first, {percent(shares[-1])} now"
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(7, 1.1 + 0.3 * len(shares)))
        for row, (share, end, before) in enumerate(zip(shares, ends, [0, *ends[:-1]], strict=True)):
            axes.barh(row, 1e3 * step, 0.7, color=COLOURS["computing"])
            axes.barh(row, end - 1e3 * step, 0.7, 1e3 * step, color=COLOURS["waiting"])
            if before > end:
                axes.barh(row, before - end, 0.7, end, fill=False, edgecolor="0.6", linestyle=":")
            said_here = f" {number(end - 1e3 * step, 2)} ms, {percent(share)}"
            axes.text(max(before, end), row, said_here, va="center")
        axes.set_yticks(range(len(shares)), stalls)
        axes.set(xlim=(0, 1.25 * max(ends)), title=said)
        axes.set_xlabel("ms for one batch", loc="left")
        axes.invert_yaxis()
        axes.tick_params(left=False)
        names = {"computing": "computing", "waiting": "data stall"}
        patches = [Patch(color=COLOURS[what], label=name) for what, name in names.items()]
        if len(shares) > 1:
            patches.append(Patch(fill=False, edgecolor="0.6", linestyle=":", label="removed"))
        # Its right end is that of the axes, beyond which a picture is cut.
        where = blended_transform_factory(axes.transAxes, figure.transFigure)
        figure.legend(
            handles=patches, loc="lower right", ncols=3, borderaxespad=0.2, handlelength=1,
            bbox_to_anchor=(1, 0), bbox_transform=where,
        ).set_in_layout(False)  # fmt: skip
        plt.show()


def dots(values: dict, unit: str, title: str, log: bool = False):
    """Draws a dot for each of {label: value}, with the value, in `unit`, written beside it.

    For a logarithmic axis: it has no zero, so the length of a bar would mean nothing on it (Cleveland 1984).
    """
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(7, 0.9 + 0.28 * len(values)))
        for label, value in values.items():
            axes.plot(value, label, "o", color=COLOURS.get(label, OTHERS[0]))
            place = {"xytext": (7, 0), "textcoords": "offset points", "va": "center"}
            axes.annotate(number(value), (value, label), **place)
        axes.set(xscale="log" if log else "linear", xlabel=unit, title=title)
        axes.grid(axis="y", color="0.85", linestyle=":")
        axes.margins(x=0.12, y=0.15)
        axes.invert_yaxis()
        axes.tick_params(left=False)
        plt.show()


def lines(x, ys: dict, xlabel: str, ylabel: str, title: str):
    "Draws a line for each of {label: values at x}; values that are Spreads get bars, and an axis from 0."
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(7, 2.8))
        floor = None
        for i, (label, y) in enumerate(ys.items()):
            colour = COLOURS.get(label, OTHERS[i % len(OTHERS)])
            style = {"color": colour, "markersize": 4, "label": label}
            if all(hasattr(one, "high") for one in y):
                middle = [one.median for one in y]
                reach = [one.median - one.low for one in y], [one.high - one.median for one in y]
                axes.errorbar(x, middle, reach, fmt="-" + "osD^v"[i % 5], capsize=3, **style)
                floor = 0
            else:
                axes.plot(x, y, "-" + "osD^v"[i % 5], **style)
        axes.set(xlabel=xlabel, ylabel=ylabel, title=title)
        axes.set_ylim(bottom=floor)
        if all(isinstance(at, int) for at in x):
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(axis="y", color="0.9")
        if len(ys) > 1:
            axes.legend()
        plt.show()


def ticks(table: dict, title: str):
    "Draws a table of ticks and crosses: {row: {column: True, False, or None where there is nothing to say}}."
    signs = {True: ("✓", COLOURS["copying"]), False: ("✗", COLOURS["starting"]), None: ("–", "0.6")}
    columns = list(dict.fromkeys(column for row in table.values() for column in row))
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(7, 1.1 + 0.21 * len(table)))
        figure.suptitle(title, x=0.01, ha="left", fontsize=STYLE["axes.titlesize"])
        for y, row in enumerate(table.values()):
            for x, column in enumerate(columns):
                sign, colour = signs[row.get(column)]
                said = {"ha": "center", "va": "center", "fontsize": 11, "color": colour}
                axes.text(x, y, sign, **said)
        axes.set_yticks(range(len(table)), table)
        axes.set_xticks(range(len(columns)), columns)
        axes.set(xlim=(-0.5, len(columns) - 0.5), ylim=(len(table) - 0.5, -0.5))
        axes.hlines(np.arange(len(table) + 1) - 0.5, -0.5, len(columns) - 0.5, color="0.9", lw=0.8)
        axes.xaxis.tick_top()
        axes.spines[:].set_visible(False)
        axes.tick_params(left=False, top=False)
        show_in_few_colours(figure)


def guesses_and_measured(guesses: list[float], values: list[float], title: str):
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

"""Pictures of runs: who waited, who did what when."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import Patch

from ...measure.timeline import WORK, gathered, name_of
from ...measure.words import percent
from .style import COLOURS, OTHERS, STYLE, in_words


def strip(waiting: list[float], computing: list[float], title: str | None = None):
    """Draws what became of a loop's time: the seconds of waiting and of computing, in turn, which a
    `feedgpu.Meter` lists. By default the title says which share of it was waiting."""
    share = sum(waiting) / max(sum(waiting) + sum(computing), 1e-9)
    _strips({"": (waiting, computing)}, title or f"{in_words(share)} ({percent(share)})", {})


def strips(meters: dict, title: str | None = None, doing: dict | None = None):
    """Draws several loops under one another, on one axis of time. `meters`: {label: feedgpu.Meter}.
    `doing`: {label: what the time is for that is not waiting}, where that is not computing."""
    shares = {label: meter.waiting_share for label, meter in meters.items()}
    least, most = min(shares, key=shares.get), max(shares, key=shares.get)
    said = f"Waiting takes {percent(shares[most])} of the time with {most}"
    said += f", {percent(shares[least])} with {least}"
    loops = {label: (meter.waiting, meter.computing) for label, meter in meters.items()}
    _strips(loops, title or said, doing or {})


def _strips(loops: dict, title: str, doing: dict):
    end = max(sum(waiting) + sum(computing) for waiting, computing in loops.values())
    steps = max(len(computing) for _, computing in loops.values())
    # More steps than can be told apart are gathered: the height of a column is the share of waiting in it.
    columns = 100 if steps > 120 else None
    with plt.rc_context(STYLE):
        figure, rows = plt.subplots(
            len(loops), figsize=(7, 0.9 + 0.42 * len(loops)), sharex=True, squeeze=False
        )
        drawn = {}
        for axes, (label, (waiting, computing)) in zip(rows[:, 0], loops.items(), strict=True):
            edges, height = waiting_over_time(waiting, computing, columns)
            for what, top in ((doing.get(label, "computing"), np.ones_like(height)), ("waiting", height)):
                drawn[what] = axes.stairs(top, edges, fill=True, color=COLOURS[what], lw=0, antialiased=False)
            axes.set(xlim=(0, end), ylim=(0, 1), yticks=[])
            axes.set_ylabel(label, rotation=0, ha="right", va="center")
            axes.spines["left"].set_visible(False)
        rows[0, 0].set_title(title)
        unit = f"seconds ({steps:,} steps, gathered in columns)" if columns else "seconds"
        axes.set_xlabel(unit, loc="left")
        legend = figure.legend(
            drawn.values(), drawn, loc="lower right", ncols=len(drawn), borderaxespad=0.2, handlelength=1
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


def gantt(timelines: dict, title: str, until: float | None = None):
    """Draws who does what when: `timelines`, {label: feedgpu.measure.timeline.Timeline}, on one axis of time.

    Each has a row for the main process and one for each worker; within a batch its parts are put together by
    kind. `until`: seconds at which the picture ends.
    """
    drawn = {label: gathered(timeline) for label, timeline in timelines.items()}
    rows = {label: sorted({who for who, _ in of}, key=str, reverse=True) for label, of in drawn.items()}
    end = until or max(timeline.seconds for timeline in timelines.values())
    with plt.rc_context(STYLE):
        heights = [0.25 * len(of) + 0.12 for of in rows.values()]
        figure, places = plt.subplots(
            len(drawn), figsize=(7, sum(heights) + 0.95), sharex=True, squeeze=False, height_ratios=heights
        )
        for axes, (label, of) in zip(places[:, 0], drawn.items(), strict=True):
            names = [name_of(who) for who in rows[label]]
            for (who, what), spans in sorted(of.items(), key=lambda pair: pair[0][1] in WORK):
                axes.broken_barh(
                    spans, (rows[label].index(who) - 0.4, 0.8), color=COLOURS[what], lw=0, antialiased=False
                )
            axes.set_yticks(range(len(names)), names)
            axes.set(xlim=(0, end), ylim=(-0.6, len(names) - 0.4))
            axes.tick_params(left=False)
            axes.set_ylabel(label, rotation=90 if len(label) > 2 else 0, labelpad=8)
            axes.yaxis.set_label_position("right")
        places[0, 0].set_title(title)
        axes.set_xlabel("seconds", loc="left")
        kinds = {what for of in drawn.values() for _, what in of}
        names = {COLOURS[what]: what for what in COLOURS if what in kinds}
        if {"making", "reading"} <= kinds:
            names[COLOURS["making"]] = "reading, making"
        patches = [Patch(color=colour, label=name) for colour, name in names.items()]
        figure.legend(
            handles=patches, loc="outside lower right", ncols=len(patches), fontsize=8, handlelength=0.8,
            columnspacing=1, borderaxespad=0.1,
        )  # fmt: skip
        plt.show()


def timeline(spans, rows: list[int], names: list[str], marks, marked: str, title: str):
    """Draws who did what when: each (begun, done) of `spans`, numbered from 0, in its own row of `names`;
    above them, as `marked`, the moments `marks`, numbered too: those too close to be told apart share a mark.
    All times are in seconds, and shown from the first begun on.
    """
    start = min(begun for begun, _ in spans)
    apart = (max(*marks, *(done for _, done in spans)) - start) / 40
    together = {}  # {moment: the numbers of the marks there}
    for position, mark in enumerate(marks):
        near = [moment for moment in together if abs(moment - mark) < apart]
        together.setdefault(near[0] if near else mark, []).append(str(position))
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(7, 1.4 + 0.3 * len(names)))
        for position, ((begun, done), row) in enumerate(zip(spans, rows, strict=True)):
            axes.barh(row, done - begun, 0.6, begun - start, color=COLOURS["reading"], edgecolor="white")
            axes.text((begun + done) / 2 - start, row, position, ha="center", va="center")
        for mark, positions in together.items():
            axes.plot(mark - start, len(names), "v", color=OTHERS[0])
            axes.text(mark - start, len(names) + 0.25, ", ".join(positions), ha="center", va="bottom")
        axes.set(xlabel="seconds", title=title, ylim=(-0.5, len(names) + 0.9))
        axes.set_yticks(range(len(names) + 1), [*names, marked])
        plt.show()

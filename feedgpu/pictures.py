"""The pictures of the course: one message each, said in the title; the same colour for the same thing.

Each function draws and shows one figure, and returns nothing.
"""

import math
from io import BytesIO

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import ListedColormap, to_rgb
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import blended_transform_factory
from PIL import Image

from feedgpu.timeline import WORK, gathered, name_of

# Okabe and Ito's palette (2008), which colour-blind readers can tell apart.
COLOURS = {
    "waiting": "#E69F00",
    "computing": "#0072B2",
    "reading": "#56B4E9",
    "decoding": "#CC79A7",
    "copying": "#009E73",
    "transforming": "#CC79A7",  # as decoding: both make of bytes what the model takes
    "making": "#56B4E9",  # a sample as a whole: reading, where nothing else is known of it
    "collating": "#999999",
    "starting": "#D55E00",
    "held up": "#999999",  # a loop with a batch, whose device takes no more
    # The parts of one sample, as measure.sample_parts names them
    "open and read": "#56B4E9",
    "deserialise": "#CC79A7",
    "transform": "#CC79A7",
    "collate": "#999999",
    "copy": "#009E73",
    "receive": "#009E73",
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
    _strips({"": (waiting, computing)}, title or f"{in_words(share)} ({percent(share)})", {})


def strips(meters: dict, title: str | None = None, doing: dict | None = None):
    """Draws several loops under one another, on one axis of time. `meters`: {label: my_classes.Meter}.
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
    """Draws who does what when: `timelines`, {label: feedgpu.timeline.Timeline}, on one axis of time.

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
            axes.text(
                max(end, before), row, f" {number(end - 1e3 * step, 2)} ms, {percent(share)}", va="center"
            )
        axes.set_yticks(range(len(shares)), stalls)
        axes.set(xlim=(0, 1.2 * max(ends)), title=said)
        axes.set_xlabel("milliseconds for one batch", loc="left")
        axes.invert_yaxis()
        axes.tick_params(left=False)
        names = {"computing": "computing", "waiting": "data stall"}
        patches = [Patch(color=COLOURS[what], label=name) for what, name in names.items()]
        # Its right end is that of the axes, beyond which a picture is cut.
        where = blended_transform_factory(axes.transAxes, figure.transFigure)
        figure.legend(
            handles=patches, loc="lower right", ncols=2, borderaxespad=0.2, handlelength=1,
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


def show_in_few_colours(figure):
    "Shows a figure with photographs in 256 colours, which take a third of the bytes to store"
    from IPython.display import display  # which the benchmarks, that draw too, do without

    drawn, few = BytesIO(), BytesIO()
    figure.savefig(drawn, format="png")
    plt.close(figure)
    Image.open(drawn).convert("RGB").quantize(256).save(few, "PNG", optimize=True)
    display({"image/png": few.getvalue(), "text/plain": "<photographs>"}, raw=True)


def mosaic(tensors, marked, title: str, columns: int = 30):
    """Draws many small images side by side, H×W or 1×H×W, all of one size, ink from 0 to 1 on white: in
    colour those whose entry in `marked` is true, the others in grey."""
    ink = np.stack([np.asarray(tensor, dtype=float).reshape(tensor.shape[-2:]) for tensor in tensors])
    colours = np.where(np.asarray(marked)[:, None], to_rgb(OTHERS[1]), to_rgb(OTHERS[2]))
    images = 1 - ink[..., None] * (1 - colours[:, None, None])
    images = np.pad(images, ((0, 0), (0, 1), (0, 1), (0, 0)), constant_values=1)  # so that none touch
    rows = -(-len(images) // columns)
    missing = rows * columns - len(images)
    images = np.concatenate([images, np.ones((missing, *images.shape[1:]))])
    _, height, width, _ = images.shape
    tiles = images.reshape(rows, columns, height, width, 3).swapaxes(1, 2)
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(7, 0.3 + 7 * rows * height / (columns * width)))
        axes.imshow(tiles.reshape(rows * height, columns * width, 3), interpolation="nearest")
        axes.set_title(title)
        axes.axis("off")
        plt.show()


def photos(rows: dict, title: str):
    """Draws photographs as the model sees them: {label of a row: tensors, uint8, 3×H×W, all of one size}."""
    gap = [(0, 6), (0, 6), (0, 0)]
    sheet = [
        np.hstack([np.pad(np.asarray(X).transpose(1, 2, 0), gap, constant_values=255) for X in row])
        for row in rows.values()
    ]
    high = len(sheet[0])
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(7, 0.35 + 0.64 * len(rows)))
        axes.imshow(np.vstack(sheet))
        axes.set_anchor("W")
        axes.set_yticks([(i + 0.5) * high for i in range(len(rows))], rows)
        axes.set(title=title, xticks=[])
        axes.spines[:].set_visible(False)
        axes.tick_params(left=False)
        show_in_few_colours(figure)


def padded_batches(ways: dict, lengths, title: str):
    """Draws what batches hold and what is padded: {way: batches, each the indices of its samples}.

    `lengths`: of all samples. Each panel is an epoch, from the first batch to the last.
    """
    with plt.rc_context(STYLE):
        figure, places = plt.subplots(len(ways), figsize=(7, 0.4 + len(ways)), sharex=True, squeeze=False)
        for axes, (way, batches) in zip(places[:, 0], ways.items(), strict=True):
            own = [np.sort(np.asarray(lengths)[np.asarray(batch)]) for batch in batches]
            longest = np.concatenate([np.full(len(one), one[-1]) for one in own])
            own = np.concatenate(own)
            axes.stairs(longest, fill=True, color="0.75", label="padding")
            axes.stairs(own, fill=True, color=COLOURS["computing"], label="samples")
            axes.set(ylabel="length", title=f"{way}: {percent(1 - own.sum() / longest.sum())} padding")
        axes.set_xlabel("the samples of an epoch, in their batches, each sorted to be seen")
        figure.legend(*axes.get_legend_handles_labels(), loc="upper right", ncols=2)
        figure.suptitle(title, x=0, ha="left", fontsize=10)
        plt.show()


def repeats(runs: dict, title: str):
    """Draws which random numbers came more than once: {label of a run: for each epoch the list of its draws}.

    Those of one run that are equal have one colour and one number; a draw that came once is grey.
    """
    with plt.rc_context(STYLE):
        epochs = max(map(len, runs.values()))
        longest = max(len(row) for rows in runs.values() for row in rows)
        figure, places = plt.subplots(
            len(runs), figsize=(7, 0.7 + len(runs) * (0.25 * epochs + 0.15)), sharex=True, squeeze=False
        )
        for axes, (label, rows) in zip(places[:, 0], runs.items(), strict=True):
            drawn = [draw for row in rows for draw in row]
            again = [draw for draw in dict.fromkeys(drawn) if drawn.count(draw) > 1]
            for epoch, row in enumerate(rows):
                for place, draw in enumerate(row):
                    shade = again.index(draw) / max(1, len(again) - 1) if draw in again else None
                    colour = "0.9" if shade is None else plt.get_cmap("viridis")(shade)
                    axes.barh(epoch, 1, 0.9, place, color=colour, edgecolor="white")
                    if shade is not None:
                        ink = "white" if shade < 0.6 else "black"
                        said = {"ha": "center", "va": "center_baseline", "fontsize": 7, "color": ink}
                        axes.text(place + 0.5, epoch, again.index(draw) + 1, **said)
            axes.set_yticks(range(len(rows)), [f"epoch {epoch}" for epoch in range(len(rows))])
            axes.set(xlim=(0, longest), ylim=(len(rows) - 0.5, -0.5), xticks=[])
            axes.set_ylabel(label, rotation=0, ha="left", va="center", labelpad=8)
            axes.yaxis.set_label_position("right")
            axes.spines[:].set_visible(False)
            axes.tick_params(left=False)
        places[0, 0].set_title(title)
        axes.set_xlabel("place in the epoch, from the first sample to the last", loc="left")
        show_in_few_colours(figure)


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

"""Pictures of samples and of batches: what they look like, which were visited, which draws repeat."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import ListedColormap, to_rgb
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from ...measure.words import percent
from .style import COLOURS, OTHERS, STYLE, show_in_few_colours


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
        axes.set_xlabel(
            "the samples of an epoch, batch after batch (sorted within a batch for the picture only)"
        )
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

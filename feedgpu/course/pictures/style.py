"""One look for all pictures: the same colour for the same thing."""

from io import BytesIO
from typing import Any

import matplotlib.pyplot as plt
from PIL import Image

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
    # The parts of one sample, as feedgpu.measure.sample_parts names them
    "open and read": "#56B4E9",
    "make": "#CC79A7",
    "transform": "#CC79A7",
    "collate": "#999999",
    "copy": "#009E73",
    "receive": "#009E73",
}
OTHERS = ["#333333", "#D55E00", "#999999", *COLOURS.values()]  # for what has no colour of its own
STYLE: Any = {
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


def in_words(share: float) -> str:
    "The nearest simple fraction: 'Half of the time the model waits for data'."
    if share < 0.06:
        return "The model hardly ever waits for data"
    return f"{SHARES[min(SHARES, key=lambda simple: abs(simple - share))]} the model waits for data"


def show_in_few_colours(figure):
    "Shows a figure with photographs in 256 colours, which take a third of the bytes to store"
    from IPython.display import display  # which the benchmarks, that draw too, do without

    drawn, few = BytesIO(), BytesIO()
    figure.savefig(drawn, format="png")
    plt.close(figure)
    Image.open(drawn).convert("RGB").quantize(256).save(few, "PNG", optimize=True)
    display({"image/png": few.getvalue(), "text/plain": "<photographs>"}, raw=True)

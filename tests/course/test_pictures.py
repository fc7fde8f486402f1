"""Each picture says its message in the title, is small and leaves nothing behind."""

import io
from types import SimpleNamespace

import IPython.display
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from feedgpu.course import pictures
from feedgpu.course.pictures import charts, runs, samples, style
from feedgpu.measure import Spread, number


@pytest.fixture
def shown(monkeypatch):
    """[(title, bytes of the PNG)] of the figures shown."""
    found = []

    def show():
        stream = io.BytesIO()
        plt.gcf().savefig(stream, format="png", bbox_inches="tight")
        found.append((plt.gcf().axes[0].get_title(loc="left"), len(stream.getvalue())))
        plt.close()

    monkeypatch.setattr(plt, "show", show)
    return found


def loop(steps, waiting, computing):
    """A meter that saw so many steps of about so many seconds."""
    draw = np.random.default_rng(0)
    meter = SimpleNamespace(
        waiting=list(draw.gamma(4, waiting / 4, steps + 1)),
        computing=list(draw.gamma(4, computing / 4, steps)),
    )
    meter.waiting_share = sum(meter.waiting) / (sum(meter.waiting) + sum(meter.computing))
    return meter


@pytest.mark.parametrize("steps", [0, 1, 29, 120, 900, 100_000])
def test_a_strip_of_any_length_is_small(shown, steps):
    meter = loop(steps, 0.01, 0.01)
    assert pictures.strip(meter.waiting, meter.computing) is None
    (title, size) = shown[0]
    assert "the model waits for data (" in title and size < 25_000


@pytest.mark.parametrize("columns", [None, 7, 100])
def test_a_strip_shows_the_share_that_was_measured(columns):
    meter = loop(200, 0.03, 0.01)
    edges, height = runs.waiting_over_time(meter.waiting, meter.computing, columns)
    assert np.isclose((height * np.diff(edges)).sum(), sum(meter.waiting))
    assert np.isclose(edges[-1], sum(meter.waiting) + sum(meter.computing))


def test_strips_compare(shown):
    pictures.strips({"no worker": loop(30, 0.02, 0.02), "2 workers": loop(30, 0.001, 0.02)})
    assert shown[0][0].startswith("Waiting takes ") and shown[0][0].endswith("with 2 workers")


def test_strips_say_what_a_loop_does_else(shown, monkeypatch):
    drawn = []
    show = plt.show
    monkeypatch.setattr(plt, "show", lambda: (drawn.append(plt.gcf().legends[0]), show()))
    both = {"the loop": loop(30, 0.02, 0.02), "the device": loop(30, 0.001, 0.02)}
    pictures.strips(both, doing={"the loop": "held up"})
    assert [text.get_text() for text in drawn[0].get_texts()] == ["held up", "waiting", "computing"]


def test_shares_in_words():
    words = [style.in_words(share).partition(" the model")[0] for share in (0.11, 0.34, 0.48, 0.74, 0.99)]
    expected = ["A tenth", "A third", "Half", "Three quarters", "Almost all"]
    assert words == [f"{share} of the time" for share in expected]
    assert style.in_words(0.01) == "The model hardly ever waits for data"


def test_visited_counts(shown):
    pictures.visited([range(0, 40), [1, 2, 1], torch.tensor([50])], 1797)
    assert shown[0][0] == "Of 1,797 samples 1,756 were never visited and 2 more than once"


def test_the_others(shown):
    pictures.bars({"reading": 1.5, "else": 12_289_506}, "bytes", "bars", log=True)
    pictures.lines([0, 1, 2], {"fork": [1, 2, 3], "spawn": [3, 2, 1]}, "workers", "samples/s", "lines")
    pictures.lines([0, 1], {"fork": [1, 2], "spawn": [Spread(3, 2, 4)] * 2}, "workers", "samples/s", "bars")
    pictures.grid_of_samples(torch.rand(12, 1, 8, 8), list("abcdefghijkl"))
    pictures.grid_of_samples([torch.zeros(3, 9, 8, dtype=torch.uint8), torch.ones(9, 8)])
    pictures.timeline([(7.0, 7.5), (7.1, 9)], [0, 1], ["a", "b"], [7.6, 9.1], "it came", "timeline")
    pictures.guesses_and_measured([1.0, 20], [3, 1e6], "guesses")
    pictures.padded_batches({"sorted": [[1], [0, 2]], "one": [[0, 1, 2]]}, torch.tensor([3, 2, 5]), "pads")
    titles = ["bars", "lines", "bars", "", "", "timeline", "guesses", "sorted: 17 % padding"]
    assert [title for title, _ in shown] == titles
    assert plt.get_fignums() == []


def test_photographs_and_tables_are_small(monkeypatch):
    kept = []
    monkeypatch.setattr(IPython.display, "display", lambda data, raw: kept.append(data))
    noise = torch.randint(0, 256, (3, 40, 40), dtype=torch.uint8)
    pictures.photos({"epoch 0": [noise] * 4, "epoch 1": [noise.flip(-1)] * 4}, "photographs")
    pictures.repeats({"none": [[0.1, 0.2], [0.3, 0.4]], "two": [[0.1, 0.1], [0.2, 0.1]]}, "repeats")
    pictures.ticks({"a": {"x": True, "y": False}, "b": {"y": True}}, "ticks")
    assert all(data["image/png"].startswith(b"\x89PNG") and len(data["image/png"]) < 40_000 for data in kept)
    assert len(kept) == 3 and plt.get_fignums() == []


def test_what_repeats_is_numbered(monkeypatch):
    drawn = []
    for room in (charts, samples):
        monkeypatch.setattr(room, "show_in_few_colours", lambda figure: drawn.append(figure))
    pictures.repeats({"none": [[0.1, 0.2], [0.3, 0.4]], "two": [[0.1, 0.5], [0.5, 0.1]]}, "repeats")
    pictures.ticks({"a": {"x": True, "y": False}, "b": {"y": True}}, "ticks")
    (none, two), (table,) = drawn[0].axes, drawn[1].axes
    assert [text.get_text() for text in none.texts] == []
    assert [text.get_text() for text in two.texts] == ["1", "2", "2", "1"]
    assert [text.get_text() for text in table.texts] == ["✓", "✗", "–", "✓"]
    plt.close("all")


def test_dots_stand_at_their_values(shown, monkeypatch):
    drawn = []
    show = plt.show
    monkeypatch.setattr(plt, "show", lambda: (drawn.append(plt.gca()), show()))
    pictures.dots({"reading": 256, "else": 369_627}, "bytes", "dots", log=True)
    assert shown[0][0] == "dots" and drawn[0].get_xscale() == "log"
    assert [line.get_xdata()[0] for line in drawn[0].lines] == [256, 369_627]
    assert [text.get_text() for text in drawn[0].texts] == ["256", "369,627"]


def test_a_mosaic_colours_what_is_marked(shown, monkeypatch):
    drawn = []
    show = plt.show
    monkeypatch.setattr(plt, "show", lambda: (drawn.append(plt.gca().images[0].get_array()), show()))
    pictures.mosaic([torch.ones(1, 8, 6)] * 7, [True] + [False] * 6, "mosaic", columns=5)
    tiles = drawn[0].reshape(2, 9, 5, 7, 3).swapaxes(1, 2)  # row, column, then the pixels and a gap
    images, gaps = tiles[:, :, :8, :6].reshape(10, 48, 3), tiles[:, :, 8]
    grey = [len(set(pixel)) == 1 for pixel in images[:, 0].tolist()]
    assert grey == [False] + [True] * 9 and (images[7:] == 1).all() and (gaps == 1).all()


def test_numbers_for_readers():
    numbers = (12_289_506, 0.000123, 943.2, 1234.5, 0, 2.0, -0.5, 0.9999)
    expected = ["12,289,506", "0.000123", "943", "1,234", "0", "2.00", "-0.500", "1.000"]
    assert [number(x) for x in numbers] == expected


def test_a_waterfall_shows_what_went_and_what_is_left(shown, monkeypatch):
    """A stall of 75 % is three times the step; of two thirds, twice: a step's length has gone."""
    drawn = []
    show = plt.show
    monkeypatch.setattr(plt, "show", lambda: (drawn.append(plt.gca()), show()))
    pictures.waterfall({"06 the loop": 0.75}, step=0.012)
    pictures.waterfall({"06 the loop": 0.75, "07 less": 2 / 3, "08 more": 0.75, "09 all": 1.0}, step=0.012)
    titles = ["The device computes for 12 of a batch's 48 ms"]
    titles += ["The data stall of a batch: 75 % at first, 100 % now"]
    assert [title for title, _ in shown] == titles
    widths = [round(bar.get_width(), 6) for bar in drawn[1].patches]
    assert widths == [12, 36, 12, 24, 12, 12, 36, 12, 11_988]  # step, waiting and, of the second, what went
    assert [text.get_text() for text in drawn[0].texts] == [" 36 ms, 75 %"]

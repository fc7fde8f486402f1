"""feedgpu/pictures.py: each picture says its message in the title, is small and leaves nothing behind."""

import io
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from feedgpu import pictures


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
    edges, height = pictures.waiting_over_time(meter.waiting, meter.computing, columns)
    assert np.isclose((height * np.diff(edges)).sum(), sum(meter.waiting))
    assert np.isclose(edges[-1], sum(meter.waiting) + sum(meter.computing))


def test_strips_compare(shown):
    pictures.strips({"no worker": loop(30, 0.02, 0.02), "2 workers": loop(30, 0.001, 0.02)})
    assert shown[0][0].startswith("Waiting takes ") and shown[0][0].endswith("with 2 workers")


def test_shares_in_words():
    words = [pictures.in_words(share).partition(" the model")[0] for share in (0.11, 0.34, 0.48, 0.74, 0.99)]
    expected = ["A tenth", "A third", "Half", "Three quarters", "Almost all"]
    assert words == [f"{share} of the time" for share in expected]
    assert pictures.in_words(0.01) == "The model hardly ever waits for data"


def test_visited_counts(shown):
    pictures.visited([range(0, 40), [1, 2, 1], torch.tensor([50])], 1797)
    assert shown[0][0] == "Of 1,797 samples 1,756 were never visited and 2 more than once"


def test_the_others(shown):
    pictures.bars({"reading": 1.5, "else": 12_289_506}, "bytes", "bars", log=True)
    pictures.lines([0, 1, 2], {"fork": [1, 2, 3], "spawn": [3, 2, 1]}, "workers", "samples/s", "lines")
    pictures.grid_of_samples(torch.rand(12, 1, 8, 8), list("abcdefghijkl"))
    pictures.grid_of_samples([torch.zeros(3, 9, 8, dtype=torch.uint8), torch.ones(9, 8)])
    pictures.calibration([1.0, 20], [3, 1e6], "calibration")
    assert [title for title, _ in shown] == ["bars", "lines", "", "", "calibration"]
    assert plt.get_fignums() == []


def test_numbers_for_readers():
    numbers = (12_289_506, 0.000123, 943.2, 1234.5, 0, 2.0, -0.5, 0.9999)
    expected = ["12,289,506", "0.000123", "943", "1,234", "0", "2.00", "-0.500", "1.000"]
    assert [pictures.number(x) for x in numbers] == expected

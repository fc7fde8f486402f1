"""What chapter 08 asks of a choice of workers: wrong choices are refused, and the simulation's own errors
excuse little."""

import re

import pytest

from feedgpu.course import verdict
from feedgpu.course.exercises import chapter_08
from feedgpu.course.exercises.chapter_08 import loses, near_enough
from feedgpu.measure.parts import measure_parts
from feedgpu.measure.simulation import simulate

# The judge tries 4 workers, however few CPUs there are.
pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")

WAITING, FEW = "samples that wait for 8 ms", "12 samples that wait for 2 ms"


def test_what_a_choice_loses():
    rates = {0: 50.0, 1: 100.0, 2: 200.0}
    assert [loses(rates, n) for n in rates] == [0.75, 0.5, 0.0]


@pytest.mark.parametrize(
    "rate, simulated, enough",
    [
        (86, 100, True),  # within 15 %, whatever was simulated
        (84, 100, False),
        (76, 80, True),  # the simulation loses 20 %, and so may the choice, and 5 % more
        (74, 80, False),
        (69, 60, False),  # but never more than 30 %, though the simulation does
    ],
)
def test_the_simulation_excuses_some(rate, simulated, enough):
    assert near_enough({0: 100.0, 1: float(rate), 2: float(simulated)}, chosen=1, simulated=2) == enough


def test_no_workers_lose_where_samples_wait():
    sentence = verdict.choose(lambda loader, step: 0).sentence
    assert sentence.startswith(f"✗ choose: {WAITING}: you chose 0 workers") and "Why: a worker" in sentence


def test_many_workers_lose_where_they_have_to_start():
    sentence = verdict.choose(lambda loader, step: 4).sentence
    assert sentence.startswith(f"✗ choose: {FEW}: you chose 4 workers") and "has to start" in sentence


def test_a_good_choice_is_told_its_regret():
    def by_simulation(loader, step):
        parts = measure_parts(loader)
        rates = [simulate(parts, n, batches=len(loader), step=step).rate for n in range(5)]
        return min(n for n in range(5) if rates[n] >= 0.95 * max(rates))

    sentence = verdict.choose(by_simulation).sentence
    assert sentence.startswith("✓ choose: each choice")
    assert len(re.findall(r"≈ \d workers gave .*?/s, the best, ≈ \d, .*?/s, regret ≈ \d+ %", sentence)) == 3


def test_a_choice_that_a_busy_moment_spoiled_is_asked_again(monkeypatch):
    rates = {0: 50.0, 1: 90.0, 2: 100.0, 3: 100.0, 4: 100.0}
    monkeypatch.setattr(chapter_08, "measured_choice", lambda loader, step, chosen: (rates, 2))
    asked = []

    def spoiled_once(loader, step):
        asked.append(len(loader))
        return 0 if len(asked) <= 3 else 2  # 3: once for each kind of samples

    assert verdict.choose(spoiled_once).sentence.startswith("✓ choose") and len(asked) == 6
    assert verdict.choose(lambda loader, step: 0).sentence.startswith(
        f"✗ choose: {WAITING}: you chose 0 workers"
    )


@pytest.mark.parametrize("strange", [5, -1, 2.0, None, "2", True])
def test_a_choice_is_a_number_from_0_to_4(strange):
    sentence = verdict.choose(lambda loader, step: strange).sentence
    assert sentence.startswith(f"✗ choose: {WAITING}: expected a number of workers from 0 to 4, you gave")

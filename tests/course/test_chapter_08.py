"""What chapter 08 asks of a choice of workers: wrong choices are refused, with the reason, and the verdict is
the same in every run."""

import pytest

from feedgpu.course import verdict
from feedgpu.course.exercises.chapter_08 import LOADERS, MAY_LOSE, loses, rates_of
from feedgpu.measure.simulation import rate, simulate

WAITING, FEW, COMPUTING, LONG_STEP = LOADERS


def fewest(rates):
    return min(n for n in rates if rates[n] >= 0.95 * max(rates.values()))


def by_simulation(parts, batches, step):
    return fewest({n: simulate(parts, n, batches=batches, step=step).rate for n in range(5)})


def the_fastest(parts, batches, step):
    rates = {n: simulate(parts, n, batches=batches, step=step).rate for n in range(5)}
    return max(rates, key=rates.get)


def test_the_fastest_is_not_the_fewest():
    said = str(verdict.choose(the_fastest))
    assert said.startswith("✗") and "where 1 worker would do" in said


@pytest.mark.parametrize("tolerance", [0.01, 0.1])
def test_another_tolerance_is_refused(tolerance):
    def choose(parts, batches, step):
        rates = {n: simulate(parts, n, batches=batches, step=step).rate for n in range(5)}
        return min(n for n in rates if rates[n] >= (1 - tolerance) * max(rates.values()))

    assert verdict.choose(choose).sentence.startswith("✗")


def test_what_a_choice_loses():
    rates = {0: 50.0, 1: 100.0, 2: 200.0}
    assert [loses(rates, n) for n in rates] == [0.75, 0.5, 0.0]


def test_each_loader_has_a_different_best_choice():
    best = []
    for parts, batches, step, _ in LOADERS.values():
        rates = rates_of(parts, batches, step)
        best.append(fewest(rates))
        assert all(rates[n] < 0.98 * rates[best[-1]] for n in range(best[-1]))  # fewer lose by far
    assert best == [4, 0, 2, 1] and MAY_LOSE == 0.05


def test_a_good_choice_is_told_its_rates():
    sentence = verdict.choose(by_simulation).sentence
    assert sentence.startswith("✓ choose: each choice") and sentence.count("samples/s") == 4
    assert sentence == verdict.choose(by_simulation).sentence


@pytest.mark.parametrize(
    ("chosen", "refused", "why"),
    [(0, WAITING, "uses no CPU"), (2, WAITING, "uses no CPU"), (4, FEW, "time to start")],
)
def test_one_number_for_all_is_refused(chosen, refused, why):
    sentence = verdict.choose(lambda parts, batches, step: chosen).sentence
    assert sentence.startswith(f"✗ choose: {refused}: you chose {chosen} workers") and why in sentence


def test_the_formula_forgets_that_workers_start():
    def by_formula(parts, batches, step):
        return fewest({n: rate(parts, n, step) for n in range(5)})

    assert verdict.choose(by_formula).sentence.startswith(f"✗ choose: {FEW}: you chose 1 worker,")


def test_more_workers_than_cpus_lose_where_samples_compute():
    def as_many(parts, batches, step):
        return 4 if parts.cpu_share else by_simulation(parts, batches, step)

    assert verdict.choose(as_many).sentence.startswith(f"✗ choose: {COMPUTING}: you chose 4 workers")


@pytest.mark.parametrize("strange", [5, -1, 2.0, None, "2", True])
def test_a_choice_is_a_number_from_0_to_4(strange):
    sentence = verdict.choose(lambda parts, batches, step: strange).sentence
    assert sentence.startswith(f"✗ choose: {WAITING}: expected a whole number of workers from 0 to 4")


def test_the_step_is_told():
    told = []
    verdict.choose(lambda *asked: told.append(asked[2]) or by_simulation(*asked))
    assert set(told) == {step for _, _, step, _ in LOADERS.values()}

"""Hugging Face's Trainer fed by PrefetchLoader: trained, evaluated, resumed, in one process and in two."""

import math

import pytest
from samples import BATCH, HELD_OUT, SAYS, SIZE, every_sample_once, expected


def seen(found):
    return [one["seen"] for one in found]


def test_one_process_visits_all_samples_in_the_order_of_the_epoch(play):
    found = play("in_trainer", 1)
    for scene in ("a_share_each", "whole"):
        assert seen(found.returned(scene)) == [expected(1, 0)]
    (shuffled,) = seen(found.returned("whole_shuffled"))
    assert every_sample_once(shuffled) and shuffled[0] != shuffled[1]


def test_two_processes_train_one_network(play):
    found = play("in_trainer", 2).returned("a_share_each")
    assert seen(found) == [expected(2, rank) for rank in range(2)]
    (alone,) = play("in_trainer", 1).returned("a_share_each")
    assert found[0]["weights"] == found[1]["weights"] != alone["weights"]


@pytest.mark.parametrize("scene", ["whole", "whole_shuffled", "evaluated_whole"])
def test_all_samples_for_each_process_are_refused(play, scene):
    assert play("in_trainer", 2).raised(scene) == [SAYS] * 2


@pytest.mark.parametrize("ranks", [1, 2])
def test_evaluation(play, ranks):
    found = play("in_trainer", ranks).returned("evaluated")
    for rank, one in enumerate(found):
        assert one["seen"] == [SIZE + i for i in expected(ranks, rank, size=HELD_OUT)[0]]
        assert math.isfinite(one["loss"]) and one["loss"] == found[0]["loss"]


@pytest.mark.parametrize("ranks", [1, 2])
def test_gradients_of_several_batches(play, ranks):
    orders = [expected(ranks, rank) for rank in range(ranks)]
    assert play("in_trainer", ranks).returned("accumulated") == orders


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_resume_in_the_middle_of_an_epoch_goes_on_in_its_order(play, ranks):
    rest = [[expected(ranks, rank)[1][2 * BATCH :]] for rank in range(ranks)]
    assert play("in_trainer", ranks).returned("resumed") == rest

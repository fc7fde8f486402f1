"""Plain torch.distributed, started by torchrun: each process has its share, or is told that it would not."""

import in_torch
import pytest
from samples import SAYS, a_share_each, every_sample_once, expected

names = [scene.__name__ for scene in in_torch.SCENES]
SHARING, WHOLE = ([scene.__name__ for scene in scenes] for scenes in (in_torch.SHARING, in_torch.WHOLE))


@pytest.mark.parametrize("scene", [*SHARING, *WHOLE])
def test_one_process_visits_every_sample_once_an_epoch(play, scene):
    (epochs,) = play("in_torch", 1).returned(scene)
    assert every_sample_once(epochs)
    assert (epochs[0] == epochs[1]) == (scene in ("in_order", "batch_sampler"))


def test_set_epoch_reaches_the_sampler(play):
    (found,) = play("in_torch", 1).returned("epoch_sampler")
    assert found == expected(1, 0)
    assert play("in_torch", 2).returned("a_share_each") == [expected(2, rank) for rank in range(2)]


@pytest.mark.parametrize("scene", SHARING)
def test_two_processes_have_a_share_each(play, scene):
    assert a_share_each(*play("in_torch", 2).returned(scene))


@pytest.mark.parametrize("scene", WHOLE)
def test_all_samples_for_each_process_are_refused(play, scene):
    assert play("in_torch", 2).raised(scene) == [SAYS] * 2


def test_all_samples_for_each_process_can_be_asked_for(play):
    for ranks in (1, 2):
        assert play("in_torch", ranks).returned("all_for_each_if_asked_for") == [expected(1, 0)] * ranks


def test_two_processes_train_one_network(play):
    one, other = play("in_torch", 2).returned("trained_together")
    (alone,) = play("in_torch", 1).returned("trained_together")
    assert one == other != alone

"""accelerate: a PrefetchLoader passes through `prepare` as it is, so its sampler has to share."""

import in_accelerate
import pytest
from samples import SAYS, SIZE, a_share_each, every_sample_once, expected


def seen(found):
    return [one["seen"] for one in found]


@pytest.mark.parametrize("ranks", [1, 2])
def test_the_loader_is_left_as_it_is(play, ranks):
    found = play("in_accelerate", ranks)
    assert all(one["as it was"] for one in found.returned("a_share_each"))
    assert not any(one["as it was"] for one in found.returned("torchs_loader"))
    assert not any(one["ours"] for one in found.returned("made_anew"))


def test_one_process_visits_all_samples_in_the_order_of_the_epoch(play):
    found = play("in_accelerate", 1)
    for scene in ("a_share_each", "whole", "torchs_loader", "made_anew"):
        assert seen(found.returned(scene)) == [expected(1, 0)]
    (shuffled,) = seen(found.returned("whole_shuffled"))
    assert every_sample_once(shuffled) and shuffled[0] != shuffled[1]


def test_one_process_trains_the_same_network_with_our_loader_and_torchs(play):
    found = play("in_accelerate", 1)
    weights = [found.returned(one)[0]["weights"] for one in ("a_share_each", "whole", "torchs_loader")]
    assert weights[0] == weights[1] == weights[2]


def test_two_processes_train_one_network(play):
    found = play("in_accelerate", 2).returned("a_share_each")
    assert seen(found) == [expected(2, rank) for rank in range(2)]
    assert found[0]["weights"] == found[1]["weights"]


def test_accelerates_own_ways_give_a_share_each(play):
    found = play("in_accelerate", 2)
    batches = found.returned("shard_of_batches")
    assert a_share_each(*batches)
    assert seen(found.returned("torchs_loader")) == seen(found.returned("made_anew")) == batches


@pytest.mark.parametrize("scene", ["whole", "whole_shuffled"])
def test_all_samples_for_each_process_are_refused(play, scene):
    assert play("in_accelerate", 2).raised(scene) == [SAYS] * 2


@pytest.mark.parametrize("ranks", [1, 2])
def test_the_first_batches_can_be_skipped(play, ranks):
    rest = [expected(ranks, rank)[1][2 * in_accelerate.BATCH :] for rank in range(ranks)]
    assert play("in_accelerate", ranks).returned("skipped") == rest


# What accelerate does for loaders that it has prepared, and for those alone


def test_gather_for_metrics_keeps_the_visits_that_were_made_twice(play):
    assert play("in_accelerate", 1).returned("gathered") == [expected(1, 0)[0]]
    for found in play("in_accelerate", 2).returned("gathered"):
        assert len(found) == SIZE + 1 and {*found} == {*range(SIZE)}


@pytest.mark.parametrize("ranks", [1, 2])
def test_accumulate_does_not_know_the_end_of_the_epoch(play, ranks):
    "Of three batches an epoch two make a step; the third waits for the next epoch's first"
    assert play("in_accelerate", ranks).returned("accumulated") == [3] * ranks
    assert play("in_accelerate", ranks).returned("accumulated_by_torch") == [4] * ranks

"""Lightning: fit, validation and prediction over PrefetchLoader, in one process and in two (strategy ddp)."""

import in_lightning
import pytest
from samples import HELD_OUT, SAYS, SIZE, a_share_each, every_sample_once, expected

SHARING, WHOLE = ([one.__name__ for one in scenes] for scenes in (in_lightning.SHARING, in_lightning.WHOLE))
ALL = {"a_sampler_that_lightning_wrapped", "made_in_the_hook", "torchs_loader", "whole"}


def validated(ranks, rank):
    return [[SIZE + i for i in order] for order in expected(ranks, rank, size=HELD_OUT)]


def test_one_process_fits_and_validates(play):
    (found,) = play("in_lightning", 1).returned("a_share_each")
    assert found["trained"] == expected(1, 0) and found["validated"] == validated(1, 0)


@pytest.mark.parametrize("scene", sorted(ALL))
def test_one_process_visits_all_samples_in_the_order_of_the_epoch(play, scene):
    assert play("in_lightning", 1).returned(scene) == [expected(1, 0)]


@pytest.mark.parametrize("scene", ["similar_lengths", "whole_made_in_the_hook"])
def test_one_process_visits_every_sample_once_an_epoch(play, scene):
    (epochs,) = play("in_lightning", 1).returned(scene)
    assert every_sample_once(epochs) and epochs[0] != epochs[1]


def test_two_processes_fit_and_validate_one_network(play):
    found = play("in_lightning", 2).returned("a_share_each")
    for rank, one in enumerate(found):
        assert one["trained"] == expected(2, rank) and one["validated"] == validated(2, rank)
    (alone,) = play("in_lightning", 1).returned("a_share_each")
    assert found[0]["weights"] == found[1]["weights"] != alone["weights"]


@pytest.mark.parametrize("scene", SHARING[1:])
def test_two_processes_have_a_share_each(play, scene):
    assert a_share_each(*play("in_lightning", 2).returned(scene))


@pytest.mark.parametrize("scene", WHOLE)
def test_all_samples_for_each_process_are_refused(play, scene):
    assert play("in_lightning", 2).raised(scene) == [SAYS] * 2


@pytest.mark.parametrize("ranks", [1, 2])
def test_the_loops_beside_it(play, ranks):
    found = play("in_lightning", ranks)
    for rank in range(ranks):
        epochs = expected(ranks, rank)
        assert found.returned("some_batches")[rank] == [order[:8] for order in epochs]
        assert found.returned("predicted")[rank] == validated(ranks, rank)[0]
        assert found.returned("resumed")[rank] == epochs[1:]
        assert found.returned("seeded_workers")[rank] == epochs


# What Lightning does with loaders on its own


def test_a_dataloader_is_shared_out_by_lightning_even_if_it_was(play):
    "So rank and ranks are for PrefetchLoader: with DataLoader half of the samples would be left out"
    one, other = play("in_lightning", 2).returned("shared_twice")
    assert len(one[0]) == len(other[0]) == 6 and len({*one[0], *other[0]}) <= 12


@pytest.mark.parametrize("ranks", [1, 2])
def test_what_needs_a_dataloader_says_so(play, ranks):
    found = play("in_lightning", ranks)
    for said in found.raised("overfitted"):
        assert said.startswith("ValueError: The dataloader <feedgpu.prefetch.PrefetchLoader object")
        assert said.endswith("needs to subclass `torch.utils.data.DataLoader`")
    for said in found.raised("fabric"):
        assert said.startswith("TypeError: Only PyTorch DataLoader are currently supported in `setup_datal")
    if ranks == 1:
        assert found.returned("overfitted_in_order") == [[[*range(8)]] * 2]
    else:
        assert found.raised("overfitted_in_order") == [SAYS] * 2

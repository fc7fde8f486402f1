"""feedgpu/memory.py: batches are written to memory that nobody holds, and little is kept for them."""

import copy
import operator
import pickle
import sys
import threading

import numpy
import pytest
import torch
from torch.utils.data import default_collate

from feedgpu import memory
from feedgpu.memory import BatchMemory, Gathered

KILO = 1024


@pytest.fixture
def kept(monkeypatch):
    "A memory that may keep 8 kilobytes"
    monkeypatch.setattr(memory, "KEPT", 8 * KILO)
    return BatchMemory()


def held_at_once(memory, many, size):
    "Takes many blocks of this many bytes, lets go of all of them, and says which are kept for the next batch"
    blocks = [memory.empty((size,), torch.uint8) for _ in range(many)]
    del blocks
    memory._take_back()
    return [len(block) for block in memory.free]


def test_as_many_blocks_are_kept_as_have_room(kept):
    assert held_at_once(kept, 3, KILO) == [KILO] * 3
    assert held_at_once(kept, 50, KILO) == [KILO] * 8
    assert sum(map(len, kept.free)) <= memory.KEPT and not kept.lent


@pytest.mark.parametrize("kilos", [5, 8, 9, 1000])
def test_of_blocks_that_have_no_room_as_many_are_kept_as_a_loop_needs(kept, kilos):
    assert held_at_once(kept, 20, kilos * KILO) == [kilos * KILO] * memory.LEAST


def test_what_nobody_holds_is_bounded_before_it_is_asked_for(kept):
    "Whoever held many batches at once does not keep their memory, whether or not another batch comes"
    blocks = [kept.empty((KILO,), torch.uint8) for _ in range(1000)]
    assert len(kept.lent) == 8
    del blocks
    assert len(kept.returned) == 8 and not kept.free


def test_a_batch_without_bytes_needs_no_memory(kept):
    assert held_at_once(kept, 100, 0) == [] and not kept.lent


def test_larger_batches_take_the_place_of_smaller_ones(kept):
    held_at_once(kept, 8, KILO)
    assert held_at_once(kept, 8, 4 * KILO) == [4 * KILO] * memory.LEAST


def test_smaller_batches_take_the_place_of_larger_ones_when_they_keep_coming(kept):
    held_at_once(kept, 8, 4 * KILO)
    assert held_at_once(kept, 1, KILO) == [4 * KILO] * memory.LEAST  # the last batch of an epoch, say
    assert held_at_once(kept, 20, KILO) == [KILO] * 8


def test_a_block_is_used_again_when_the_last_view_of_it_is_gone(kept):
    X = kept.empty((2, 3), torch.float32)
    place, view = X.data_ptr(), X[1:].T
    del X
    assert kept.empty((2, 3), torch.float32).data_ptr() != place
    kept._take_back()
    kept.free.clear()
    del view
    assert kept.empty((3, 2), torch.int32).data_ptr() == place  # as many bytes, of another kind


def test_what_tells_that_a_batch_is_gone_runs_no_python(kept):
    "In a function of Python's own a Ctrl-C would be lost: it is raised where nobody can catch it"
    X = kept.empty((KILO,), torch.uint8)
    called = []
    sys.setprofile(lambda frame, event, what: called.append(event))
    del X
    sys.setprofile(None)
    assert "call" not in called and len(kept.returned) == 1


def test_threads_share_a_memory():
    shared, errors = BatchMemory(), []

    def work(number):
        for _ in range(300):
            X = shared.empty((50,), torch.int64).fill_(number)
            if not (X == number).all():
                errors.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors and len(shared.lent) + len(shared.free) <= memory.KEPT // 400


def test_a_batch_passes_default_collate_as_it_is():
    one = Gathered(torch.zeros(2, 3), torch.arange(2))
    X, y = default_collate(one)
    assert X is one.X and y is one.y


KINDS = {
    "a tensor": (torch.arange(12).view(4, 3), torch.arange(4)),
    "without targets": (torch.arange(12).view(4, 3), None),
    "numbers": (torch.arange(12).view(4, 3), torch.arange(4) / 2),
    "several": (torch.arange(12).view(4, 3), torch.arange(8).view(4, 2)),
    "a tuple": ((torch.arange(4), torch.arange(8).view(4, 2)), torch.arange(4)),
    "a dict": ({"a": torch.arange(4), "b": torch.arange(8).view(4, 2)}, None),
}


def samples_of(X, y):
    if isinstance(X, dict):
        Xs = [{name: part[i] for name, part in X.items()} for i in range(4)]
    else:
        Xs = [tuple(part[i] for part in X) if isinstance(X, tuple) else X[i] for i in range(4)]
    if y is None:
        return Xs
    plain = y.dim() == 1 and not y.is_floating_point()
    return [(one, y[i].item() if plain else y[i]) for i, one in enumerate(Xs)]


def shown(one):
    "Form and values; a sample of a type of its own is shown as what it stands for"
    if isinstance(one, torch.Tensor):
        return one.dtype, one.tolist()
    if isinstance(one, dict):
        return {name: shown(part) for name, part in one.items()}
    return (isinstance(one, list), [*map(shown, one)]) if isinstance(one, (list, tuple)) else one


READ = {
    "list": list,
    "iter": lambda samples: [one for one in samples],
    "places": lambda samples: [samples[i] for i in range(len(samples))],
    "a slice": lambda samples: samples[:],
    "star": lambda samples: [*samples],
    "unpacked": lambda samples: [one for one in zip(samples, strict=True)],
    "reversed": lambda samples: [*reversed(samples)],
    "copy": lambda samples: samples.copy(),
    "copied": copy.copy,
    "pickled": lambda samples: list(pickle.loads(pickle.dumps(samples))),
    "pickled when made": lambda samples: (samples[1], pickle.loads(pickle.dumps(samples)))[1],
    "plus": lambda samples: samples + [1],
    "plus, other": lambda samples: [1] + samples,
    "times": lambda samples: samples * 2,
    "popped": lambda samples: [samples.pop(), samples],
    "appended": lambda samples: (samples.append(1), samples)[1],
    "deleted": lambda samples: (samples.__delitem__(0), samples)[1],
    "changed": lambda samples: (samples.__setitem__(0, 1), samples)[1],
    "in place": lambda samples: operator.iadd(samples, [1]),
    "turned": lambda samples: (samples.reverse(), samples)[1],
    "shown": lambda samples: [repr(samples)],
}


@pytest.mark.parametrize("how", READ)
@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_is_the_list_of_its_samples(kind, how):
    expected, found = READ[how](samples_of(*KINDS[kind])), READ[how](Gathered(*KINDS[kind]))
    assert isinstance(found, list) and shown(found) == shown(expected)


def test_whoever_takes_a_sample_away_gets_the_batch_of_the_others():
    one = Gathered(torch.zeros(3, 2), torch.arange(3))
    del one[1]
    X, y = default_collate(one)
    assert X.shape == (2, 2) and y.tolist() == [0, 2] and len(one) == 2


def test_a_batch_of_nothing():
    one = Gathered(torch.zeros(0, 3), torch.zeros(0))
    with pytest.raises(IndexError):
        one[0]
    assert not one and list(Gathered(torch.zeros(0, 3))) == [] == one


def test_values_are_of_every_kind_that_numpy_knows(kept):
    for dtype in (torch.uint8, torch.bool, torch.float16, torch.float64, torch.complex64):
        X = kept.empty((3, 2), dtype)
        assert X.dtype == dtype and X.shape == (3, 2) and X.numpy().flags.c_contiguous
    assert isinstance(kept.empty((), torch.float32).numpy(), numpy.ndarray)

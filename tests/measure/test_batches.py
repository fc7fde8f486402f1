"""feedgpu/measure/batches.py: padding, pairs that meet again, programs that a compiler makes."""

import logging

import pytest
import torch

from feedgpu.measure.batches import meet_again, padding_share, programs


def test_the_share_of_padding():
    masks = [torch.tensor([[True, True], [True, False]]), torch.tensor([[True]])]
    assert padding_share(masks) == pytest.approx(1 / 5)


@pytest.mark.parametrize("later, share", [([[1, 0], [3, 2]], 1), ([[0, 2], [1, 3]], 0), ([[0, 1, 2, 3]], 1)])
def test_pairs_that_meet_again(later, share):
    assert meet_again([[0, 1], [2, 3]], later) == share


@pytest.mark.parametrize(
    "how, made, compiled", [({"dynamic": False}, 8, 8), ({}, 2, 12), ({"mark": 0}, 1, 12)]
)
def test_programs_are_counted(how, made, compiled):
    logging.getLogger("torch._dynamo").setLevel(logging.ERROR)
    found = programs(lambda X: 2 * X + 1, [[torch.ones(length)] for length in range(5, 17)], **how)
    assert (found.after_each[-1], found.compiled) == (made, compiled)
    assert len(found.making) == made and len(found.making) + len(found.without) == 12
    assert str(found) == f"programs {made}, batches compiled {compiled} of 12"

"""Hugging Face's collators on batches of a packed dataset whose samples are dicts that have all they need."""

import functools

import numpy
import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from torch.utils.data import DataLoader
from transformers import (
    DataCollatorForLanguageModeling,
    DataCollatorForSeq2Seq,
    DataCollatorForTokenClassification,
    DataCollatorWithPadding,
    DefaultDataCollator,
    PreTrainedTokenizerFast,
    default_data_collator,
)

from feedgpu import PackedDataset, PrefetchLoader
from feedgpu.prepare import Source, pack, write

IDs = [f"id-{i}" for i in range(7)]
TOKENIZER = PreTrainedTokenizerFast(
    tokenizer_object=Tokenizer(WordLevel({"[PAD]": 0, "[UNK]": 1, "a": 2}, "[UNK]")), pad_token="[PAD]"
)


def length_of(i, equal):
    return 3 if equal else i % 3 + 1


def classified(i, equal):
    "A text and its class"
    tokens = torch.full((length_of(i, equal),), i + 2)
    return {"input_ids": tokens, "attention_mask": torch.ones_like(tokens), "label": torch.tensor(i)}


def tagged(i, equal):
    "A text and a class for each of its tokens"
    sample = classified(i, equal)
    del sample["label"]
    return sample | {"labels": sample["input_ids"] + 10}


def untagged(i, equal):
    return {name: X for name, X in tagged(i, equal).items() if name != "labels"}


def pictured(i, equal):
    return {"pixel_values": torch.full((2, 2), i / 2), "label": torch.tensor(i / 4)}


# A collator, the samples that it is for, and whether they are of one length
COLLATORS = {
    "DefaultDataCollator": (DefaultDataCollator(), classified, True),
    "default_data_collator": (default_data_collator, pictured, True),
    "default_data_collator, np": (
        functools.partial(default_data_collator, return_tensors="np"),
        tagged,
        True,
    ),
    "DataCollatorWithPadding": (DataCollatorWithPadding(TOKENIZER), classified, False),
    "DataCollatorWithPadding, equal": (DataCollatorWithPadding(TOKENIZER), classified, True),
    "token classification": (DataCollatorForTokenClassification(TOKENIZER), tagged, False),
    "token classification, equal": (DataCollatorForTokenClassification(TOKENIZER), tagged, True),
    "language modeling": (DataCollatorForLanguageModeling(TOKENIZER, mlm=False), untagged, False),
    "language modeling, equal": (DataCollatorForLanguageModeling(TOKENIZER, mlm=False), untagged, True),
    "sequences": (DataCollatorForSeq2Seq(TOKENIZER), tagged, False),
    "sequences, equal": (DataCollatorForSeq2Seq(TOKENIZER), tagged, True),
}


def packed(root, make, equal):
    read = {ID: make(i, equal) for i, ID in enumerate(IDs)}
    write(Source({"train": IDs[:5], "validation": IDs[5:]}, None, None, read.get), root)
    pack(root)
    return PackedDataset(IDs, None, root), list(read.values())


def same(one, other):
    "Whether two batches have the same fields, types and values"
    if list(one) != list(other):
        return False
    pairs = [(one[name], other[name]) for name in one]
    return all(type(a) is type(b) and a.dtype == b.dtype and numpy.array_equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("name", COLLATORS)
@pytest.mark.parametrize("kind", [PrefetchLoader, DataLoader, functools.partial(DataLoader, num_workers=1)])
def test_a_batch_is_that_of_the_samples(tmp_path, name, kind):
    collate, make, equal = COLLATORS[name]
    dataset, samples = packed(tmp_path, make, equal)
    batches = list(kind(dataset, batch_size=4, collate_fn=collate))
    expected = [collate([dict(one) for one in part]) for part in (samples[:4], samples[4:])]
    assert len(batches) == 2 and all(map(same, batches, expected))
    assert "labels" in batches[0]

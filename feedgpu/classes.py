"""Datasets whose targets are classes: whether one is such, and whether its classes can be meant."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy

from .ids import IDList, LabelArray
from .notation import DatasetError
from .sample import describe, is_class

MOST_CLASSES = 2**20  # a class of a greater number is most likely something else: a date, an ID


def tensor_with_a_class(sample: Any, labels: Mapping[str, Any] | None, root: str | Path = "data") -> Any:
    """The tensor of `sample`, the first one of a dataset, for a script that sorts tensors into classes.

    Raises DatasetError if the dataset is of another kind: without targets, with other targets than classes,
    or with samples that have fields.
    """
    change = "change Net, criterion and tally in your copy of pytorch_script.py"
    if labels is None:
        raise DatasetError(f"the samples of {root} have no targets, so there is nothing to learn from them")
    if not isinstance(sample, tuple) or isinstance(sample[0], (tuple, dict)):
        raise DatasetError(f"a sample of {root} has {describe(sample)}, where Net takes one tensor: {change}")
    if isinstance(labels, LabelArray):  # of one kind, and classes from 0 up if they are integers
        other = [] if labels.array.ndim == 1 and labels.array.dtype.kind in "iu" else [next(iter(labels))]
    else:
        other = [ID for ID, y in labels.items() if not is_class(y)]
    if other:
        y = repr(labels[other[0]])
        raise DatasetError(f"the target of {other[0]!r} is {y[:40]}, where Net learns classes: {change}")
    if great := greatest_label(labels):
        raise DatasetError(great)
    return sample[0]


def greatest_label(labels: Mapping[str, Any]) -> str:
    "What is wrong with the greatest class, or an empty string"
    if isinstance(labels, LabelArray):
        if labels.array.ndim != 1 or labels.array.dtype.kind not in "iu":
            return ""
        row = labels.array.argmax()
        labels = {IDList(labels.IDs, numpy.array([row]), None)[0]: int(labels.array[row])}
    classes = {ID: y for ID, y in labels.items() if is_class(y)}
    ID = max(classes, key=classes.__getitem__, default=None)  # type: ignore[arg-type]
    if ID is None or classes[ID] < MOST_CLASSES:
        return ""
    y = classes[ID]
    return f"the label of {ID!r} is {y}: number the classes from 0 up, or write {y}.0 if it is no class"

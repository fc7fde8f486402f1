"""The article's Dataset: one sample a file, read when it is asked for. This file is yours to change.

The notation is that of Afshine and Shervine Amidi's article: an ID is a string, the sample with that ID is
the file `data/<ID>.pt`, `partition` maps "train" and "validation" to lists of IDs, `labels` maps every ID
to its class (or to a number, or to a list of numbers).

    partition, labels = load_notation("data")
    training_set = Dataset(partition["train"], labels)
    training_generator = torch.utils.data.DataLoader(training_set, batch_size=64, num_workers=2)

Chapter 03 builds this class. All else comes from the package: `from feedgpu import load_notation`.
"""

from collections.abc import Callable
from pathlib import Path

import numpy.random  # noqa: F401  every worker seeds it: imported here once, not in each of them
import torch

from feedgpu import DatasetError, read_sample
from feedgpu.memory import to_stack
from feedgpu.notation import Edition, file_of, reading
from feedgpu.order import draws
from feedgpu.sample import target


class Dataset(torch.utils.data.Dataset):
    """The samples of a list of IDs, each read from its own file when it is asked for.

    `list_IDs`: sequence of strings. `labels`: {ID: class, number or list of numbers}, or None for samples
    without targets. `root`: the folder of the files. `transform(X)` changes each sample that was read.
    `augment(X, random)` changes it at random, and repeatably, by (`seed`, epoch, ID), if an EpochSampler
    gives the indices. With workers under spawn or forkserver both must be functions of a module, not of a
    notebook cell.

    `dataset[index]` is `(X, y)`. X is what the file `root/<ID>.pt` holds, a tensor, or a tuple or dict of
    tensors, on the CPU with the shapes and dtypes in which it was saved. y is the class as an integer, or the
    numbers as a float32 tensor; without targets `dataset[index]` is X alone. Raises DatasetError, naming ID
    and file, for a file that is missing, damaged or holds anything else, for an ID without a label or leading
    out of the folder, and when another dataset has come into the folder. A mistake in a `load` of yours keeps
    its error and its line.

    Another file format is three lines, a subclass with its own `suffix` and `load`:

        class Arrays(Dataset):
            suffix = ".npy"
            def load(self, file): return torch.from_numpy(numpy.load(file))
    """

    suffix = ".pt"
    like = None  # (ID, sample) that all samples must resemble; None: the first sample of their batch

    def __init__(
        self, list_IDs, labels, root="data", transform: Callable | None = None, augment=None, seed=0
    ):
        "Initialization"
        self.list_IDs = list_IDs
        self.labels = labels
        self.root = root
        self.transform = transform
        self.augment, self.seed = augment, seed
        self.edition = Edition(root, labels)

    def __len__(self):
        "Denotes the total number of samples"
        return len(self.list_IDs)

    def __getitem__(self, index):
        "Generates one sample of data"
        # Select sample
        ID = self.list_IDs[index]

        # Load data and get label
        file = file_of(ID, self.root, self.suffix)
        with reading(ID, file, self.edition):
            X = self.load(file)
        if self.transform is not None:
            X = self.transform(X)
        if self.augment is not None:
            X = self.augment(X, draws(self.seed, ID, index))
        if self.labels is None:
            return X
        if ID not in self.labels:
            raise DatasetError(f"sample {ID!r}, read from {file}, has no label: add it to labels")
        y = target(self.labels[ID])

        return X, y

    def load(self, file: Path):
        "Reads one file: the method to override for another format"
        return read_sample(file)

    def __getitems__(self, indices):
        """Generates the samples of one batch. DataLoader calls this in place of `__getitem__`.

        If they have not one shape and dtype, stacking them raises DatasetError, which names two of them. A
        collate_fn of your own, which may pad them, gets them as they are.
        """
        samples = [self[index] for index in indices]
        return to_stack(samples, [self.list_IDs[index] for index in indices], self.like)

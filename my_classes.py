"""The article's Dataset: one sample a file, read when it is asked for. This file is yours to change.

The notation is that of Afshine and Shervine Amidi's article: an ID is a string, the sample with that ID is
the file `data/<ID>.pt`, `partition` maps "train" and "validation" to lists of IDs, `labels` maps every ID
to its class.

    partition, labels = load_notation("data")
    training_set = Dataset(partition["train"], labels)
    training_generator = torch.utils.data.DataLoader(training_set, batch_size=64, num_workers=2)

Chapter 03 builds this class. All else comes from the package: `from feedgpu import load_notation`.
"""

from collections.abc import Callable
from pathlib import Path

import numpy.random  # noqa: F401  every worker seeds it: imported here once, not in each of them
import torch

from feedgpu import DatasetError, read_tensor
from feedgpu.notation import Edition, file_of, reading, refuse_unlike


class Dataset(torch.utils.data.Dataset):
    """The samples of a list of IDs, each read from its own file when it is asked for.

    `list_IDs`: sequence of strings. `labels`: {ID: integer}. `root`: the folder of the files.
    `transform`: applied to each tensor that was read; with workers under spawn or forkserver it must be a
    function of a module, not of a notebook cell.

    `dataset[index]` is `(X, y)`: the tensor of the file `root/<ID>.pt`, on the CPU with the shape and dtype
    in which it was saved, and its label. Raises DatasetError, naming ID and file, for a file that is
    missing, damaged or not a dense tensor, for an ID without a label or leading out of the folder, and when
    another dataset has come into the folder. A mistake in a `load` of yours keeps its error and its line.

    Another file format is three lines, a subclass with its own `suffix` and `load`:

        class Arrays(Dataset):
            suffix = ".npy"
            def load(self, file): return torch.from_numpy(numpy.load(file))
    """

    suffix = ".pt"
    like = None  # (ID, tensor) that all samples must resemble; None: the first sample of their batch

    def __init__(self, list_IDs, labels, root="data", transform: Callable | None = None):
        "Initialization"
        self.list_IDs = list_IDs
        self.labels = labels
        self.root = root
        self.transform = transform
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
        if ID not in self.labels:
            raise DatasetError(f"sample {ID!r}, read from {file}, has no label: add it to labels")
        y = self.labels[ID]

        if self.transform is not None:
            X = self.transform(X)
        return X, y

    def load(self, file: Path):
        "Reads one file: the method to override for another format"
        return read_tensor(file)

    def __getitems__(self, indices):
        """Generates the samples of one batch, which must have one shape and dtype to be stacked.

        DataLoader calls this in place of `__getitem__` where it exists. A subclass for samples of unequal
        shapes (with a collate_fn that pads them) says `__getitems__ = None`.
        """
        samples = [self[index] for index in indices]
        refuse_unlike(samples, [self.list_IDs[index] for index in indices], self.like)
        return samples

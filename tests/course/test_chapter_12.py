"""Chapter 12: what its exercise accepts and refuses, and that it says of ImageDataset what is so."""

import csv
import gzip
from pathlib import Path

import pytest
import torch

from feedgpu.course import verdict
from my_classes import Dataset


class Right(Dataset):
    suffix = ".csv.gz"

    def load(self, file):
        with gzip.open(file, "rt", encoding="utf-8-sig", newline="") as stream:
            names, *lines = csv.reader(stream)
        numbers = [[float(text) for text in line] for line in lines]
        if any(len(line) != len(names) for line in numbers):
            raise ValueError("it has a line with more or fewer numbers than channels")
        X = torch.tensor(numbers, dtype=torch.float32).reshape(-1, len(names)).T.contiguous()
        if not X.isfinite().all():  # float() takes "nan" and "inf"
            raise ValueError("it has a number that is none, or infinite")
        return X


class TakesNan(Right):
    refused, encoding = torch.isinf, "utf-8-sig"

    def load(self, file):
        with gzip.open(file, "rt", encoding=self.encoding, newline="") as stream:
            names, *lines = csv.reader(stream)
        numbers = [[float(text) for text in line] for line in lines]
        if any(len(line) != len(names) for line in numbers):
            raise ValueError("it has a line with more or fewer numbers than channels")
        X = torch.tensor(numbers, dtype=torch.float32).T
        if type(self).refused(X).any():
            raise ValueError("it has a number that is none")
        return X


class TakesInf(TakesNan):
    refused = torch.isnan


class MarkTakenForText(TakesNan):
    encoding = "utf-8"


class Transposed(Right):
    def load(self, file):
        return super().load(file).T


class Doubles(Right):
    def load(self, file):
        return super().load(file).double()


class WithHeader(Right):
    def load(self, file):
        return super().load(file)[:, 1:]


class Array(Right):
    def load(self, file):
        return super().load(file).numpy()


class Lenient(Right):
    "Leaves out what does not fit"

    def load(self, file):
        with gzip.open(file, "rt", encoding="utf-8-sig", newline="") as stream:
            names, *lines = csv.reader(stream)
        lines = [line for line in lines if len(line) == len(names)]
        return torch.tensor([[float(text) for text in line] for line in lines]).T


class Unchecked(Right):
    "torch refuses lines of unequal length, and of one length it takes any"

    def load(self, file):
        with gzip.open(file, "rt", encoding="utf-8", newline="") as stream:
            _, *lines = csv.reader(stream)
        return torch.tensor([[float(text) for text in line] for line in lines]).T.contiguous()


class Raising(Right):
    "Its own __getitem__, without the sentence"

    def __getitem__(self, index):
        return self.load(Path(self.root, self.list_IDs[index] + self.suffix)), index


class Nameless(Right):
    def load(self, file):
        try:
            return super().load(file)
        except Exception:
            return torch.zeros(2, 3)


class Keeping(Right):
    def __init__(self, *args):
        super().__init__(*args)
        self.kept = []

    def load(self, file):
        self.kept.append(open(file, "rb"))
        return super().load(file)


class Handle(Right):
    def load(self, file):
        self.stream = open(file, "rb")
        self.stream.close()
        return super().load(file)


class Hoarding(Right):
    def __init__(self, *args):
        super().__init__(*args)
        self.kept = {}

    def load(self, file):
        self.kept[file] = super().load(file), torch.zeros(1000)
        return self.kept[file][0]


class NotStarted(Dataset):
    suffix = ".csv.gz"

    def load(self, file):
        raise NotImplementedError


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (Right, "✓ recordings: values, errors and pickling are right"),
        (NotStarted, "… recordings: not started"),
        (TakesNan, "a file with nan in the place of a number goes through"),
        (TakesInf, "a file with inf in the place of a number goes through"),
        (MarkTakenForText, "it has a line with more or fewer numbers than channels"),
        (Transposed, "lines × channels, asked are channels × lines"),
        (Doubles, "expected float32 of shape 2×3, you gave float64 of shape 2×3"),
        (WithHeader, "expected float32 of shape 2×3, you gave float32 of shape 2×2"),
        (Array, "expected a tensor, you gave array("),
        (Lenient, "a file with a line with too few numbers goes through as float32 of shape 2×2"),
        (Unchecked, "a file with lines that are all too short goes through as float32 of shape 1×2"),
        (Raising, "ends in ValueError, which names no ID: raise in `load`"),
        (Nameless, "a file with a word in the place of a number goes through as float32 of shape 2×3"),
        (Keeping, "of the files that you read are still open"),
        (Handle, "cannot be pickled (cannot pickle"),
        (Hoarding, "it keeps what it read"),
    ],
)
def test_verdicts(answer, said):
    assert said in repr(verdict.recordings(answer))

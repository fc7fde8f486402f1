"""Chapter 11 builds Augmented and what it needs of feedgpu/order.py: nothing less and nothing more, with
these left out:

docstrings, annotations, and what LEFT_OUT lists with what the chapter has in its place: visits that come more
than once in an epoch, which are chapter 13's; shares of several processes; samples without targets; threads
and packs; and what makes a million visits fast.

And what the chapter's exercise asks of a loader, and the pictures of its draws.
"""

import sys

import pytest
from syntax import ROOT, TAG, chapter, code_cells, members, replaced, tagged

from feedgpu.course import verdict

BUILT = {"hashed_seed", "Visit", "EpochSampler", "draws", "Augmented"}
LEFT_OUT = {
    """    __slots__ = ()
    epoch: int
    before: int

    def __new__(cls, index: int, epoch: int, before: int = 0) -> "Visit":
        return kind_of_visit(epoch, before)(index)

    def __reduce__(self) -> tuple[Any, ...]:
        return Visit, (int(self), self.epoch, self.before)
""": """    def __new__(cls, index, epoch):
        visit = int.__new__(cls, index)
        visit.epoch = epoch
        return visit

    def __reduce__(self):
        return Visit, (int(self), self.epoch)
""",
    """        if kind_of_visit.cache_info().currsize and in_a_loop():
            warnings.warn(LOST, RuntimeWarning, stacklevel=2)
""": """""",
    ", str(ID), *[index.before] * (index.before > 0))": ", str(ID))",
    """        weights: Sequence[float] | torch.Tensor | None = None,
        rank: int | None = None,
        ranks: int | None = None,
    ) -> None:
        refuse_ranks(rank, ranks)
        self.size, self.seed, self.epoch = size, int(seed), 0
        self.rank, self.ranks = rank, ranks
        self.ends = None
        if weights is not None:
            weights = torch.as_tensor(weights, dtype=torch.float64)
            if weights.dim() != 1 or not (weights.isfinite() & (weights >= 0)).all() or not weights.any():
                raise ValueError("weights must be numbers of at least 0, one a sample, and not all of them 0")
            if len(weights) != size:
                raise ValueError(f"there are {size:,} samples and {len(weights):,} weights")
            self.ends = weights.cumsum(0)
""": """    ) -> None:
        self.size, self.seed, self.epoch = size, int(seed), 0
""",
    "return -(-self.size // (self.ranks or 1))": "return self.size",
    """    def order(self) -> torch.Tensor:
        "The indices of this epoch's visits, int64"
        return self._order()[self._places() % max(1, self.size)] if self.ranks else self._order()

    def _order(self) -> torch.Tensor:
        "Of all processes together"
        generator = torch.Generator().manual_seed(self.epoch_seed)
        if self.ends is None:
            return torch.randperm(self.size, generator=generator)
        points = torch.rand(self.size, dtype=torch.float64, generator=generator) * self.ends[-1]
        # torch.multinomial, which WeightedRandomSampler uses, takes at most 2**24 samples
        return torch.searchsorted(self.ends, points, right=True).clamp_(max=self.size - 1)

    def _places(self) -> torch.Tensor:
        "In that order, which begins again at its end, those of this process"
        return torch.arange(len(self)) * (self.ranks or 1) + (self.rank or 0)

    def __iter__(self) -> Iterator[Visit]:
        if self.ends is not None:
            again = in_lists(self._order().repeat(self.ranks or 1))
            visits = numbered(chain.from_iterable(again), self.epoch)
            return islice(visits, self.rank or 0, (self.ranks or 1) * len(self), self.ranks)
        order, before = self.order(), self._places() // max(1, self.size)
        rounds = range(int(before.max()) + 1 if self.size else 0)
        return chain.from_iterable(
            map(kind_of_visit(self.epoch, number), part)
            for number in rounds
            for part in in_lists(order[before == number] if len(rounds) > 1 else order)
        )
""": """    def __iter__(self):
        epoch, generator = self.epoch, torch.Generator().manual_seed(self.epoch_seed)
        return (Visit(index, epoch) for index in torch.randperm(self.size, generator=generator).tolist())
""",
    """    def __getitem__(self, index: int) -> Any:
        "Generates one sample of data"
        return self._changed(self.dataset[index], index)

    def _changed(self, sample: Any, index: int) -> Any:
        random = draws(self.seed, self.list_IDs[index], index)
        if has_no_targets(self.dataset):
            return self.augment(sample, random)
        X, y = sample
        return self.augment(X, random), y

    def __getitems__(self, indices: list[int]) -> Sequence[Any]:
        "Generates the samples of one batch"
        if isinstance(indices, Foreseen) and (made := indices.wait()) is not None:
            return made
        if self._threads:
            return self._begin(indices).wait()
        if type(self).__getitem__ is Augmented.__getitem__ and getattr(self.dataset, "gathers", False):
            plain: Gathered = self.dataset.__getitems__(indices)
            samples = [self._changed(one, index) for one, index in zip(plain.samples(), indices, strict=True)]
        else:
            samples = [self[index] for index in indices]
        return to_stack(samples, [self.list_IDs[index] for index in indices])

    def foresee(self, batches: Iterable[list[int]]) -> Foresight:
        "As that of ImageDataset, if the dataset has threads"
        return Foresight(self._begin if self._threads else None, batches)

    @property
    def _threads(self) -> Threads | None:
        return getattr(self.dataset, "_threads", None)

    def _begin(self, indices: Sequence[int]) -> Batch:
        assert self._threads
        return Batch(self._threads, self.__getitem__, indices, self.list_IDs.__getitem__)
""": """    def __getitem__(self, index):
        X, y = self.dataset[index]
        return self.augment(X, draws(self.seed, self.list_IDs[index], index)), y

    def __getitems__(self, indices):
        samples = [self[index] for index in indices]
        return to_stack(samples, [self.list_IDs[index] for index in indices])
""",
}


def in_the_file():
    files = [(ROOT / "feedgpu" / name).read_text(encoding="utf-8") for name in ("order.py", "augmented.py")]
    return replaced("\n\n".join(files), LEFT_OUT)


def parts(source):
    return members(source, BUILT, annotations=False)


def built():
    return parts("\n".join(tagged("11", *BUILT)))


def test_the_chapter_builds_what_the_file_has():
    assert built() == parts(in_the_file())
    assert BUILT <= {name.partition(",")[0] for name in built()}


def test_no_other_cell_defines_it():
    for source, tags in code_cells("11"):
        assert {name.split(".")[0].split(",")[0] for name in parts(source)} == {
            tag.removeprefix(TAG) for tag in tags if tag.startswith(TAG)
        }


@pytest.mark.parametrize(
    ("now", "planted"),
    [
        ("digest_size=8).digest()) >> 1", "digest_size=4).digest()) >> 1"),
        ("hashed_seed(int(seed), index.epoch, str(ID))", "hashed_seed(int(seed) + index.epoch, str(ID))"),
        ("return Random()", "return Random(0)"),
        ("class Visit(int):", "class Visit(float):"),
        ("return hashed_seed(self.seed, self.epoch)", "return hashed_seed(self.epoch)"),
        ("draws(self.seed, self.list_IDs[index], index)), y", "draws(self.seed, index, index)), y"),
    ],
)
def test_a_planted_change_is_noticed(now, planted):
    assert built() != parts(replaced(in_the_file(), {now: planted}))


# The exercise

SOLUTION = """
import random
import numpy
import torch
from torch.utils.data import DataLoader
from feedgpu import EpochSampler, draws
from feedgpu.order import hashed_seed

class Drawn(torch.utils.data.Dataset):
    def __init__(self, list_IDs, seed):
        self.list_IDs, self.seed, self.epoch = list_IDs, seed, 0
        self.rng = numpy.random.default_rng(seed)

    def __len__(self):
        return len(self.list_IDs)

    def __getitem__(self, index):
        ID = self.list_IDs[index]
        own = draws(self.seed, ID, index)
        crop, mirror, brightness = own.random(), own.random(), own.random()
        return ID, torch.tensor([crop, mirror, brightness], dtype=torch.float64)

def same_seed(worker):
    numpy.random.seed(0)

def epochs(list_IDs, seed, num_workers, first=0, last=3):
    sampler = EpochSampler(len(list_IDs), seed)
    workers = {"num_workers": num_workers, "persistent_workers": num_workers > 0}
    loader = DataLoader(Drawn(list_IDs, seed), 4, sampler=sampler, **workers)
    for epoch in range(first, last):
        loader.dataset.epoch = epoch
        sampler.set_epoch(epoch)
        yield list(loader)
"""
DRAWN = "crop, mirror, brightness = own.random(), own.random(), own.random()"
WRONG = {  # what is written in place of what, and what the verdict says of it
    "a copy of one generator": (
        "mirror, brightness = own.random()",
        "mirror, brightness = self.rng.random()",
    ),
    "a constant seed": (
        "own.random()\n",
        "numpy.random.random()\n",
        "**workers)",
        "worker_init_fn=same_seed, **workers)",
    ),
    "dataset.epoch": ("own = draws(self.seed, ID, index)", "own = random.Random(f'{self.epoch} {ID}')"),
    "a sum": ("own.random()\n", "random.Random(index.epoch + index).random()\n"),
    "a sum with the seed": (
        "own = draws(self.seed, ID, index)",
        "own = random.Random(hashed_seed(self.seed + index.epoch, ID))",
    ),
    "no seed": ("draws(self.seed, ID, index)", "draws(0, ID, index)"),
    "torch.rand": ("own.random()\n", "torch.rand((), dtype=torch.float64)\n"),
    "the index": ("draws(self.seed, ID, index)", "draws(self.seed, str(index), index)"),
    "hash": (
        "own = draws(self.seed, ID, index)",
        "own = random.Random(hash((self.seed, index.epoch, ID)))",
    ),
    "one number thrice": (
        DRAWN,
        "crop, mirror, brightness = (draws(self.seed, ID, index).random() for _ in range(3))",
    ),
    "an order of each epoch": ("sampler.set_epoch(epoch)", "sampler.set_epoch(0)"),
    "no epoch": ("sampler=sampler", "shuffle=True"),
    "a batch lost": ("sampler=sampler,", "sampler=sampler, drop_last=True,"),
    "two numbers": ("[crop, mirror, brightness]", "[crop, mirror]"),
    "nothing": ("yield list(loader)", "pass"),
}
SAID = {
    "a copy of one generator": "crop: with 2 workers 66 draws, 36 different: both workers draw the same",
    "a constant seed": "brightness: with 2 workers 66 draws, 36 different: both workers draw the same",
    "dataset.epoch": "brightness: with 2 workers 66 draws, 22 different: a sample draws the same",
    "a sum": "brightness: with 2 workers 66 draws, 24 different: other samples or epochs have the same seed",
    "a sum with the seed": "mirror, brightness: runs with the seeds 0 and 1 share 44 of 66 draws: as a sum",
    "no seed": "crop, mirror, brightness: runs with the seeds 0 and 1 share 66 of 66 draws: the seed is not",
    "torch.rand": "brightness: 66 of 66 draws differ when the same run is made again",
    "the index": "draws differ with the same IDs in another order",
    "hash": "crop, mirror, brightness: 22 of 22 draws differ in another process",
    "one number thrice": "the three numbers of a sample are not three",
    "an order of each epoch": "brightness: with 2 workers 66 draws, 22 different: a sample draws the same",
    "no epoch": "crop, mirror, brightness: 66 of 66 draws differ when the same run is made again",
    "a batch lost": "expected epochs 0 to 2, each with all 22 IDs; of (epoch, ID) ",
    "two numbers": "expected 4×3 numbers for 4 IDs, not (4, 2)",
    "nothing": "NoneType",
}


def said_of(folder, source):
    script = folder / "mended.py"
    script.write_text(source, encoding="utf-8")
    return verdict.repeatable(script).sentence


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)  # as the chapter does, for workers
    yield tmp_path
    sys.modules.pop("mended", None)


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_loader_is_told_why(folder, what):
    source = SOLUTION
    for now, instead in zip(WRONG[what][::2], WRONG[what][1::2], strict=True):
        assert source.count(now) == 1
        source = source.replace(now, instead)
    sentence = said_of(folder, source)
    assert sentence.startswith("✗ repeatable: ") and SAID[what] in sentence


def test_another_right_loader_passes(folder):
    by_hand = "own = random.Random(f'{self.seed} {index.epoch} {ID}')"
    assert said_of(folder, SOLUTION.replace("own = draws(self.seed, ID, index)", by_hand)).startswith("✓")


def test_as_it_is_left_open_each_number_has_its_fault(folder):
    source = exercise()
    assert said_of(folder, source).startswith("… repeatable: not started")
    sentence = said_of(folder, source.replace("raise NotImplementedError\n", ""))
    both, mirror = sentence.split(". ")
    assert "crop, brightness: " in both and "both workers" in both
    assert mirror.startswith("mirror: ") and "nobody tells it of the next one" in mirror


def exercise():
    "The cell, without the line that says in which file it is written"
    (cell,) = (cell for cell in chapter("11").cells if "exercise:repeatable" in cell.metadata.get("tags", []))
    return cell.source.split("\n", 1)[1]


def test_a_file_that_another_python_cannot_run_is_told(folder):
    source = SOLUTION + "\nimport os\nif 'mended' not in str(globals().get('__spec__')) or os.environ.get("
    source += "'PYTHONHASHSEED') == 'random':\n    raise OSError('not here')\n"
    assert "in a Python of its own, without workers, your file ends in: 'OSError: not here'" in said_of(
        folder, source
    )


# Pictures

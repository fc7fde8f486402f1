"""Chapter 11 builds `hashed_seed`, `Visit`, `EpochSampler`, `draws` and `Augmented` in their shortest form.

The package's have more in them: visits that come again in an epoch, shares of several processes, samples
without targets, threads, and what makes a million visits fast. So what both do is compared: the same order,
the same draws, the same samples.

And what the chapter's exercise asks of a loader, and the pictures of its draws.
"""

import sys
from random import Random

import pytest
import torch
from syntax import TAG, chapter, code_cells, members, replaced, tagged

import feedgpu
from feedgpu.course import verdict
from feedgpu.order import hashed_seed

BUILT = {"hashed_seed", "Visit", "EpochSampler", "draws", "Augmented"}
PACKAGE = {name: getattr(feedgpu, name) for name in BUILT - {"hashed_seed"}} | {"hashed_seed": hashed_seed}
IDs = [f"id-{i}" for i in range(24)]


def built(changes=None):
    "What the chapter's cells define, after these changes to their text"
    names = {"torch": torch, "Random": Random}
    exec(replaced("\n".join(tagged("11", *BUILT)), changes or {}), names)
    return names


def works(names):
    "What is seen of it"
    hashed, Visit, EpochSampler, draws, Augmented = (
        names[name] for name in ("hashed_seed", "Visit", "EpochSampler", "draws", "Augmented")
    )
    found = [hashed(0, 1), hashed("a", 1.5), hashed(5, "id-7"), Visit(7, 2) == 7, Visit(7, 2).epoch]
    for seed in range(2):
        sampler = EpochSampler(24, seed)
        dataset = Augmented([(i, -i) for i in range(24)], IDs, lambda X, random: X + random.random(), seed)
        for epoch in range(2):
            sampler.set_epoch(epoch)
            visits = list(sampler)
            found += [len(sampler), sampler.epoch_seed, visits, [visit.epoch for visit in visits]]
            found += [[draws(seed, IDs[visit], visit).random() for visit in visits]]
            found += [[dataset[visit] for visit in visits], list(dataset.__getitems__(visits[:5]))]
    return [*found, len(dataset), draws(0, "id-3", 3).random() == draws(0, "id-3", 3).random()]


def test_what_the_chapter_builds_does_what_the_packages_do():
    assert works(built()) == works(PACKAGE)


def test_no_other_cell_defines_it():
    for source, tags in code_cells("11"):
        defined = members(source, BUILT, annotations=False)
        assert {name.split(".")[0].split(",")[0] for name in defined} == {
            tag.removeprefix(TAG) for tag in tags if tag.startswith(TAG)
        }


@pytest.mark.parametrize(
    ("now", "planted"),
    [
        ("digest_size=8", "digest_size=4"),
        ("hashed_seed(int(seed), index.epoch, str(ID))", "hashed_seed(int(seed) + index.epoch, str(ID))"),
        ("return Random()", "return Random(0)"),
        ("class Visit(int):", "class Visit(float):"),
        ("return hashed_seed(self.seed, self.epoch)", "return hashed_seed(self.epoch)"),
        ("draws(self.seed, self.list_IDs[index], index)), y", "draws(self.seed, index, index)), y"),
        ("Visit(index, epoch)", "Visit(index, 0)"),
    ],
)
def test_a_planted_change_is_noticed(now, planted):
    try:
        assert works(built({now: planted})) != works(PACKAGE)
    except TypeError:
        pass  # a float is no index


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

"""A dataset is written whole or not at all, whatever happens."""

import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest
import torch

from feedgpu import DatasetError, load_notation, read_sample
from feedgpu.notation import file_of
from feedgpu.prepare import Source, Unreadable, layout, synthetic, write
from feedgpu.prepare.commit import recover, sole_writer
from my_classes import Dataset

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]


def source(value, IDs, classes=None, unreadable=()):
    "A dataset of which each sample is `value`; the last ID is for validation"

    def read(ID):
        if ID in unreadable:
            raise Unreadable(f"{ID}.jpg: it is torn")
        return torch.full((2, 3), value)

    labels = {ID: y for y, ID in enumerate(IDs)}
    return Source({"train": IDs[:-1], "validation": IDs[-1:]}, labels, classes, read)


OLD = source(1.0, ["both", "deep/er/both", "old/1", "old/2"], ["a", "b", "c", "d"])
NEW = source(2.0, ["new/deep/1", "deep/er/both", "both"])
NEW_FILES = ["both.pt", "deep/er/both.pt", "labels.json", "new/deep/1.pt", "partition.json"]


def tree(root):
    "Everything in a folder, empty folders too"
    found = [path for path in root.rglob("*") if path.is_file() or not any(path.iterdir())]
    return sorted(path.relative_to(root).as_posix() for path in found)


def holds(root, source):
    "Whether the dataset in `root` is `source`, to the last value"
    partition, labels = load_notation(root)
    return (
        partition == source.partition
        and labels == source.labels
        and (root / "classes.json").exists() == (source.classes is not None)
        and all(torch.equal(read_sample(file_of(ID, root)), source.read(ID)) for ID in labels)
    )


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "README.md").write_text("mine")
    return folder


@pytest.fixture
def without_case(monkeypatch):
    "As on a disk that does not tell A from a: what is written under one name is there under the other"

    def written(work):
        def under_both_names(what, file):
            work(what, file)
            other = file.with_stem(file.stem.swapcase())
            if not other.exists():
                os.link(file, other)

        return under_both_names

    monkeypatch.setattr(layout, "save", written(layout.save))
    return written


# What is written


def test_layout_of_a_dataset(root):
    assert write(OLD, root) == (OLD.partition, OLD.labels)
    files = ["both.pt", "classes.json", "deep/er/both.pt", "labels.json", "old/1.pt", "old/2.pt"]
    assert tree(root) == ["README.md", *files, "partition.json"]
    assert holds(root, OLD)


@pytest.mark.parametrize("kept", [False, True], ids=["tensors", "files"])
def test_ids_that_one_disk_takes_for_one_overwrite_nothing(root, without_case, kept):
    write(OLD, root)
    IDs = ["cat", "deep/dog", "deep/DOG", "deep/else"]
    keep = without_case(lambda ID, file: file.write_text(ID)) if kept else None
    torn = replace(source(2.0, IDs), keep=keep)
    with pytest.raises(DatasetError, match="^2 IDs with one and the same file.*: 'deep/dog', 'deep/DOG'$"):
        write(torn, root, force=True)
    assert holds(root, OLD)


@pytest.mark.parametrize(
    "X",
    [torch.rand(9, 4)[0], torch.rand(4, 9).T, torch.rand(4, requires_grad=True), torch.rand(1).expand(4)],
    ids=["view", "transposed", "requires_grad", "expanded"],
)
def test_each_sample_owns_its_storage(root, X):
    write(Source({"train": ["a"], "validation": ["b"]}, {"a": 0, "b": 1}, None, lambda ID: X), root)
    read = read_sample(root / "a.pt")
    assert torch.equal(read, X) and read.is_contiguous() and not read.requires_grad
    assert read.untyped_storage().nbytes() == read.nbytes


def test_a_dataset_is_overwritten_only_by_force(root):
    write(OLD, root)
    with pytest.raises(DatasetError, match="holds a dataset: overwrite it with --force"):
        write(NEW, root)
    assert holds(root, OLD)
    write(NEW, root, force=True)
    assert holds(root, NEW)
    assert tree(root) == ["README.md", *NEW_FILES]


@pytest.mark.parametrize("name", ["both.pt", "labels.json", "classes.json"])
def test_a_file_of_no_dataset_is_overwritten_only_by_force(root, name):
    (root / name).write_text("mine")
    with pytest.raises(DatasetError, match=f"{name} would be overwritten and belongs to no dataset"):
        write(NEW, root)
    assert tree(root) == sorted(["README.md", name]) and (root / name).read_text() == "mine"
    if name != "classes.json":
        write(NEW, root, force=True)
        assert holds(root, NEW)


def test_threads_are_as_before(root):
    before = torch.get_num_threads()
    write(OLD, root)
    assert torch.get_num_threads() == before


# What is refused


@pytest.mark.parametrize("ID", ["../x", "/x", "a/../../x", "", 7])
def test_an_id_that_leads_out_is_refused(root, ID):
    with pytest.raises(DatasetError, match="is no ID"):
        write(source(1.0, [ID, "b"]), root)
    assert tree(root) == ["README.md"]


@pytest.mark.parametrize("IDs", [["a", "a"], ["a/b", "a//b"], ["a", "./a"]])
def test_two_ids_of_one_file_are_refused(root, IDs):
    with pytest.raises(DatasetError, match="more than one ID"):
        write(source(1.0, [*IDs, "z"]), root)


def test_an_id_among_the_files_being_written_is_refused(root):
    with pytest.raises(
        DatasetError, match="in .incoming, .packing, packed, where feedgpu writes: '.incoming/a'"
    ):
        write(source(1.0, [".incoming/a", "b"]), root)


@pytest.mark.parametrize("y", [-1, "cat", True, None])
def test_a_label_that_is_no_class_is_refused(root, y):
    labels = {"a": 0, "b": y}
    with pytest.raises(DatasetError, match="1 ID with a label that is not an integer of at least 0: 'b'"):
        write(Source({"train": ["a"], "validation": ["b"]}, labels, None, OLD.read), root)
    assert tree(root) == ["README.md"]


def test_an_empty_partition_is_refused(root):
    with pytest.raises(DatasetError, match="no sample for 'validation'"):
        write(Source({"train": ["a"], "validation": []}, {"a": 0}, None, OLD.read), root)


def test_a_folder_in_the_way_is_refused_even_by_force(root):
    write(OLD, root)
    (root / "new/deep/1.pt").mkdir(parents=True)
    with pytest.raises(DatasetError, match="1.pt is a folder where a sample is to be written"):
        write(NEW, root, force=True)
    assert holds(root, OLD)


def test_a_file_for_a_folder_is_refused(tmp_path):
    (tmp_path / "data").write_text("mine")
    with pytest.raises(DatasetError, match="is a file: choose a folder"):
        write(NEW, tmp_path / "data")


def test_nothing_is_written_into_the_folder_that_is_read(tmp_path):
    inside = Source(NEW.partition, NEW.labels, None, NEW.read, origin=tmp_path)
    for root in (tmp_path, tmp_path / "a/b"):
        with pytest.raises(DatasetError, match="which is to be read"):
            write(inside, root)
    assert tree(tmp_path) == []


def test_a_second_writer_is_refused(root):
    with sole_writer(root), pytest.raises(DatasetError, match="another process is writing"):
        write(NEW, root)
    write(NEW, root)


# Samples that cannot be read


def test_all_unreadable_samples_are_named_and_nothing_is_written(root):
    write(OLD, root)
    torn = source(2.0, ["a", "b", "c", "d"], unreadable=["a", "c"])
    with pytest.raises(DatasetError, match=r"2 of 4 samples .*--skip-unreadable\na.jpg: it is torn\nc.jpg:"):
        write(torn, root, force=True)
    assert holds(root, OLD) and not (root / ".incoming").exists()


def test_unreadable_samples_are_left_out_if_so_wished(root):
    partition, labels = write(source(2.0, ["a", "b", "c"], unreadable=["a"]), root, skip_unreadable=True)
    assert partition == {"train": ["b"], "validation": ["c"]} and labels == {"b": 1, "c": 2}
    assert load_notation(root) == (partition, labels) and not (root / "a.pt").exists()


def test_leaving_out_must_leave_samples_to_validate(root):
    with pytest.raises(DatasetError, match="no sample for 'validation'"):
        write(source(2.0, ["a", "b", "c"], unreadable=["c"]), root, skip_unreadable=True)


# Old datasets that are odd


def test_nothing_outside_is_deleted(root):
    write(OLD, root)
    (root.parent / "victim.pt").write_text("mine")
    (root / "partition.json").write_text('{"train": ["../victim", "old/1", 7, {}], "validation": 3}')
    write(NEW, root, force=True)
    assert (root.parent / "victim.pt").exists() and not (root / "old/1.pt").exists()


def test_what_lies_behind_a_link_is_neither_deleted_nor_overwritten(root):
    shared = root.parent / "shared"
    shared.mkdir()
    write(OLD, root)
    (root / "old/1.pt").rename(shared / "1.pt")
    (root / "old/2.pt").rename(shared / "2.pt")
    (root / "old").rmdir()
    (root / "old").symlink_to(shared)
    with pytest.raises(DatasetError, match="behind a link that leads out of .*: 'old/1'"):
        write(source(3.0, ["old/1", "b"]), root, force=True)
    assert holds(root, OLD)
    write(NEW, root, force=True)
    assert tree(shared) == ["1.pt", "2.pt"] and holds(root, NEW)


@pytest.mark.parametrize("text", ["", "[1, 2", "[" * 100_000, "[]", '{"train": 3}', "\ud800"])
def test_a_damaged_partition_can_be_overwritten(root, text):
    write(OLD, root)
    (root / "partition.json").write_bytes(text.encode(errors="surrogatepass"))
    with pytest.raises(DatasetError, match="holds a dataset"):
        write(NEW, root)
    write(NEW, root, force=True)
    assert holds(root, NEW)


@pytest.mark.parametrize("ID", ["\ud800", "x" * 300, "README.md/x"])
def test_an_old_id_that_can_be_no_file_does_no_harm(root, ID):
    write(OLD, root)
    source_of_json = {"train": [ID, "old/1"], "validation": []}
    layout.write_json(source_of_json, root / "partition.json")
    write(NEW, root, force=True)
    assert holds(root, NEW) and not (root / "old/1.pt").exists()


def test_packed_samples_may_have_been_deleted(root):
    write(OLD, root)
    (root / "both.pt").unlink()
    write(NEW, root, force=True)
    assert holds(root, NEW)


# Killed at each step


def run_killed(dies, steps, root):
    "Writes NEW by force and dies before step number `steps`; False if it was through before"
    changing = [(os, name) for name in ("mkdir", "replace", "rmdir", "unlink")]
    return dies(steps, lambda: write(NEW, root, force=True), *changing, (layout, "save"))


def state(root):
    "none, old or new; anything else fails"
    if not (root / "partition.json").exists():
        return "none"
    if holds(root, NEW):
        return "new"
    assert holds(root, OLD)
    return "old"


@pytest.mark.parametrize("first", ["nothing", "old"])
def test_killed_before_each_step(tmp_path, dies, first):
    seen = []
    for steps in count():
        root = tmp_path / str(steps)
        root.mkdir()
        (root / "README.md").write_text("mine")
        if first == "old":
            write(OLD, root)
        if not run_killed(dies, steps, root):
            break
        seen.append(state(root))
        recover(root)  # as the next run does at first: with the old one gone, it ends what was begun
        if first == "old":
            assert state(root) == seen[-1].replace("none", "new")
        write(NEW, root, force=True)
        assert holds(root, NEW) and tree(root) == ["README.md", *NEW_FILES]
    # Once the old one is gone it does not come back, and once the new one is there it stays
    expected = ["old", "none", "new"] if first == "old" else ["none", "new"]
    assert [name for i, name in enumerate(seen) if i == 0 or name != seen[i - 1]] == expected
    assert len(seen) > 20


def test_killed_while_clearing_after_a_kill(tmp_path, dies):
    for steps in range(12, 32, 2):
        for more in range(0, 26, 2):
            root = tmp_path / f"{steps}-{more}"
            root.mkdir()
            write(OLD, root)
            run_killed(dies, steps, root)
            run_killed(dies, more, root)
            write(NEW, root, force=True)
            assert holds(root, NEW) and tree(root) == NEW_FILES


def test_killed_for_real_at_random_moments(root):
    # In an interpreter of its own, because forking one with threads, as pytest's may be, is unsafe
    code = f"import sys; sys.path.insert(0, {str(HERE)!r}); import test_layout; test_layout.kill_writers()"
    done = subprocess.run([sys.executable, "-c", code, root], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    write(NEW, root, force=True)
    assert holds(root, NEW) and tree(root) == ["README.md", *NEW_FILES]


def kill_writers():
    "Twenty writers of as many datasets, the next over what the last one left, each killed at some moment"
    root = Path(sys.argv[1])
    there, seconds = 0, None
    for seed in range(21):
        start = time.perf_counter()
        writer = os.fork()
        if writer == 0:
            write(synthetic(200, (1, 4, 4), seed=seed), root, force=True)
            os._exit(0)
        if seconds is not None:  # the first one is only timed
            time.sleep(random.uniform(0, 1.1 * seconds))
            os.kill(writer, signal.SIGKILL)
        assert os.waitstatus_to_exitcode(os.waitpid(writer, 0)[1]) in (0, -signal.SIGKILL)
        seconds = seconds or time.perf_counter() - start
        if (root / "partition.json").exists():  # of this writer, or ended by it, or as it was before
            news = [new for new in range(there, seed + 1) if holds(root, synthetic(200, (1, 4, 4), seed=new))]
            assert len(news) == 1
            there = news[0]


# Stopped


def test_ctrl_c_leaves_the_old_dataset(root):
    write(OLD, root)
    command = [sys.executable, "-m", "feedgpu", "prepare", "synthetic", "--samples", "20000", "--force"]
    process = subprocess.Popen(
        [*command, "--shape", "1", "2", "2", "--data", root], cwd=ROOT, stderr=subprocess.PIPE, text=True
    )
    while not any(root.glob(".incoming/samples/*.pt")):
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    assert process.communicate()[1].strip() == f"Stopped by Ctrl-C: {root} is as it was, or new and whole."
    assert process.returncode == 130
    assert holds(root, OLD) and not (root / ".incoming").exists()


def test_ctrl_c_leaves_no_folder_that_was_not_there(tmp_path):
    def read(ID):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(Source(NEW.partition, NEW.labels, None, read), tmp_path / "data")
    assert tree(tmp_path) == []


def test_ctrl_c_in_a_commit_takes_effect_at_its_end(root, monkeypatch):
    replace = os.replace

    def interrupted(*args):
        signal.raise_signal(signal.SIGINT)
        replace(*args)

    def commit(root):
        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", interrupted)
            real(root)

    real = layout.commit
    monkeypatch.setattr(layout, "commit", commit)
    with pytest.raises(KeyboardInterrupt):
        write(NEW, root)
    assert holds(root, NEW)
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_a_full_disk_leaves_the_old_dataset(tmp_path):
    alone = ["unshare", "-m" if os.geteuid() == 0 else "-rm"]
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(tmp_path)]
    try:
        tried = subprocess.run([*alone, *mount], capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("there is no unshare here to mount a small disk with")
    if tried.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {tried.stderr.strip()}")
    code = f"""
import sys
from pathlib import Path
sys.path.insert(0, {str(HERE)!r})
from test_layout import DatasetError, OLD, holds, synthetic, tree, write
root = Path({str(tmp_path)!r}) / "data"
write(OLD, root)
before = tree(root)
try:
    write(synthetic(100, (3, 100, 100)), root, force=True)
except DatasetError as error:
    print(error)
assert holds(root, OLD) and tree(root) == before
write(synthetic(10, (3, 100, 100), classes=2), root, force=True)
"""
    in_shell = " ".join(mount) + f' && exec {sys.executable} -c "$0"'
    done = subprocess.run([*alone, "sh", "-c", in_shell, code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "No space left on device: free some space" in done.stdout
    assert "the dataset that was there is untouched" in done.stdout


# Folders from others


def staged(root):
    "A folder in which a dataset was written and not moved into place: samples sub/a and sub/b"
    samples = root / ".incoming" / "samples" / "sub"
    samples.mkdir(parents=True)
    for ID in ("a", "b"):
        torch.save(torch.ones(3), samples / f"{ID}.pt")
    layout.write_json({"sub/a": 0, "sub/b": 0}, root / ".incoming" / "labels.json")
    layout.write_json({"train": ["sub/a"], "validation": ["sub/b"]}, root / ".incoming" / "partition.json")
    return samples


def test_what_was_staged_is_not_moved_through_a_link(tmp_path, root):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    staged(root)
    (root / "sub").symlink_to(elsewhere)
    with pytest.raises(DatasetError, match="sub leads elsewhere: delete .*incoming"):
        write(NEW, root)
    assert list(elsewhere.iterdir()) == [] and (root / ".incoming/samples/sub/a.pt").exists()


def test_what_was_staged_is_not_taken_from_behind_a_link(tmp_path, root):
    elsewhere = tmp_path / "elsewhere"
    samples = staged(root)
    samples.rename(elsewhere)
    samples.symlink_to(elsewhere)
    with pytest.raises(DatasetError, match="leads elsewhere: delete .*incoming"):
        write(NEW, root)
    assert sorted(file.name for file in elsewhere.iterdir()) == ["a.pt", "b.pt"]
    samples.unlink()
    samples.mkdir()
    for ID in ("a", "b"):
        (samples / f"{ID}.pt").symlink_to(elsewhere / f"{ID}.pt")
    with pytest.raises(DatasetError, match="a.pt leads elsewhere: delete .*incoming"):
        write(NEW, root)
    assert sorted(file.name for file in elsewhere.iterdir()) == ["a.pt", "b.pt"]


@pytest.mark.parametrize("name", [".incoming", ".packing"])
def test_a_folder_of_feedgpu_that_is_a_link_is_refused(tmp_path, root, name):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "precious").touch()
    (root / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DatasetError, match=f"{name} is a link, where feedgpu keeps what it is writing"):
        write(NEW, root)
    assert [file.name for file in (tmp_path / "elsewhere").iterdir()] == ["precious"]


def test_what_an_unfinished_commit_needs_is_said(root):
    staged(root)
    with pytest.raises(DatasetError, match="it has no partition.json, for one is being written: wait, or"):
        load_notation(root)


def test_a_dataset_that_is_replaced_is_noticed_by_who_reads_it(root):
    "No sample of the new one gets a label of the old one"
    write(OLD, root)
    partition, labels = load_notation(root)
    old = Dataset(partition["train"], labels, root)
    assert torch.equal(old[0][0], OLD.read("both"))
    write(NEW, root, force=True)
    with pytest.raises(DatasetError, match="partition.json has changed while its dataset was in use: begin"):
        old[0]


def test_a_class_called_packed_is_refused(root):
    with pytest.raises(
        DatasetError, match="in .incoming, .packing, packed, where feedgpu writes: 'packed/1'"
    ):
        write(source(1.0, ["packed/1", "b", "c"]), root)


def test_memory_does_not_grow_with_the_dataset(tmp_path):
    code = """
import resource, sys
from feedgpu.command import main
main(["prepare", "synthetic", "--samples", sys.argv[1], "--shape", "3", "224", "224", "--data", sys.argv[2]])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
    peaks = []
    for samples in (200, 2000):
        command = [sys.executable, "-c", code, str(samples), str(tmp_path / str(samples))]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        peaks.append(int(done.stdout.split()[-1]) / 1024)
    # MiB; the 1,800 more samples are 260 MiB
    assert peaks[1] - peaks[0] < 25

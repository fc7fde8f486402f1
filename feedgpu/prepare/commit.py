"""Puts a new dataset in the place of an old one, so that a kill leaves no mixture, and one of the two.

Everything is first written into `.incoming/`, the samples into its folder `samples`, or all of them into one
pack, its folder `packed`; its partition.json last.
Only then `commit` takes the old dataset away and moves the new one in:

    1. the old partition.json moves to .incoming/replaced.json: from here on there is no dataset
    2. the old files and the old pack are deleted, the new ones move into place
    3. .incoming/partition.json moves to its place: from here on there is the new dataset

A process that is killed leaves the old dataset before 1 and the new one after 3. In between there is none,
but all that is needed to go on: the next run's `recover` does the rest, and then there is the new one.

The samples of the one may be tensors, `<ID>.pt`, and those of the other files that were kept as they are,
`<ID>`: .incoming/suffixes.json says which.
"""

import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..notation import LEADS_OUT, DatasetError, file_of, without_file
from ..outside import read_json

try:
    import fcntl
except ImportError:  # Windows: two writers at once are not noticed there
    fcntl = None  # type: ignore[assignment]

INCOMING, SAMPLES, PACKING = ".incoming", "samples", ".packing"


def commit(root: Path) -> None:
    """Puts what lies ready in `.incoming/` in the place of the dataset in `root`, if there is one; or goes on
    with that where a process that was killed had stopped."""
    incoming = root / INCOMING
    new, suffixes = listed_in(incoming / "partition.json"), suffixes_in(incoming)
    refuse_links(root, new, suffixes["new"])
    if (root / "partition.json").exists():
        os.replace(root / "partition.json", incoming / "replaced.json")
    if (incoming / "labels.json").exists():  # else everything before it has been done
        kept = {file_of(ID, root, suffixes["new"]) for ID in new}
        replaced = {file_of(ID, root, suffixes["old"]) for ID in listed_in(incoming / "replaced.json")}
        delete(replaced - kept, root)
    for ID in new:
        file, target = (file_of(ID, folder, suffixes["new"]) for folder in (incoming / SAMPLES, root))
        if file.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(file, target)
    for name in ("labels.json", "packed", "classes.json", "partition.json"):
        if (incoming / name).exists():
            os.replace(incoming / name, root / name)
    shutil.rmtree(incoming)


def refuse_links(root: Path, IDs: list[str], suffix: str) -> None:
    """Raises DatasetError where what is staged would be moved through a link, or is one: who gave us the
    folder may have put it there."""
    incoming = root / INCOMING
    staged = [file_of(ID, incoming / SAMPLES, suffix) for ID in IDs]
    names = ("labels.json", "packed", "classes.json", "partition.json", "replaced.json")
    staged += [incoming / name for name in names]
    folders = folders_of([*staged, *(file_of(ID, root, suffix) for ID in IDs)], root)
    astray = [folder for folder in sorted(folders) if not lies_in(folder, root)]
    if found := astray + [file for file in staged if file.is_symlink()]:
        raise DatasetError(
            f"{incoming} holds a dataset that was not moved into place, and {found[0]} leads elsewhere: "
            f"delete {incoming}"
        )


def refuse_link(folder: Path) -> None:
    "Raises DatasetError for a folder of feedgpu's own, in which it writes and deletes, that is a link"
    if folder.is_symlink():
        raise DatasetError(f"{folder} is a link, where feedgpu keeps what it is writing: delete the link")


def recover(root: Path) -> None:
    """Takes away what a writer that ended before its commit has left, or ends the commit; a dataset that is
    there stays. `.incoming/partition.json` exists from the end of the writing to the end of the commit."""
    incoming = root / INCOMING
    for folder in (incoming, incoming / SAMPLES, root / PACKING):
        refuse_link(folder)
    if not (root / "partition.json").exists() and is_whole(incoming):
        commit(root)
    elif incoming.exists():
        shutil.rmtree(incoming)


def is_whole(incoming: Path) -> bool:
    "Whether a dataset lies ready there: its partition.json lists samples, or says that they are in the pack"
    try:
        partition = read_json(incoming / "partition.json")
    except (OSError, ValueError):
        return False
    packed = isinstance(partition, dict) and isinstance(partition.get("packed"), dict)
    return packed or bool(listed_in(incoming / "partition.json"))


def listed_in(file: Path) -> list[str]:
    "The IDs in a partition.json that name a file inside the folder; none if it is missing or damaged"
    try:
        partition = read_json(file)
    except (OSError, ValueError):
        return []
    lists = partition.values() if isinstance(partition, dict) else []
    IDs = [ID for IDs in lists if isinstance(IDs, list) for ID in IDs if isinstance(ID, str)]
    return [ID for ID in IDs if not LEADS_OUT.search(ID)]


def suffixes_in(incoming: Path) -> dict[str, str]:
    "Those of the samples' files, of the new dataset and of the old one"
    try:
        found = read_json(incoming / "suffixes.json")
    except (OSError, ValueError):
        found = {}
    known = found if isinstance(found, dict) else {}
    return {which: "" if known.get(which) == "" else ".pt" for which in ("new", "old")}


def suffix_of(root: str | Path, IDs: list[str]) -> str:
    """Of the files of a dataset's samples: ".pt", or "" for files that were kept as they are.

    That of which there are more; if there are none, it is a packed one of tensors.
    """
    IDs = [ID for ID in IDs if isinstance(ID, str) and not LEADS_OUT.search(ID)]
    return min((".pt", ""), key=lambda suffix: len(without_file(IDs, root, suffix)))


def delete(files: set[Path], root: Path) -> None:
    """Deletes the samples, the lists and the pack of a dataset, and the folders that this empties.

    What lies behind a link that leads out of the folder may be used by others, and stays.
    """
    own = {folder for folder in folders_of(files, root) if lies_in(folder, root)} | {root}
    for file in (*files, root / "labels.json", root / "classes.json"):
        if file.parent in own and (os.path.isfile(file) or os.path.islink(file)):
            file.unlink()
    drop_pack(root)
    for folder in sorted(own - {root}, key=lambda folder: len(folder.parts), reverse=True):
        with suppress(OSError):  # it is not empty, or not there
            folder.rmdir()


def drop_pack(root: Path) -> None:
    """Deletes the pack of a dataset that is going, and what an unfinished `pack` has left of one. A pack that
    lies elsewhere, behind a link, only loses the link."""
    if (root / PACKING).exists():  # it may hold the old pack, which the next `pack` would put back
        shutil.rmtree(root / PACKING)
    packed = root / "packed"
    if not (packed / "manifest.json").is_file():
        return
    if packed.is_symlink():
        packed.unlink()
    else:  # in one step: what a kill leaves is a pack, or goes with the rest of what was to be written
        os.replace(packed, root / INCOMING / ".replaced")


def folders_of(files: Iterable[Path], root: Path) -> set[Path]:
    "All folders between `root` and the files"
    lowest = {file.parent for file in files}
    return {folder for low in lowest for folder in (low, *low.parents) if root in folder.parents}


def lies_in(folder: Path, root: Path) -> bool:
    "Whether it does when all links are followed; not if its name is none that the system could use"
    try:
        return folder.resolve().is_relative_to(root.resolve())
    except (OSError, ValueError, RuntimeError):
        return False


@contextmanager
def sole_writer(root: Path) -> Iterator[None]:
    "Makes the folder if need be and keeps other writers out; a killed one keeps nobody out"
    made = not root.exists()
    root.mkdir(parents=True, exist_ok=True)
    lock = os.open(root, os.O_RDONLY) if fcntl else -1
    try:
        if fcntl:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise DatasetError(f"another process is writing into {root}: wait for its end") from None
            except OSError:
                pass  # some network file systems know no locks
        yield
    except BaseException:
        if made:
            with suppress(OSError):  # it is not empty
                root.rmdir()
        raise
    finally:
        if fcntl:
            os.close(lock)

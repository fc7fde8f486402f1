"""What is asked of chapter 12's exercise: a Dataset for a new kind of source file."""

import gzip
import pickle
import tempfile
from pathlib import Path

import psutil
import torch

from ...notation import DatasetError
from ...sample import describe
from ..verdicts import exercise, short

# Text of a file, and the numbers it holds, channels × lines
GOOD = {
    "kitchen/1": ("temperature,humidity\n20.5,40\n21,41.5\n-0.25,39\n", [[20.5, 21, -0.25], [40, 41.5, 39]]),
    "cellar.2": ("x,y,z\r\n1e-3,2,3\r\n4,5,6\r\n", [[0.001, 4], [2, 5], [3, 6]]),
    "one channel": ("a\n1\n2\n3\n", [[1, 2, 3]]),
    "one line": ('"a, in volts",b\n7,-8\n', [[7], [-8]]),
    "with a byte-order mark": ('\ufeff"t, in C",p\r\n1,2\r\n', [[1], [2]]),
}
DAMAGED = {
    "a word in the place of a number": "a,b\n1,2\n3,four\n",
    "a line with too few numbers": "a,b\n1,2\n3\n5,6\n",
    "a line with too many numbers": "a,b\n1,2\n3,4,5\n",
    "lines that are all too short": "a,b\n1\n2\n",
    "an empty place": "a,b\n1,\n3,4\n",
    "nan in the place of a number": "a,b\n1,2\n3,nan\n",
    "inf in the place of a number": "a,b\n1,2\n3,inf\n",
}


@exercise(seconds=30)
def recordings(answer):
    "values, errors and pickling are right"
    with tempfile.TemporaryDirectory(prefix="feed-") as folder:
        for ID, (text, _) in GOOD.items():
            write(folder, ID, gzip.compress(text.encode()))
        labels = {ID: i for i, ID in enumerate(GOOD)}
        answer(list(GOOD), labels, folder).load(Path(folder, "kitchen/1.csv.gz"))  # what it raises is shown
        dataset = answer(list(GOOD), labels, folder)
        fault = fault_of_values(dataset) or fault_of_errors(answer, folder)
        return fault or fault_of_keeping(dataset, folder)


def write(folder, ID: str, content: bytes):
    file = Path(folder, f"{ID}.csv.gz")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)


def fault_of_values(dataset) -> str | None:
    for index, (ID, (text, numbers)) in enumerate(GOOD.items()):
        asked = f"for a file of the lines {text.splitlines()}"
        try:
            X, y = dataset[index]
        except DatasetError as error:
            return f"{asked} you raise: {error}"
        expected = torch.tensor(numbers, dtype=torch.float32)
        if not isinstance(X, torch.Tensor):
            return f"{asked} expected a tensor, you gave {short(X)}"
        if X.shape == expected.T.shape != expected.shape:
            return f"{asked} you gave {describe(X)}: lines × channels, asked are channels × lines"
        if X.dtype != torch.float32 or X.shape != expected.shape:
            return f"{asked} expected {describe(expected)}, you gave {describe(X)}"
        if not torch.allclose(X, expected):
            return f"{asked} expected {expected.tolist()}, you gave {X.tolist()}"
        if y != index:
            return f"the label of {ID!r} is {index}, you gave {y!r}"
    return None


def fault_of_errors(answer, folder) -> str | None:
    whole = gzip.compress(b"a,b\n" + b"".join(b"%d,%d\n" % (i, i * i % 997) for i in range(2000)))
    damaged = {what: gzip.compress(text.encode()) for what, text in DAMAGED.items()}
    damaged |= {"gzip cut short": whole[: len(whole) // 2], "no gzip": b"a,b\n1,2\n", "nothing in it": b""}
    for number, (what, content) in enumerate(damaged.items()):
        ID = f"damaged-{number}"
        write(folder, ID, content)
        try:
            X, _ = answer([ID], {ID: 0}, folder)[0]
        except DatasetError as error:
            if repr(ID) not in str(error):
                return f"the error for a file with {what} does not name its ID, {ID!r}: {error}"
            continue
        except Exception as error:
            return (
                f"a file with {what} ends in {type(error).__name__}, which names no ID: raise in `load`, "
                "and Dataset puts the ID to it"
            )
        given = describe(X) if isinstance(X, torch.Tensor) else short(X)
        return f"a file with {what} goes through as {given}: it must be an error, or the model learns from it"
    return None


def fault_of_keeping(dataset, folder) -> str | None:
    held = [file.path for file in psutil.Process().open_files() if Path(file.path).is_relative_to(folder)]
    if held:
        return f"{len(held)} of the files that you read are still open: a worker would run out of them"
    try:
        size = len(pickle.dumps(dataset))
    except Exception as error:
        return f"after it was read from, the dataset cannot be pickled ({error}), as spawn needs it"
    if size > 4000:
        return f"pickled, the dataset has {size:,} bytes: it keeps what it read, and each worker gets it all"
    return None

"""What is asked of the answer to the exercise of chapter 13, about samples that do not stack.

verdicts.py says what becomes of it.
"""

import torch

from ...sample import describe
from ..verdicts import exercise, short


@exercise
def padded_pictures(answer):
    "each picture in its corner, 0 around it, and a mask that tells a black pixel from padding"
    asked = {
        "the tallest is not the widest": ([(1, 3, 8), (1, 6, 2), (1, 4, 4)], torch.float32),
        "three channels of bytes": ([(3, 5, 7), (3, 9, 4)], torch.uint8),
        "all alike": ([(2, 4, 5), (2, 4, 5)], torch.float32),
        "one picture": ([(1, 6, 3)], torch.float32),
    }
    for kind, (shapes, dtype) in asked.items():
        samples = [(picture(shape, dtype, i), 7 * i + 2) for i, shape in enumerate(shapes)]
        before = [X.clone() for X, _ in samples]
        try:
            given = answer(list(samples))
        except Exception as error:
            error.add_note(f"for pictures of shapes {in_words(shapes)}")
            raise
        if fault := fault_of_padded(given, before, [y for _, y in samples]):
            return f"{fault} ({kind}: pictures of shapes {in_words(shapes)})"
        if not all(torch.equal(X, old) for (X, _), old in zip(samples, before, strict=True)):
            return "a picture that you were given has changed: it may be somebody else's memory, copy from it"


def picture(shape: tuple[int, int, int], dtype: torch.dtype, seed: int) -> torch.Tensor:
    "A picture with black in it, its lower right corner included, as a photograph at night has"
    X = torch.randint(0, 255, shape, generator=torch.Generator().manual_seed(seed)).to(dtype)
    X[:, -1, -1] = X[:, 0, 0] = 0
    return X


def in_words(shapes: list[tuple]) -> str:
    return ", ".join("×".join(map(str, shape)) for shape in shapes)


def fault_of_padded(given, pictures: list[torch.Tensor], labels: list[int]) -> str | None:
    "What is wrong with the batch that was made of these pictures and labels"
    if not isinstance(given, (tuple, list)) or len(given) != 3:
        return f"expected (X, mask, y), you gave {short(given)}"
    if wrong := [part for part in given if not isinstance(part, torch.Tensor)]:
        return f"expected three tensors, you gave {short(wrong[0])}"
    X, mask, y = given
    first, (N, H, W) = pictures[0], (len(pictures), *(max(X.shape[i] for X in pictures) for i in (1, 2)))
    if X.shape != (expected := (N, first.shape[0], H, W)):
        why = "the height of the tallest and the width of the widest, which may be two pictures"
        return f"expected X of shape {in_words([expected])}, yours is {in_words([tuple(X.shape)])}: {why}"
    if X.dtype != first.dtype:
        return f"X is {describe(X)}, but the pictures are {first.dtype}: padding must not change the dtype"
    if mask.dtype != torch.bool:
        return f"expected a mask of bool, yours is {mask.dtype}: X[~mask] needs bool"
    if mask.shape != (N, H, W):
        return (
            f"expected a mask of shape {N}×{H}×{W}, yours is {in_words([tuple(mask.shape)])}: one value a "
            "pixel says it for all channels"
        )
    for place, old in enumerate(pictures):
        _, h, w = old.shape
        there = torch.zeros(H, W, dtype=torch.bool)
        there[:h, :w] = True
        if not torch.equal(X[place, :, :h, :w], old):
            return f"X[{place}, :, :{h}, :{w}] is not picture {place}: each begins in the upper left corner"
        if X[place][:, ~there].any():
            return f"X[{place}] has something else than 0 below or to the right of its picture"
        if torch.equal(mask[place], ~there) and not there.all():
            return f"mask[{place}] says where the padding is: it is to be true where the picture is"
        if torch.equal(mask[place], (X[place] != 0).any(0)) and not torch.equal(mask[place], there):
            return (
                f"mask[{place}] is false on black pixels of the picture, at the lower right corner for one: "
                "what is there cannot be seen from the values, only from h and w"
            )
        if not torch.equal(mask[place], there):
            row, column = (mask[place] != there).nonzero()[0].tolist()
            return (
                f"mask[{place}, {row}, {column}] is {mask[place, row, column].item()}, and picture {place} "
                f"is {h} high and {w} wide: a pixel is there where both its row and its column are"
            )
    if y.dtype != torch.int64 or y.tolist() != labels:
        return f"expected the labels {labels} as int64, you gave {short(y)}: they follow the pictures"

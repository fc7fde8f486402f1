"""The exercise of chapter 03: what is asked of an answer."""

import tempfile
from pathlib import Path

import torch

from ..verdicts import exercise, short


@exercise
def swollen(answer):
    "all files that store more than their tensor shows, and neither the large nor the small ones that do not"
    shapes = [(1, 8, 8), (3, 16, 16), (3, 16, 2048)]  # the last, a panorama, is larger than any storage below
    planted = {"id-4": 50, "id-9": 2, "id-13": 50, "id-22": 2}  # ID: samples in its storage
    stored_bytes = {}
    with tempfile.TemporaryDirectory() as folder:
        files, needed = {}, {}
        for i in range(30):
            ID = f"id-{i}"
            X = torch.zeros(planted.get(ID, 1), *shapes[i % 3 if ID not in planted else i % 2])[0]
            if ID == "id-18":  # ten values more: no size of a file tells it from a plain one
                X, planted[ID] = torch.zeros(74)[:64].view(1, 8, 8), 1
            if ID == "id-27":  # a picture of bytes, whose storage is no larger than four bytes a value
                X, planted[ID] = torch.zeros(640, dtype=torch.uint8)[:192].view(3, 8, 8), 1
            stored_bytes[ID] = X.untyped_storage().nbytes()
            files[ID], needed[ID] = Path(folder) / f"{ID}.pt", X.nbytes
            torch.save(X, files[ID])
        given = answer(dict(files))
        sizes = {ID: file.stat().st_size for ID, file in files.items()}
    if not isinstance(given, (list, tuple, set, dict)):
        return f"expected a list of IDs, you gave {short(given)}"
    counts = f"expected {len(planted)} IDs, you gave {len(set(given))}"
    for ID in sorted(set(given) - set(planted), key=str):
        if ID not in files:
            return f"{counts}: {short(ID)} is none of the IDs"
        has = f"{ID} has {sizes[ID]:,} bytes for a tensor of {needed[ID]:,}"
        return f"{counts}: {has}, and its storage is no larger than that tensor"
    for ID in sorted(set(planted) - set(given)):
        stored = stored_bytes[ID]
        return f"{counts}, without {ID}, whose tensor shows {needed[ID]:,} bytes of a storage of {stored:,}"

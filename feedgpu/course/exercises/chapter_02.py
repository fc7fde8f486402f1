"""The exercise of chapter 02: what is asked of an answer."""

import copy

from ..verdicts import exercise, short, told


@exercise
def validator(answer):
    "all four faults where they were planted, and none in the sound dataset"
    sides = {f"id-{i}": "train" if i < 12 else "validation" for i in range(18)} | {"cats/no.7": "validation"}
    one_by_one = [
        {},
        {"both": ["id-3", "id-9"]},
        {"no label": ["id-2", "id-13"]},
        {"no file": ["id-4", "id-14"]},
        {"no class": {"id-5": "2", "id-7": -1, "id-15": 1.0}},
    ]
    all_at_once = {"both": ["id-0"], "no label": ["id-16"], "no file": ["id-8"], "no class": {"id-12": "0"}}
    for planted in [*one_by_one, all_at_once]:
        partition = {name: [ID for ID in sides if sides[ID] == name] for name in ("train", "validation")}
        partition["validation"] += planted.get("both", [])
        # A label, even a wrong one, and a file that no partition names are no fault.
        labels = {ID: i % 3 for i, ID in enumerate(sides)} | planted.get("no class", {})
        labels["id-99"] = "unknown"
        labels = {ID: y for ID, y in labels.items() if ID not in planted.get("no label", [])}
        files = [f"{ID}.pt" for ID in [*sides, "id-98"] if ID not in planted.get("no file", [])]
        with told(
            f"with these faults planted: {planted}" if planted else f"and one label is {labels['id-99']!r}"
        ):
            given = answer(copy.deepcopy(partition), dict(labels), [*files, "labels.json", "partition.json"])
        if not isinstance(given, dict):
            return f'expected a dictionary {{"both": IDs, "no label": IDs, …}}, you gave {short(given)}'
        for kind in all_at_once:
            if not isinstance(IDs := given.get(kind, []), (list, tuple, set, frozenset, dict)):
                return f'expected a list or set of IDs under "{kind}", you gave {short(IDs)}'
            expected = set(planted.get(kind, []))
            if missed := sorted(expected - set(IDs)):
                side = "both lists" if kind == "both" else sides[missed[0]]
                why = why_a_fault(kind, labels.get(missed[0]))
                return f'{missed[0]}, in {side}, is missing under "{kind}": {why}'
            if wrong := sorted(set(IDs) - expected, key=str):
                why = why_no_fault(kind, wrong[0], sides, labels)
                return f'you gave {short(wrong[0])} under "{kind}": {why}'


def why_a_fault(kind: str, label) -> str:
    return {
        "both": "the model would be tested on what it has learned",
        "no label": "training would end in an error at the batch that has it",
        "no file": "training would end in an error at the batch that has it",
        "no class": f"its label is {label!r}, and the loss takes classes 0, 1, 2, …, integers all",
    }[kind]


def why_no_fault(kind: str, ID, sides: dict, labels: dict) -> str:
    if ID not in sides:
        label = f"its label is {labels[ID]!r}, but " if kind == "no class" and ID in labels else ""
        return label + "no partition names it, so no epoch asks for it"
    if kind == "both":
        return f"it is in {sides[ID]} alone"
    if kind == "no file":
        return f"{ID}.pt is in files; an ID may hold / and dots"
    if ID not in labels:
        return "it has no label at all, which is another fault"
    return f"its label is {labels[ID]!r}" + (", a class like any other" if labels[ID] == 0 else "")

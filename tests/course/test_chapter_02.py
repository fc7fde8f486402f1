"""The exercise of chapter 02 refuses a validator that looks further than the partition."""

import pytest

from feedgpu.course import verdict


def validator(looks_at):
    """A right answer, but for the labels that `looks_at(IDs, labels)` has it judge."""

    def answer(partition, labels, files):
        train, validation = set(partition["train"]), set(partition["validation"])
        IDs = train | validation
        return {
            "both": train & validation,
            "no label": IDs - labels.keys(),
            "no file": {ID for ID in IDs if ID + ".pt" not in files},
            "no class": {ID for ID in looks_at(IDs, labels) if type(labels[ID]) is not int or labels[ID] < 0},
        }

    return answer


def test_the_labels_of_the_partition_are_enough():
    said = repr(verdict.validator(validator(lambda IDs, labels: IDs & labels.keys())))
    assert said.startswith("✓ validator: ")


def test_a_label_outside_of_the_partition_is_no_fault():
    said = repr(verdict.validator(validator(lambda IDs, labels: labels)))
    assert said.startswith("✗ validator: you gave 'id-99' under \"no class\": its label is 'unknown', but")
    assert "no partition names it" in said


@pytest.mark.parametrize("ID", ["id-5", "id-15"])
def test_a_label_inside_of_the_partition_is_looked_at(ID):
    said = repr(verdict.validator(validator(lambda IDs, labels: IDs & labels.keys() - {ID})))
    assert said.startswith(f"✗ validator: {ID}, in ") and 'is missing under "no class"' in said


def test_an_answer_that_raises_is_told_the_labels():
    def answer(partition, labels, files):
        wrong = validator(lambda IDs, labels: IDs & labels.keys())(partition, labels, files)
        return wrong | {"no class": {ID for ID in labels if ID != "id-99" and labels[ID] < 0}}

    said = repr(verdict.validator(answer))
    assert said.startswith("✗ validator: your answer led to TypeError") and "'id-5': '2'" in said


def test_an_answer_that_stumbles_over_a_label_outside_is_told_that_label():
    said = repr(verdict.validator(lambda partition, labels, files: {"no class": min(labels.values())}))
    assert said.endswith("and one label is 'unknown'")

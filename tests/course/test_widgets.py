"""The widgets without a browser: what is shown at the ends of the settings and for bad data."""

import json
import re
import time
from pathlib import Path

import ipywidgets
import matplotlib.pyplot as plt
import pytest
import torch

from feedgpu import DatasetError
from feedgpu.course import pictures
from feedgpu.course.pipeline import measured_beside, pipeline, simulated
from feedgpu.course.widgets import View, class_name, explore, explored, panel, viewed
from feedgpu.measure.parts import Parts


@pytest.fixture
def data(dataset, tmp_path, monkeypatch):
    "The partition and labels of a dataset of 12 and 4 samples, in the folder data as in the chapters"
    monkeypatch.chdir(tmp_path)
    return dataset()[1:]


def parts(explorer):
    name, index, ID, screen = explorer.children
    return name, index, ID, screen


# The View of one sample


def test_a_sample_explored(data):
    view = explored("id-14")
    facts = dict(line.split(maxsplit=1) for line in view.text.splitlines())
    assert facts["ID"] == "id-14"
    assert facts["partition"] == "validation, at index 1 of 4"
    assert facts["label"] == "1"
    assert facts["file"] == f"data/id-14.pt, {Path('data/id-14.pt').stat().st_size:,} bytes"
    assert facts["tensor"] == "float32 of shape 1×8×8"
    assert view.message == "id-14 is of class 1"
    assert view.picture.startswith(b"\x89PNG") and len(view.picture) < 20_000
    assert plt.get_fignums() == []


def test_no_path_of_this_machine_is_shown(data, tmp_path):
    assert explored("id-1", tmp_path / "data").text == explored("id-1").text


def test_names_of_classes(data, tmp_path):
    file = tmp_path / "data" / "classes.json"
    file.write_text(json.dumps(["cat", "dog"]))
    assert "label      1, dog" in explored("id-2").text
    assert explored("id-2").message == "id-2 is of class dog"
    assert class_name(2) is None and class_name(-1) is None and class_name("1") is None
    file.write_text("[")
    with pytest.raises(DatasetError, match=r"^data/classes.json cannot be read: Expecting value"):
        explored("id-2")


def test_an_ID_is_no_formula(data, tmp_path):
    torch.save(torch.zeros(2, 2), tmp_path / "data" / "$\\x_$.pt")
    notation = ({"train": ["$\\x_$"]}, {"$\\x_$": 0})
    assert explored("$\\x_$", notation=notation).message == "$\\x_$ is of class 0"


def test_an_ID_in_two_partitions_is_seen(data):
    partition, labels = data
    leaky = {"train": partition["train"], "validation": ["id-3", *partition["validation"]]}
    expected = "partition  train, at index 2 of 12; validation, at index 0 of 5\n"
    assert expected in explored("id-3", notation=(leaky, labels)).text


@pytest.mark.parametrize(
    "X",
    [
        torch.rand(3, 900, 20),
        torch.randint(0, 255, (3, 16, 16), dtype=torch.uint8),
        torch.rand(8, 8) > 0.5,
        torch.full((1, 4, 4), 7.0),
        torch.tensor([[0.0, float("nan")], [float("inf"), 1.0]]),
        torch.arange(100_000),
        torch.tensor(3),
        torch.rand(2, 3, 4, 5).to(torch.float8_e5m2),
        torch.rand(4, 6, dtype=torch.bfloat16),
    ],
    ids=lambda X: f"{X.dtype}-{list(X.shape)}",
)
def test_any_dense_tensor_is_drawn(data, X):
    torch.save(X, "data/id-1.pt")
    view = explored("id-1")
    assert view.picture and "values" in view.text


@pytest.mark.parametrize(
    "X",
    [torch.empty(0, 3), torch.rand(2, 2) + 1j],
    ids=["empty", "complex"],
)
def test_what_cannot_be_drawn_is_described(data, X):
    torch.save(X, "data/id-1.pt")
    view = explored("id-1")
    assert view.picture is None and "tensor" in view.text


def damaged(data):
    (data / "id-1.pt").write_bytes((data / "id-1.pt").read_bytes()[:500])


def missing(data):
    (data / "id-1.pt").unlink()


def no_tensor(data):
    torch.save([1, 2], data / "id-1.pt")


def sparse(data):
    torch.save(torch.eye(3).to_sparse(), data / "id-1.pt")


SENTENCES = {
    sparse: "sample 'id-1': data/id-1.pt cannot be read: it holds a sparse tensor, which a batch cannot: "
    "save a dense one",
    damaged: "sample 'id-1': data/id-1.pt cannot be read: it is empty, cut short or not written by "
    "torch.save",
    missing: "sample 'id-1': data/id-1.pt cannot be read: there is no such file",
    no_tensor: (
        "sample 'id-1': data/id-1.pt cannot be read: it holds a list, not a "
        "tensor, nor a tuple or dict of tensors"
    ),
}


@pytest.mark.parametrize("spoil", SENTENCES, ids=lambda spoil: spoil.__name__)
def test_a_bad_sample_is_said_in_a_sentence(data, tmp_path, spoil):
    spoil(tmp_path / "data")
    with pytest.raises(DatasetError) as error:
        explored("id-1", notation=data)
    assert str(error.value) == SENTENCES[spoil]
    name, index, ID, screen = parts(explore(notation=data))
    assert 'role="alert"' in screen.value and "Traceback" not in screen.value
    index.value = 1
    assert 'role="alert"' not in screen.value


@pytest.mark.parametrize("ID", ["../secret", "/etc/passwd", "a/../../b", ""])
def test_no_ID_leads_out_of_the_folder(data, ID):
    partition, labels = {"train": [ID], "validation": []}, {ID: 0}
    with pytest.raises(DatasetError, match="is no ID"):
        explored(ID, notation=(partition, labels))


def test_an_unknown_ID_opens_no_file(data, tmp_path):
    torch.save(torch.zeros(1), tmp_path / "data" / "stray.pt")
    with pytest.raises(DatasetError, match="^'stray' is in no partition$"):
        explored("stray")


# The widget


def test_explore_at_the_ends(data):
    name, index, ID, screen = parts(explore())
    assert (name.value, index.min, index.max, ID.value) == ("train", 0, 11, "id-1")
    index.value = 11
    assert ID.value == "id-12" and "train, at index 11 of 12" in screen.value
    name.value = "validation"
    assert (index.value, index.max, ID.value) == (3, 3, "id-16")
    assert "validation, at index 3 of 4" in screen.value and 'alt="id-16 is of class 0"' in screen.value


def test_explore_by_ID(data):
    name, index, ID, screen = parts(explore())
    index.value = 7
    ID.value = "id-15"
    assert (name.value, index.value, ID.value) == ("validation", 2, "id-15")
    assert "validation, at index 2 of 4" in screen.value
    ID.value = "<i>"
    assert "&lt;i&gt;" in screen.value and "<i>" not in screen.value
    index.value = 1
    assert ID.value == "id-14" and "alert" not in screen.value


def test_an_ID_in_two_partitions_stays_where_it_was_chosen(data):
    partition, labels = data
    leaky = {"train": partition["train"], "validation": ["id-13", "id-3", "id-14"]}
    name, index, ID, screen = parts(explore(notation=(leaky, labels)))
    name.value = "validation"
    index.value = 1
    assert (name.value, index.value, ID.value) == ("validation", 1, "id-3")


def test_an_empty_partition(data):
    name, index, ID, screen = parts(explore(notation=(data[0] | {"validation": []}, data[1])))
    index.value = 5
    name.value = "validation"
    assert "partition &#x27;validation&#x27; is empty" in screen.value and index.disabled
    ID.value = "id-2"
    assert (name.value, index.value, index.disabled) == ("train", 1, False)
    assert "train, at index 1 of 12" in screen.value


def test_one_sample(data):
    name, index, ID, screen = parts(
        explore(notation=({"train": data[0]["train"], "one": ["id-14"]}, data[1]))
    )
    index.value = 1
    name.value = "one"
    assert ID.value == "id-14" and index.disabled and "one, at index 0 of 1" in screen.value


def test_no_dataset(tmp_path):
    with pytest.raises(DatasetError, match="there is no dataset in"):
        explore(tmp_path)
    with pytest.raises(DatasetError, match="no partition to explore"):
        explore(tmp_path, ({}, {}))


def test_a_move_is_drawn_at_once(data):
    name, index, ID, screen = parts(explore())
    times = []
    for at in range(1, 10):
        start = time.perf_counter()
        index.value = at
        times.append(time.perf_counter() - start)
    assert sorted(times)[4] < 0.2  # a quarter of that on a quiet machine


# The pattern


def test_a_view_shows_itself_in_a_cell(capsys, monkeypatch):
    shown = []
    monkeypatch.setattr("feedgpu.course.widgets.display", lambda bundle, raw: shown.append(bundle))
    viewed("4 bars", pictures.bars, {"a": 1, "b": 2}, "s", "b is larger")._ipython_display_()
    assert capsys.readouterr().out == "4 bars\n"
    assert shown[0]["text/plain"] == "b is larger" and shown[0]["image/png"].startswith("iVBOR")
    viewed("no picture")._ipython_display_()
    assert len(shown) == 1
    assert plt.get_fignums() == []


def test_a_drawing_that_fails_leaves_no_figure():
    def draw():
        plt.subplots()
        raise ValueError("no such picture")

    own = plt.figure()
    with pytest.raises(ValueError, match="no such picture"):
        viewed("", draw)
    assert plt.get_fignums() == [own.number]
    plt.close(own)


def test_a_setting_is_drawn_once():
    calls = []
    sliders = {name: ipywidgets.IntSlider(1, 0, 5, description=f"{name} (s)") for name in "ab"}
    sliders["a"].observe(lambda change: setattr(sliders["b"], "value", change.new), names="value")
    panel(lambda a, b: calls.append((a, b)) or View(f"{a} {b}"), sliders)
    sliders["a"].value = 3
    assert calls == [(1, 1), (3, 3)]


def test_buttons_run_with_the_settings_and_their_views_go_when_these_change():
    slider = ipywidgets.IntSlider(1, 0, 5, description="workers")
    buttons = {"measure it": lambda n: View(f"measured {n}"), "fail": lambda n: {}["no such key"]}
    box = panel(lambda n: View(f"predicted {n}"), {"n": slider}, buttons)
    _, screen, row, below = box.children
    slider.value = 2
    row.children[0].click()
    assert "predicted 2" in screen.value and "measured 2" in below.value
    slider.value = 3
    assert "predicted 3" in screen.value and below.value == ""
    row.children[1].click()
    assert 'role="alert"' in below.value and "no such key" in below.value
    assert not any(button.disabled for button in row.children)


def test_every_control_is_labelled(data):
    assert all(control.description for control in parts(explore())[:3])


# The pipeline.


PARTS = Parts([0.0], 1.0, 0.001, 0.001, 0.001, 0.01, 0.01, 0.01, batch_size=32, cpus=2)
SETTINGS = {"workers": 2, "batch_size": 32, "prefetch": 2, "sample": 2.0, "step": 12.0, "does": "computes"}


def test_a_pipeline_is_simulated():
    view = simulated(**SETTINGS, parts=PARTS)
    told = view.text.splitlines()
    assert told[0] == (
        "2 workers, batches of 32, prefetch 2; a sample computes for 2.0 ms, a step takes 12 ms; "
        "other programs use ≈ 0.0 CPUs"
    )
    # two CPUs make 32 samples of 2 ms in 32 ms, so a batch comes every 32 ms and its step takes 12
    stall = float(re.search(r"data stall ≈ (\d+) %", told[1])[1])
    assert 58 < stall < 72 and f"{stall:.0f} % of the time would vanish" in view.message
    assert view.picture.startswith(b"\x89PNG")
    assert view == simulated(**SETTINGS, parts=PARTS), "the same settings give the same picture"


@pytest.mark.parametrize(
    "extreme",
    [
        {"workers": 0}, {"workers": 8, "batch_size": 8, "prefetch": 8}, {"sample": 0.0, "step": 0.0},
        {"step": 50.0, "does": "waits"}, {"batch_size": 128, "sample": 31.6},
    ],
)  # fmt: skip
def test_a_pipeline_at_the_ends_of_its_sliders(extreme):
    assert "samples/s" in simulated(**SETTINGS | extreme, parts=PARTS).text


@pytest.mark.parametrize(
    "absurd", [{"workers": -1}, {"sample": -1}, {"step": float("nan")}, {"does": "sings"}]
)
def test_absurd_settings_are_refused(absurd):
    with pytest.raises(ValueError):
        simulated(**SETTINGS | absurd, parts=PARTS)


def test_each_control_of_the_pipeline_moves_the_picture():
    widget = pipeline(PARTS)
    *controls, screen, row, below = widget.children
    assert [control.description for control in controls] == [
        "workers", "batch size", "prefetch", "sample (ms)", "step (ms)", "a sample",
    ]  # fmt: skip
    for control, value in zip(controls, (1, 8, 1, 1.0, 3.0, "waits"), strict=True):
        before = screen.value
        control.value = value
        assert screen.value != before and "alert" not in screen.value
    (button,) = row.children
    assert button.description == "measure it" and below.value == ""
    button.click()
    assert "measured" in below.value and "alert" not in below.value


def test_a_long_run_is_refused():
    with pytest.raises(ValueError, match="would take 49 s, more than"):
        measured_beside(**SETTINGS | {"batch_size": 128, "sample": 31.6}, parts=PARTS)


def test_what_was_measured_is_below_what_was_predicted():
    quick = SETTINGS | {"batch_size": 4, "sample": 1.0, "step": 1.0, "does": "waits", "workers": 1}
    view = measured_beside(**quick, parts=PARTS)
    assert [line.split()[0] for line in view.text.splitlines()] == ["predicted", "measured"]
    assert re.fullmatch(r"Predicted and measured rates differ by ≈ \d+ %", view.message)

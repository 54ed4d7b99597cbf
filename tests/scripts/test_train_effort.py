"""``--effort`` of ``sppnet train``: what was chosen is printed with a command that repeats it."""

import shlex

import pytest
import torch
from sppnet.data.scenes import make_scenes
from sppnet.detector.detection.bundle import Bundle
from sppnet.scripts.cli import main
from sppnet.scripts.info import choice_lines
from sppnet.scripts.summary import repeating_command


def test_the_printed_command_trains_the_same_detector(tmp_path, capsys, monkeypatch):
    # So few count as many: then the effort "quick" by itself would take one scale and hold a part out.
    monkeypatch.setattr("sppnet.detector.training.effort.QUICKLY", 5)
    make_scenes(tmp_path / "scenes", {"trainval": 10}, seed=0, size=(90, 120))
    model = tmp_path / "m.safetensors"
    call = ["train", str(tmp_path / "scenes"), "--backbone", "sppnet_small", "--weights", "none", "--out", str(model)]
    call += ["--scales", "96", "--max-windows", "100", "--regressions", "1"]
    assert main(call) == 0
    said, progress = capsys.readouterr()
    assert "time on this machine, if nothing is there yet: about" in progress
    lines = said.splitlines()
    assert lines[0] == "chosen by the photographs, with --effort normal:"
    assert lines[1].split(maxsplit=2) == ["--mirror", "yes", "twice the examples, in twice the time for maps"]
    assert lines[2].startswith("--C ")
    assert not lines[3].startswith("--")
    again = shlex.split(lines[lines.index("to repeat this training without a search:") + 1])
    assert again[:2] == ["sppnet", "train"]
    again[again.index(str(model))] = str(tmp_path / "again")
    assert main(again[1:]) == 0
    first, second = (Bundle.load(path) for path in (model, tmp_path / "again"))
    assert first.card["choices"]
    assert second.card["choices"] == []
    assert all(torch.equal(value, second.tensors()[name]) for name, value in first.tensors().items())
    assert first.calibration == second.calibration
    capsys.readouterr()
    assert main(["info", str(model)]) == 0
    assert "\n".join(lines[:3]) in capsys.readouterr().out


@pytest.mark.parametrize("words", ["--effort best", "--effort=best", "--effort quick --effort best"])
def test_the_command_has_the_choices_in_place_of_the_search(words):
    choices = [
        {"name": "scales", "value": [480, 960], "why": ""},
        {"name": "mirror", "value": True, "why": ""},
        {"name": "positive_weight", "value": 2.0, "why": ""},
    ]
    card = {"choices": choices}
    assert repeating_command(f"sppnet train 'my photos' {words} --out m", card) == (
        "sppnet train 'my photos' --out m --scales 480,960 --mirror --positive-weight 2 --effort quick"
    )
    choices = [{"name": "mirror", "value": False, "why": ""}]
    card = {"choices": choices, "held_out": {"folds": 1}}
    assert repeating_command("sppnet train a", card) == "sppnet train a --no-mirror --effort quick"


@pytest.mark.parametrize("typed", ["--folds 4", "--folds=4"])
def test_the_command_names_the_folds_since_quick_may_hold_a_part_out(typed):
    card = {"choices": [], "held_out": {"folds": 5}}
    assert repeating_command("sppnet train a", card) == "sppnet train a --folds 5 --effort quick"
    assert repeating_command(f"sppnet train a {typed}", card) == f"sppnet train a {typed} --effort quick"


def test_what_was_chosen_is_a_table():
    choices = [{"name": "max_windows", "value": 5000, "why": "more"}, {"name": "mirror", "value": False, "why": "no"}]
    assert choice_lines({"effort": "best", "choices": choices}) == [
        "chosen by the photographs, with --effort best:",
        "--max-windows  5000  more",
        "--mirror       no    no",
    ]
    assert choice_lines({}) == choice_lines({"effort": "quick", "choices": []}) == []


def test_an_unknown_effort_is_refused(tmp_path, capsys):
    assert main(["train", str(tmp_path), "--out", str(tmp_path / "m"), "--effort", "more"]) == 2
    assert "invalid choice: 'more' (choose from" in capsys.readouterr().err

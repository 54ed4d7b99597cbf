"""``sppnet info``: the author's description of a model."""

import pytest
from sppnet.detector.classification.network import SPPClassifier
from sppnet.detector.classification.options import ClassifierOptions
from sppnet.scripts import info as module
from sppnet.scripts.cli import main

COMMAND = (
    "sppnet train VOCdevkit/VOC2007 --set trainval --classes bird,cat,cow,dog,horse,sheep --out animals.safetensors"
)
ABOUT = {
    "data": "PASCAL VOC 2007 and 2012, " + "the images of six kinds of animals, " * 5 + "and no others",
    "licence": "see https://example.org/a/very-long/address/that/must/stay/in/one/piece/because/it/would/be/copied.html",
    "command": f"{COMMAND}\nsppnet evaluate VOCdevkit/VOC2007",
    "seed": 0,
    "limits": "Small animals are missed.\nSo are drawn ones.",
    "scores": {"VOC07 mAP": 0.41256, "images": 400},
    "thanks": "unexpected keys are shown, too",
}


@pytest.fixture
def info(tmp_path, capsys, monkeypatch):
    """``info(card)`` gives the lines shown of a network with that card, on a terminal 80 columns wide."""
    monkeypatch.setenv("COLUMNS", "80")

    def show(card):
        network = SPPClassifier(("a", "b"), options=ClassifierOptions(levels=(1,), width=4))
        network.card = card
        network.save(tmp_path / "m.safetensors")
        assert main(["info", str(tmp_path / "m.safetensors")]) == 0
        return capsys.readouterr().out.splitlines()

    return show


def test_every_part_is_a_labelled_line(info):
    plain, lines = info({}), info({"about": ABOUT})
    assert lines[: len(plain)] == plain
    rows, label = {}, None
    for line in lines[len(plain) :]:
        label = line[:12].strip() or label
        rows.setdefault(label, []).append(line[12:])
    assert list(rows) == ["data", "licence", "command", "seed", "limits", "measured", "thanks"]
    assert len(rows["data"]) > 1
    assert " ".join(rows["data"]) == ABOUT["data"]
    assert rows["licence"] == ["see", ABOUT["licence"].removeprefix("see ")]
    assert rows["command"] == ABOUT["command"].splitlines()
    assert rows["seed"] == ["0"]
    assert rows["limits"] == ABOUT["limits"].splitlines()
    assert rows["measured"] == ["VOC07 mAP: 0.413", "images: 400"]
    assert rows["thanks"] == [ABOUT["thanks"]]


@pytest.mark.parametrize(("columns", "width"), [(20, 40), (60, 58), (300, 100)])
def test_lines_are_as_long_as_the_terminal_is_wide_within_limits(monkeypatch, columns, width):
    monkeypatch.setenv("COLUMNS", str(columns))
    (text,) = module.about_lines({"about": {"data": "ab " * 200}})
    assert width - 3 < max(map(len, text.splitlines())) <= width


def test_the_wide_labels_keep_their_distance():
    assert module.about_lines({"about": {"acknowledged": "nobody"}}) == ["acknowledged nobody"]


@pytest.mark.parametrize("card", [{}, {"about": {}}, {"about": {"scores": {}, "data": ""}}])
def test_without_words_nothing_is_said(card):
    assert module.about_lines(card) == []

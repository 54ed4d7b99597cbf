"""``sppnet info`` for the file of a classification network."""

import pytest
from sppnet.detector.classification.network import SPPClassifier
from sppnet.detector.classification.options import ClassifierOptions
from sppnet.detector.descent.options import LearnOptions
from sppnet.scripts.cli import main

CLASSES = ("ant", "bee", "cow", "dog", "elk", "fox")


@pytest.fixture
def info(tmp_path, capsys):
    """``info(options, card, class_names)`` saves a random network and gives the lines shown of it, by their names."""

    def show(options=None, card=None, class_names=CLASSES):
        options = ClassifierOptions(levels=(1, 2), width=8, size=96) if options is None else options
        network = SPPClassifier(class_names, options=options)
        network.card = card or {}
        network.save(tmp_path / "m.safetensors")
        assert main(["info", str(tmp_path / "m.safetensors")]) == 0
        out, error = capsys.readouterr()
        assert error == ""
        lines = [line for line in out.splitlines() if line[11:12] == " "]
        return {line[:12].strip(): line[12:] for line in lines}, out.splitlines()[-1]

    return show


def card(held_out=None, class_names=CLASSES, **learn):
    options = LearnOptions(**{"sizes": (96,), "epochs": 7} | learn)
    return {
        "version": "1.2.3",
        "images": 40,
        "classes": dict.fromkeys(class_names, 5),
        "weights": "imagenet",
        "training": options.to_dict(),
        "held_out": held_out,
    }


def test_everything_that_the_file_says(info):
    rows, last = info(card=card({"images": 4, "loss": 1.0, "top1": 0.25, "top5": 0.75}))
    assert rows["classes"] == "ant, bee, cow, dog, elk, fox"
    assert rows["backbone"].startswith("sppnet_small, layer features.")
    assert rows["backbone"].endswith(", started from imagenet")
    assert rows["pyramid"] == "1 x 1, 2 x 2"
    assert rows["labels"] == "one for an image"
    assert rows["sizes"] == "96 pixels"
    assert rows["trained on"] == "40 images, 7 epochs"
    assert rows["made with"] == "sppnet 1.2.3"
    assert last == "one view of 4 held-out images: top-1 0.250, top-5 0.750"


def test_top_5_of_five_classes_says_nothing(info):
    _, last = info(card=card({"images": 4, "top1": 0.5, "top5": None}, CLASSES[:5]), class_names=CLASSES[:5])
    assert last == "one view of 4 held-out images: top-1 0.500"


@pytest.mark.parametrize(
    ("sizes", "rule", "expected"),
    [
        ((96, 64), "alternate", "96, 64 pixels, one each epoch in turn"),
        ((96, 64), "range", "64 to 96 pixels, a random one each epoch"),
        ((96,), "range", "96 pixels"),
    ],
)
def test_sizes(info, sizes, rule, expected):
    assert info(card=card(sizes=sizes, size_rule=rule))[0]["sizes"] == expected


def test_several_labels(info):
    options = ClassifierOptions(levels=(1,), width=8, multi_label=True)
    rows, last = info(options, card({"images": 4, "metric": "voc07", "map": 0.125}))
    assert rows["labels"] == "any number for an image"
    assert last == "VOC07 mAP of one view of 4 held-out images: 0.125"


@pytest.mark.parametrize("fit", ["crop", "warp"])
def test_without_spp(info, fit):
    rows, _ = info(ClassifierOptions(levels=(1, 2), width=8, size=96, fit=fit))
    assert rows["pyramid"] == f"none: 96 x 96 pixels only ({fit})"


def test_a_file_without_a_card(info):
    rows, last = info()
    assert rows["trained on"] == "unknown images, unknown epochs"
    assert rows["sizes"] == "96 pixels"
    assert last == "made with   sppnet unknown"

"""Several models on the command line: ``sppnet detect`` and ``evaluate`` with repeated ``--model``."""

import json

import pytest
from random_models import CLASSES, random_model
from reference.combination import combine as slow_combine
from sppnet.data.formats import read_detections_json
from sppnet.data.scenes import make_scenes
from sppnet.scripts.cli import main


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Scenes, two models with random SVMs, and one that knows other classes."""
    folder = tmp_path_factory.mktemp("combination")
    make_scenes(folder / "scenes", {"val": 2}, seed=0, size=(96, 128))
    for seed, (name, classes) in enumerate({"a": CLASSES, "b": CLASSES[::-1], "cats": ("cat", "disc")}.items()):
        random_model(classes, seed=seed).save(folder / f"{name}.safetensors")
    return folder


@pytest.fixture
def detect(folder):
    """``detect("a", "b")`` gives the results of ``sppnet detect`` with these models."""

    def run(*models, options=("--threshold", "-10")):
        out = folder / "-".join(["found", *models])
        arguments = ["detect", str(folder / "scenes"), "-o", str(out), "--no-draw", "--quiet", *options]
        assert main([*arguments, *given(folder, *models)]) == 0
        return read_detections_json(out / "detections.json")

    return run


def given(folder, *models):
    return [part for name in models for part in ("--model", str(folder / f"{name}.safetensors"))]


def items(found):
    return [(record["label"], record["score"], tuple(record["box"])) for record in found.to_records()]


def test_detect_finds_the_union_and_names_the_models(detect, folder):
    both = detect("a", "b")
    assert both.model == f"{folder / 'a.safetensors'} + {folder / 'b.safetensors'}"
    assert tuple(both.class_names) == CLASSES
    alone = [detect("a"), detect("b")]
    assert alone[0].model == str(folder / "a.safetensors")
    for number, image in enumerate(both.images):
        lists = [items(results.images[number].detections) for results in alone]
        assert items(image.detections) == slow_combine(lists, 0.3, 100)
        assert set(items(image.detections)) not in map(set, lists)


def test_options_reach_every_model(detect):
    options = ("--threshold", "-10", "--max-windows", "1", "--scales", "160")
    one, other, both = (detect(*models, options=options).images[0] for models in (("a",), ("b",), ("a", "b")))
    lists = [items(image.detections) for image in (one, other)]
    best = slow_combine(lists, 0.3, 100)
    assert items(both.detections) == best
    assert 0 < len(best) <= len(CLASSES)
    assert lists[0] != items(detect("a", options=(*options[:4], "--scales", "128")).images[0].detections)
    assert lists[1] != items(detect("b", options=(*options[:4], "--scales", "128")).images[0].detections)


def test_evaluate_scores_the_union(detect, folder):
    out = folder / "evaluation"
    arguments = ["evaluate", str(folder / "scenes"), "--set", "val", "-o", str(out), "--quiet"]
    assert main([*arguments, *given(folder, "b", "a")]) == 0
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["model"] == f"{folder / 'b.safetensors'} + {folder / 'a.safetensors'}"
    assert set(metrics["metric"]["voc07"]["ap"]) == set(CLASSES)
    evaluated, detected = read_detections_json(out / "detections.json"), detect("b", "a")
    assert tuple(evaluated.class_names) == CLASSES[::-1]
    assert [items(image.detections) for image in evaluated.images] == [
        items(image.detections) for image in detected.images
    ]


@pytest.mark.parametrize(
    ("models", "options", "expected"),
    [
        (("a", "cats"), [], "the same classes: model 2 lacks box, star, triangle and adds cat"),
        (("a", "missing"), [], "missing.safetensors: no such model file"),
        (("a", "b"), ["--max-windows", "0"], "argument --max-windows: expected a whole number from 1 up, got '0'"),
    ],
)
@pytest.mark.parametrize("command", ["detect", "evaluate"])
def test_wrong_calls_are_one_line(folder, capsys, command, models, options, expected):
    arguments = [command, str(folder / "scenes"), "-o", str(folder / "nothing"), *given(folder, *models), *options]
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert expected in error
    assert error.count("\n") == 1
    assert not (folder / "nothing").exists()

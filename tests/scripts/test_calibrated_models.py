"""Models with probabilities on the command line: ``--threshold``, and the output of detect, evaluate and info."""

import json
from dataclasses import replace

import numpy as np
import pytest
from random_models import CLASSES, random_model
from sppnet.data.formats import read_detections_json
from sppnet.data.scenes import make_scenes
from sppnet.detector.detection.calibration import Calibration
from sppnet.scripts.cli import main

CALIBRATION = Calibration((2.0, 1.0, 3.0, 0.5), (0.0, -1.0, 0.5, -0.5), (0.5, 0.25, 0.75, 0.4))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Scenes, and a model with random SVMs: plain, calibrated, and calibrated with its classes in another order."""
    folder = tmp_path_factory.mktemp("calibrated")
    make_scenes(folder / "scenes", {"val": 3}, seed=0, size=(96, 128))
    plain = random_model(card={"held_out": {"images": 2, "metric": "voc07", "map": None, "ap": {}}, "objects": {}})
    plain.save(folder / "plain")
    measured = {"at_least": 0.05, "bins": 10, "detections": 40, "ece": 0.0625, "shown": 0, "ece_shown": None}
    card = {**plain.card, "held_out": {**plain.card["held_out"], "calibration": measured}}
    replace(plain, calibration=CALIBRATION, card=card).save(folder / "calibrated")
    replace(plain, calibration=CALIBRATION, class_names=CLASSES[::-1]).save(folder / "turned")
    return folder


@pytest.fixture
def detect(folder, tmp_path, capsys):
    """``detect(["calibrated"], "0.5")`` gives the exit status, stderr and, of a run that ended well, the results."""

    def run(models, threshold=None, *options):
        arguments = ["detect", str(folder / "scenes"), "-o", str(tmp_path), "--no-draw", *options]
        arguments += [] if threshold is None else ["--threshold", threshold]
        status = main([*arguments, *given(folder, models)])
        error = capsys.readouterr().err
        return status, error, read_detections_json(tmp_path / "detections.json") if status == 0 else None

    return run


def given(folder, models):
    return [part for name in models for part in ("--model", str(folder / name))]


def together(results):
    """Label, score and probability of all detections of all images."""
    return [
        (record["label"], record["score"], record.get("probability"))
        for image in results.images
        for record in image.detections.to_records()
    ]


def test_a_threshold_is_a_probability(detect):
    _, error, everything = detect(["calibrated"], "0")
    assert "probabilit" not in error
    assert len(together(everything)) > 20
    _, _, some = detect(["calibrated"], "0.5")
    assert together(some) == [found for found in together(everything) if found[2] > 0.5]
    assert 0 < len(together(some)) < len(together(everything))
    _, _, own = detect(["calibrated"])
    thresholds = dict(zip(CLASSES, CALIBRATION.thresholds, strict=True))
    assert together(own) == [found for found in together(everything) if found[2] > thresholds[found[0]]]


def test_probabilities_are_in_the_csv(detect, folder, tmp_path):
    status, _, results = detect(["calibrated"], "0.5", "--format", "csv")
    lines = (tmp_path / "detections.csv").read_text().splitlines()
    assert (status, lines[0]) == (0, "file,label,score,probability,x1,y1,x2,y2")
    assert len(lines) == 1 + len(together(results))


@pytest.mark.parametrize("threshold", ["-0.5", "1.5", "nan", "inf"])
@pytest.mark.parametrize("models", [["calibrated"], ["plain", "calibrated"]])
def test_another_number_is_refused_in_one_line(detect, folder, models, threshold):
    status, error, _ = detect(models, threshold)
    expected = f"--threshold: expected a probability from 0 to 1, which {folder / 'calibrated'} gives, not {threshold}"
    assert (status, error) == (2, f"sppnet: error: {expected}\n")


def test_of_a_model_without_probabilities_it_is_compared_with_scores_which_is_said(detect, folder):
    _, error, results = detect(["plain"], "-0.75")
    expected = (
        f"{folder / 'plain'} has no probabilities (it was trained without held-out images, or by an earlier sppnet): "
        "its scores are compared with -0.75"
    )
    assert error.splitlines().count(expected) == 1
    scores = [score for _, score, _ in together(results)]
    assert min(scores) > -0.75
    assert min(scores) < 0
    assert {probability for *_, probability in together(results)} == {None}
    for others in (detect(["plain"], "-0.75", "--quiet"), detect(["plain"])):
        assert expected not in others[1]
    _, error, mixed = detect(["calibrated", "plain"], "0.5")
    assert len([line for line in error.splitlines() if "has no probabilities" in line]) == 1
    assert {probability for *_, probability in together(mixed)} == {None}


def evaluate(folder, out, *models):
    arguments = ["evaluate", str(folder / "scenes"), "--set", "val", "-o", str(out), "--quiet"]
    assert main([*arguments, *given(folder, models)]) == 0
    return json.loads((out / "metrics.json").read_text())


def test_evaluate_measures_probabilities_and_no_ap_changes(folder, tmp_path, capsys):
    plain = evaluate(folder, tmp_path / "plain", "plain")
    table = capsys.readouterr().out
    assert "calibration" not in plain
    assert not (tmp_path / "plain" / "reliability.svg").exists()
    metrics = evaluate(folder, tmp_path / "calibrated", "calibrated")
    text = capsys.readouterr().out
    assert metrics["metric"] == plain["metric"]
    assert text.split("\n\n")[0] == table.split("\n\n")[0]
    found = together(read_detections_json(tmp_path / "calibrated" / "detections.json"))
    counted = [probability for *_, probability in found if np.float32(probability) >= 0.05]
    thresholds = dict(zip(CLASSES, CALIBRATION.thresholds, strict=True))
    figures = metrics["calibration"]
    assert (figures["detections"], figures["at_least"], figures["bins"]) == (len(counted), 0.05, 10)
    assert figures["shown"] == sum(probability > thresholds[label] for label, _, probability in found)
    for name in CLASSES:
        one, other = metrics["shown"][name], plain["shown"][name]
        assert (one["threshold"], other["threshold"]) == (thresholds[name], -0.5)
        assert one["shown"] == sum(probability > thresholds[name] for label, _, probability in found if label == name)
        assert other["shown"] == sum(score > -0.5 for label, score, _ in found if label == name)
        assert one["best_f1"] == other["best_f1"]
    assert "shown above" in text
    # Random windows are hardly ever right, whatever is said of them.
    assert figures["ece"] == pytest.approx(np.mean(counted), abs=0.1)
    assert f"expected calibration error of {len(counted)} detections with a probability" in text
    assert f"expected calibration error of {figures['shown']} detections shown by default" in text
    assert "<svg" in (tmp_path / "calibrated" / "reliability.svg").read_text()


def test_evaluate_measures_a_combination_too(folder, tmp_path, capsys):
    metrics = evaluate(folder, tmp_path / "both", "turned", "calibrated")
    assert metrics["calibration"]["detections"] > 0
    assert "shown" not in metrics["calibration"]
    assert "shown" not in metrics
    assert "calibration" not in evaluate(folder, tmp_path / "mixed", "turned", "plain")


def test_info_says_from_where_classes_are_shown_and_how_true_probabilities_are(folder, capsys):
    assert main(["info", str(folder / "calibrated")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "shown above a probability of: box 0.50, disc 0.25, star 0.75, triangle 0.40" in lines
    assert "expected calibration error of 40 detections with a probability from 0.05 up: 0.062" in lines
    assert main(["info", str(folder / "turned")]) == 0
    text = capsys.readouterr().out
    assert "triangle 0.50, star 0.25" in text
    assert "expected calibration error" not in text
    assert main(["info", str(folder / "plain")]) == 0
    assert "probability" not in capsys.readouterr().out

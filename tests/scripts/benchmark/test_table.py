"""``sppnet benchmark table``: the configuration of each row, stored results, and the figures."""

import json
import re
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from random_models import random_model
from sppnet.data.scenes import make_scenes
from sppnet.data.voc import VOCDataset
from sppnet.detector.convolutions.backbone import Backbone
from sppnet.detector.detection.bundle import Bundle
from sppnet.detector.detection.detector import SPPDetector
from sppnet.detector.windows.features import FeatureMaps, WindowFeatures
from sppnet.eval.voc_ap import evaluate_voc
from sppnet.proposals.backends import make_proposer
from sppnet.proposals.cache import ProposalCache
from sppnet.scripts.benchmark.table import COLUMNS, PAPER, ROWS, table
from sppnet.scripts.cli import main

CLASSES = ("box", "disc")
OPTIONS = "--classes box,disc --weights none --single 128 --scales 128,192 --pyramid 1,2 --epochs 2 --fc-width 16"
WANTED = ("--columns", "5", "--rows", "softmax,ftfc7+bbox,ftfc7")
TRAINED = ("ftfc7", "ftfc7+bbox", "softmax")


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """Twelve scenes to learn from and three to score on."""
    root = tmp_path_factory.mktemp("table") / "scenes"
    return make_scenes(root, {"trainval": 12, "test": 3}, seed=5, size=(72, 96), classes=CLASSES)


def call(scenes, work, *more):
    """Call the command; its result as written to the JSON file."""
    file = work.with_suffix(".json")
    arguments = ["--dataset", str(scenes), "--work", str(work), "--json", str(file), *OPTIONS.split(), "--quiet"]
    status = main(["benchmark", "table", *arguments, *more])
    result = json.loads(file.read_text())["result"]
    assert status == (1 if result["failed"] else 0)
    return result


def maps(result):
    return {
        (name, row): cell["map"] for name, column in result["columns"].items() for row, cell in column["rows"].items()
    }


def lines_of(text):
    """The cells of each line of a table's text, by its first cell."""
    return {line.split()[0]: line.split()[1:] for line in text.splitlines() if line.split()}


# --- the figures ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(scenes):
    """The work folder and result of a call that trains two models at two scales."""
    work = scenes.parent / "work"
    return work, call(scenes, work, *WANTED)


def test_result_has_what_was_asked_for(trained, scenes):
    _, result = trained
    assert list(result["columns"]) == ["5"]
    assert result["columns"]["5"]["scales"] == [128, 192]
    assert tuple(result["columns"]["5"]["rows"]) == TRAINED
    assert result["trained_on"] == {"set": f"{scenes} trainval", "images": 12}
    assert result["tested_on"] == {"set": f"{scenes} test", "images": 3}
    assert all(0 < value < 1 for value in maps(result).values())
    assert len(set(maps(result).values())) == 3


@pytest.mark.parametrize("row", TRAINED)
def test_figures_are_what_the_kept_model_does_on_the_test_photographs(trained, scenes, row):
    """Computed again without any cache; maps are rounded as the cache keeps them."""
    work, result = trained
    (file,) = (work / "models").glob(f"{ROWS[row].model}-128-192-squeezenet1_1-*.safetensors")
    bundle = Bundle.load(file)
    assert bundle.box_weights is not None
    if row != "ftfc7+bbox":
        bundle = replace(bundle, box_weights=None, box_intercepts=None)
    detector, samples = SPPDetector(bundle), VOCDataset(scenes, "test", CLASSES)
    stored = ProposalCache(work / "proposals", make_proposer("fast", 2000, seed=0))
    found = []
    for sample in samples:
        levels = tuple(level.half().float() for level in detector.features.maps(sample.image).maps)
        on_image = FeatureMaps(sample.image.shape[:2], levels)
        found.append(detector.detect_on(on_image, stored.get(sample.path), threshold=-np.inf))
    expected = evaluate_voc(found, samples, CLASSES)
    cell = result["columns"]["5"]["rows"][row]
    assert cell["map"] == pytest.approx(expected.mean_ap("voc07"), abs=1e-6)
    assert cell["ap"] == pytest.approx(expected.ap("voc07"), abs=1e-6)


def test_two_rows_share_one_model_and_all_share_the_stages(trained):
    work, result = trained
    models = sorted(path.name.rsplit("-", 2)[0] for path in (work / "models").iterdir())
    assert models == ["ftfc7-128-192", "softmax-128-192"]
    seconds = {row: cell["training_seconds_in_this_call"] for row, cell in result["columns"]["5"]["rows"].items()}
    assert seconds["ftfc7"] > 0
    assert seconds["ftfc7+bbox"] == 0
    assert len(list((work / "proposals").iterdir())) == 12 + 3
    # Of each training image and its mirror image, and of each test image, at two scales.
    assert len(list((work / "maps").iterdir())) == (2 * 12 + 3) * 2
    assert len(list((work / "stages").glob("fine-tuning-*.npz"))) == 1
    assert len(list((work / "stages").glob("box0-*"))) == 1


def test_second_call_makes_nothing_and_says_the_same(trained, scenes, capsys):
    work, result = trained

    def state():
        return {path: path.stat().st_mtime_ns for path in work.rglob("*")}

    before = state()
    again = call(scenes, work, *WANTED)
    assert state() == before
    assert maps(again) == maps(result)
    assert capsys.readouterr().err == ""
    assert {cell["training_seconds_in_this_call"] for cell in again["columns"]["5"]["rows"].values()} == {0}
    # The other metric is there too.
    area = call(scenes, work, *WANTED, "--metric", "voc")
    assert state() == before
    assert "mAP in per cent (VOC area AP)" in capsys.readouterr().out
    assert maps(area) != maps(result)


# --- what is asked of the training ------------------------------------------------------------------------------------


@pytest.fixture
def asked(monkeypatch):
    """Plants a training that writes a random detector on pooled windows; the plans of its calls."""
    calls = []

    def train(dataset, plan, *, out, **options):
        calls.append(SimpleNamespace(plan=plan, **options))
        backbone = Backbone("squeezenet1_1", layer=plan.layer, stride=plan.stride)
        features = WindowFeatures(backbone, replace(plan.features, kind="pool5"))
        random_model(dataset.class_names, features, seed=len(calls), detection=plan.detection).save(out)

    monkeypatch.setattr("sppnet.detector.training.train.train", train)
    return calls


@pytest.fixture
def work(trained, tmp_path):
    """A folder with nothing but the proposals and maps of the scenes."""
    for name in ("proposals", "maps"):
        shutil.copytree(trained[0] / name, tmp_path / "work" / name)
    return tmp_path / "work"


def test_all_rows_ask_for_what_they_are_called(asked, scenes, work, capsys, monkeypatch):
    result = call(scenes, work, "--columns", "1")
    made = {(each.plan.features.kind, each.plan.finetune.epochs, each.plan.scorer) for each in asked}
    assert made == {
        ("pool5", 0, "svm"),
        ("fc6", 0, "svm"),
        ("fc7", 0, "svm"),
        ("fc6", 2, "svm"),
        ("fc7", 2, "svm"),
        ("fc7", 2, "softmax"),
    }
    assert len(asked) == 6
    assert {each.plan.features.scales for each in asked} == {(128,)}
    assert {each.plan.finetune.width for each in asked} == {16}
    assert {each.work for each in asked} == {work}
    out = capsys.readouterr().out
    rows = lines_of(out)
    for name in ROWS:
        ours = f"{100 * result['columns']['1']['rows'][name]['map']:.1f}"
        theirs = f"{PAPER[name]['1']:.1f}" if name in PAPER else "-"
        assert rows[name] == [ours, theirs]
    assert "no pretrained fc layers to start from: those of fc6 and fc7 are random and stay so" in out
    # A backbone that brings its own is not blamed.
    monkeypatch.setattr("sppnet.detector.head.pretrained.start_from_classifier", lambda *args, **options: "a head")
    call(scenes, work, "--columns", "1")
    assert "random" not in capsys.readouterr().out
    assert len(asked) == 6


def test_what_changes_is_made_again_and_only_that(asked, scenes, work, tmp_path):
    copy = tmp_path / "scenes"
    shutil.copytree(scenes, copy)
    rows = ("--columns", "1", "--rows", "pool5,ftfc6")

    def trained_by(*more):
        before = len(asked)
        call(copy, work, *rows, *more)
        return [each.plan.features.kind for each in asked[before:]]

    assert trained_by() == ["pool5", "fc6"]
    assert trained_by() == []
    assert trained_by("--epochs", "3") == ["fc6"]
    assert trained_by("--held-out", "0.3") == ["pool5", "fc6"]
    assert trained_by("--single", "160") == ["pool5", "fc6"]
    assert trained_by("--layer", "features.10", "--stride", "8") == ["pool5", "fc6"]
    assert (asked[-1].plan.layer, asked[-1].plan.stride) == ("features.10", 8)
    # Other test images, other scores, the same models.
    listed = copy / "ImageSets/Main/test.txt"
    listed.write_text("".join(listed.read_text().splitlines(keepends=True)[:2]))
    scores = len(list((work / "scores").iterdir()))
    assert trained_by() == []
    assert len(list((work / "scores").iterdir())) == scores + 2
    # Another label in a training image.
    annotation = next((copy / "Annotations").glob("trainval_*"))
    text = annotation.read_text()
    annotation.write_text(text.replace("disc", "box", 1) if "disc" in text else text.replace("box", "disc", 1))
    assert trained_by() == ["pool5", "fc6"]


def test_unreadable_test_image_is_named_once_and_counts_as_empty(asked, scenes, work, tmp_path, capsys):
    copy = tmp_path / "scenes"
    shutil.copytree(scenes, copy)
    damaged = copy / "JPEGImages/test_00001.jpg"
    damaged.write_bytes(b"no image")
    result = call(copy, work, "--rows", "pool5")
    out, err = capsys.readouterr()
    (complaint,) = err.splitlines()
    assert str(damaged) in complaint
    assert f"test images that could not be read, taken for empty: {damaged}" in out
    assert list(result["columns"]) == list(COLUMNS)
    assert result["tested_on"] == {"set": f"{copy} test", "images": 3}
    assert result["failed"] == [str(damaged)]
    # What is kept still says so.
    assert call(copy, work, "--rows", "pool5")["failed"] == result["failed"]
    assert f"taken for empty: {damaged}" in capsys.readouterr().out
    whole = call(scenes, work, "--rows", "pool5", "--columns", "1")
    assert maps(whole)["1", "pool5"] != maps(result)["1", "pool5"]
    assert len(asked) == 2


def test_coco_files(asked, tmp_path, capsys):
    make_scenes(tmp_path, {"trainval": 2, "test": 2}, seed=5, size=(72, 96), classes=CLASSES)
    files = {}
    for name in ("trainval", "test"):
        samples = list(VOCDataset(tmp_path, name, CLASSES))
        files[name] = tmp_path / f"{name}.json"
        annotations = [
            {"id": 10 * i + j, "image_id": i, "category_id": int(label), "bbox": [*box[:2], *(box[2:] - box[:2])]}
            for i, sample in enumerate(samples)
            for j, (box, label) in enumerate(zip(sample.boxes.tolist(), sample.labels, strict=True))
            for box in [np.array(box)]
        ]
        content = {
            "images": [
                {"id": i, "file_name": s.path.name, "width": s.image.shape[1], "height": s.image.shape[0]}
                for i, s in enumerate(samples)
            ],
            "categories": [{"id": i, "name": name} for i, name in enumerate(CLASSES)],
            "annotations": annotations,
        }
        files[name].write_text(json.dumps(content, default=float))
    options = ("--images", str(tmp_path / "JPEGImages"), "--rows", "pool5", "--columns", "1")
    result = call(files["trainval"], tmp_path / "work", "--test-dataset", str(files["test"]), *options)
    assert result["trained_on"] == {"set": str(files["trainval"]), "images": 2}
    assert result["tested_on"] == {"set": str(files["test"]), "images": 2}
    capsys.readouterr()
    arguments = ["--dataset", str(files["test"]), *options, *OPTIONS.split(), "--work", str(tmp_path / "work")]
    assert main(["benchmark", "table", *arguments]) == 2
    assert "2 of its 2 images are in the training set" in capsys.readouterr().err


# --- the text ---------------------------------------------------------------------------------------------------------


def planted(column, rows):
    """A result whose rows have the mAP that they are planted with."""
    scales = {"1": [688], "5": [480, 576, 688, 864, 1200]}
    cells = {name: {"map": value, "ap": {"cat": value, "dog": None}, "paper_map": 0.5} for name, value in rows.items()}
    return {column: {"scales": scales[column], "rows": cells}}


def test_text_names_metric_sets_and_both_sides():
    result = {
        "metric": "voc07",
        "backbone": "alexnet",
        "weights": "imagenet",
        "random_layers": [],
        "pyramid": [1, 2, 3, 6],
        "classes": ["cat", "dog"],
        "trained_on": {"set": "pets trainval", "images": 7},
        "tested_on": {"set": "pets test", "images": 8},
        "failed": [],
        "columns": {**planted("1", {"pool5": 0.1234, "softmax": 0.2}), **planted("5", {"pool5": 0.4, "softmax": 0.3})},
    }
    result["columns"]["1"]["rows"]["softmax"]["paper_map"] = None
    text = table(result)
    assert "mAP in per cent (VOC07 11-point AP), 2 classes" in text
    assert "trained on pets trainval (7 images), tested on pets test (8 images)" in text
    assert "backbone alexnet, weights imagenet, pyramid 1,2,3,6, scales 688; 480,576,688,864,1200" in text
    header = next(line for line in text.splitlines() if "paper 1 scale" in line)
    assert re.split("  +", header)[1:] == ["1 scale", "paper 1 scale", "5 scales", "paper 5 scales"]
    assert lines_of(text)["pool5"] == ["12.3", "50.0", "40.0", "50.0"]
    assert lines_of(text)["softmax"] == ["20.0", "-", "30.0", "50.0"]
    assert "not in the means (no objects): dog" in text


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("--test-set trainval", "12 of its 12 images are in the training set"),
        (
            "--rows pool5,fc8",
            "argument --rows: expected any of pool5,fc6,fc7,ftfc6,ftfc7,ftfc7+bbox,softmax, got 'pool5,fc8'",
        ),
        ("--columns 2", "argument --columns: expected any of 1,5, got '2'"),
        ("--epochs 0", "argument --epochs: expected a whole number from 1 up, got '0'"),
        ("--single 0", "argument --single: expected a whole number from 1 up"),
        ("--held-out 1", "the held-out part must be at least 0 and less than 1"),
        ("--fc-width 0", "argument --fc-width: expected a whole number from 1 up"),
        ("--classes box,cat", "cat"),
        ("--test-set nothing", "nothing"),
        ("--test-images somewhere", "an image folder (somewhere) goes with a COCO annotation file"),
        ("--backbone squeeze", "backbone 'squeeze' is not known"),
        ("--metric coco", "argument --metric: invalid choice: 'coco'"),
    ],
)
def test_wrong_calls_are_one_line(scenes, tmp_path, capsys, options, expected):
    arguments = ["--dataset", str(scenes), "--work", str(tmp_path / "work"), *OPTIONS.split(), *options.split()]
    assert main(["benchmark", "table", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert expected in err
    assert err.count("\n") == 1
    assert not (tmp_path / "work").exists()

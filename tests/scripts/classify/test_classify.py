"""``sppnet classify train``, ``evaluate`` and ``predict`` on photographs whose colour shows their class."""

import csv
import json
import os
import shutil
import signal

import numpy as np
import pytest
from PIL import Image
from sppnet.data.scenes import make_scenes
from sppnet.detector.classification.network import SPPClassifier
from sppnet.detector.classification.predict import predict_all
from sppnet.detector.convolutions.backbone import Backbone
from sppnet.detector.detection.bundle import Bundle
from sppnet.scripts.classify.predict import shown
from sppnet.scripts.cli import main

COLOURS = {"blue": (40, 60, 200), "green": (50, 190, 60), "red": (210, 50, 40)}
SMALL = ["--pyramid", "1,2", "--fc-width", "16", "--batch", "8"]


def classify(*words):
    """The exit status of ``sppnet classify ...``."""
    return main(["classify", *map(str, words)])


def train(*words, sizes="64", epochs=1):
    return classify("train", *words, "--sizes", sizes, "--epochs", epochs, *SMALL)


def make_photographs(folder, colours, count, seed=0):
    """Class folders of noisy photographs of one colour, none like another in size."""
    rng = np.random.default_rng(seed)
    for name, colour in colours.items():
        (folder / name).mkdir(parents=True)
        for number in range(count):
            height, width = rng.integers(70, 120, 2)
            pixels = np.clip(np.array(colour) + rng.integers(-30, 31, (height, width, 3)), 0, 255)
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name / f"{number}.png")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """``colours`` to learn from and ``new`` ones, ``scenes`` in VOC's layout, and models that learnt from both."""
    folder = tmp_path_factory.mktemp("classify")
    make_photographs(folder / "colours", COLOURS, 8)
    make_photographs(folder / "new", COLOURS, 3, seed=1)
    make_scenes(folder / "scenes", {"train": 10, "val": 4}, seed=0, size=(96, 128))
    assert train(folder / "colours", "--out", folder / "one.safetensors", "--quiet", epochs=16) == 0
    many = ["--set", "train", "--classes", "disc,box", "--out", folder / "many.safetensors"]
    assert train(folder / "scenes", *many, "--quiet", epochs=2) == 0
    for fit in ("crop", "warp"):
        twin = ["--no-spp", fit, "--out", folder / f"{fit}.safetensors", "--held-out", "0"]
        assert train(folder / "colours", *twin, "--quiet") == 0
    return folder


def evaluate(folder, out, data, *words, model="one.safetensors"):
    """What ``metrics.json`` holds, and each image's row of ``predictions.csv`` as {class: (probability, shown)}."""
    arguments = ["evaluate", data, "--model", folder / model, "-o", out, *words]
    assert classify(*arguments) == 0
    with (out / "predictions.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    images = {}
    for row in rows:
        images.setdefault(row["image"], {})[row["class"]] = (float(row["probability"]), int(row["shown"]))
    return json.loads((out / "metrics.json").read_text()), images


def share_of_right(images):
    """Top-1 accuracy, from the rows."""
    right = [max(classes, key=lambda name: classes[name][0]) for classes in images.values()]
    return np.mean([classes[name][1] == 1 for name, classes in zip(right, images.values(), strict=True)])


# --- train ------------------------------------------------------------------------------------------------------------


def test_train_writes_a_model_its_curves_and_its_score(folder, tmp_path, capsys):
    model = tmp_path / "new" / "m.safetensors"
    assert train(folder / "colours", "--out", model, sizes="80,64", epochs=3) == 0
    out, log = capsys.readouterr()
    assert out.startswith("one view of 2 held-out images: top-1 ")
    assert out.endswith(f"wrote {model}\n")
    assert "epoch 3 of 3: 80 pixels" in log
    work = tmp_path / "new" / "m.safetensors.work"
    assert f"{work} can be deleted" in log
    rows = list(csv.DictReader((work / "history.csv").open()))
    assert [row["size"] for row in rows] == ["80", "64", "80"]
    assert all("<svg" in (work / name).read_text() for name in ("loss.svg", "accuracy.svg"))
    classifier = SPPClassifier.load(model)
    assert classifier.class_names == ("blue", "green", "red")
    assert (classifier.size, classifier.levels, classifier.multi_label) == (80, (1, 2), False)
    assert classifier.card["images"] == 22


def test_a_finished_training_run_again_gives_the_same_file(folder, tmp_path, capsys):
    model = tmp_path / "m.safetensors"
    arguments = [folder / "colours", "--out", model, "--work", tmp_path / "kept", "--average", "0.9", "--stride", "8"]
    assert train(*arguments, epochs=2) == 0
    first = model.read_bytes()
    model.unlink()
    capsys.readouterr()
    assert train(*arguments, epochs=2) == 0
    assert "resuming after epoch 2" in capsys.readouterr().err
    assert model.read_bytes() == first
    assert SPPClassifier.load(model).stride == 8
    for other in (("--seed", "1"), ("--stride", "16")):
        assert train(*arguments, *other, epochs=2) == 0
        assert "resuming" not in capsys.readouterr().err
        assert model.read_bytes() != first


def test_scores_on_photographs_of_their_own(folder, tmp_path, capsys):
    make_photographs(tmp_path / "val", {**COLOURS, "grey": (128, 128, 128)}, 2, seed=2)
    model = tmp_path / "m.safetensors"
    assert train(folder / "colours", "--val", tmp_path / "val", "--out", model) == 0
    log = capsys.readouterr().err
    assert f"warning: {tmp_path / 'val'}: 1 of 4 classes are not in {folder / 'colours'}; their 2 photographs" in log
    card = SPPClassifier.load(model).card
    assert (card["images"], card["held_out"]["images"]) == (24, 6)


def test_scores_on_a_coco_file(folder, tmp_path):
    pictures = folder / "scenes" / "JPEGImages"
    with Image.open(pictures / "val_00000.jpg") as image:
        width, height = image.size
    objects = {"id": 1, "image_id": 1, "category_id": 7, "bbox": [5, 5, 40, 40], "area": 1600, "iscrowd": 0}
    file = tmp_path / "val.json"
    file.write_text(
        json.dumps(
            {
                "images": [{"id": 1, "file_name": "val_00000.jpg", "width": width, "height": height}],
                "annotations": [objects],
                "categories": [{"id": 7, "name": "star"}],
            }
        )
    )
    model = tmp_path / "m.safetensors"
    arguments = [folder / "scenes", "--set", "train", "--val", file, "--val-images", pictures]
    assert train(*arguments, "--out", model, "--quiet") == 0
    card = SPPClassifier.load(model).card
    assert (card["images"], card["held_out"]["images"]) == (10, 1)


def test_voc_objects_cut_out(folder, tmp_path, capsys):
    model = tmp_path / "m.safetensors"
    assert train(folder / "scenes", "--set", "train", "--crops", "--out", model) == 0
    assert "top-1" in capsys.readouterr().out
    assert not SPPClassifier.load(model).multi_label
    metrics, images = evaluate(
        tmp_path, tmp_path / "out", folder / "scenes", "--set", "val", "--crops", model="m.safetensors"
    )
    assert metrics["images"] == len(images) > 4
    assert all("val_0000" in name and name.endswith("]") for name in images)
    assert sum(target for classes in images.values() for _, target in classes.values()) == len(images)
    assert classify("evaluate", folder / "scenes", "--set", "val", "--model", model) == 2
    assert "expected one label" in (error := capsys.readouterr().err)
    assert "--crops takes its objects" in error


def test_a_detector_is_trained_on_a_classifiers_convolutions(folder, tmp_path, capsys):
    model, detector = folder / "one.safetensors", tmp_path / "detector.safetensors"
    arguments = ["train", str(folder / "scenes"), "--set", "train", "--out", str(detector), "--held-out", "0"]
    arguments += ["--backbone", "sppnet_small", "--weights", str(model), "--scales", "96", "--pyramid", "1,2"]
    assert main([*arguments, "--quiet"]) == 0
    own, learnt = Bundle.load(detector).convolutions, Backbone("sppnet_small", model).state()
    assert own.keys() == learnt.keys()
    assert all((own[name] == learnt[name]).all() for name in own)
    scene = str(folder / "scenes" / "JPEGImages" / "val_00000.jpg")
    assert main(["detect", scene, "--model", str(detector), "-o", str(tmp_path / "out"), "--quiet"]) == 0
    capsys.readouterr()
    assert classify("predict", scene, "--model", detector) == 2
    assert f"{detector}: is a detector, expected a classification network" in capsys.readouterr().err
    assert main(["detect", scene, "--model", str(model)]) == 2
    assert f"{model}: is a classification network, expected a detector" in capsys.readouterr().err


# --- evaluate ---------------------------------------------------------------------------------------------------------


def test_evaluate_table_metrics_and_predictions_agree(folder, tmp_path, capsys):
    metrics, images = evaluate(folder, tmp_path, folder / "new")
    out, log = capsys.readouterr()
    assert "classifying: 9 in " in log
    assert (metrics["images"], metrics["views"], metrics["model"]) == (9, "one", str(folder / "one.safetensors"))
    top1 = metrics["metric"]["top1"]
    assert top1 > 0.8  # seen: 1.0
    assert share_of_right(images) == pytest.approx(top1)
    assert ["top-1", f"{top1:.3f}"] in [line.split() for line in out.splitlines()]
    assert "ms for a photograph, views 'one'" in out
    for classes in images.values():
        assert sum(probability for probability, _ in classes.values()) == pytest.approx(1, abs=1e-4)
    truth = {name: next(label for label, (_, target) in row.items() if target) for name, row in images.items()}
    assert all(f"/{label}/" in name for name, label in truth.items())


def test_views_from_maps_and_from_crops(folder, tmp_path):
    found = {}
    for views in ("one", "full", "ten"):
        for words in ([], ["--from-crops"]):
            out = tmp_path / f"{views}{len(words)}"
            _, images = evaluate(folder, out, folder / "new", "--views", views, "--quiet", *words)
            found[views, bool(words)] = np.array([[one[name][0] for name in COLOURS] for one in images.values()])
    # The map of the whole photograph is the same either way; of a square inside it the edges differ.
    np.testing.assert_allclose(found["full", False], found["full", True], atol=1e-4)
    assert (found["one", False] != found["one", True]).any()
    np.testing.assert_array_equal(found["one", False].argmax(1), found["one", True].argmax(1))
    assert (found["one", False] != found["ten", False]).any()
    assert (found["one", False] != found["full", False]).any()


def test_scales_take_the_place_of_the_views_own(folder, tmp_path):
    found = []
    for scales in ([], ["--scales", "73"], ["--scales", "90,120"]):
        _, images = evaluate(folder, tmp_path, folder / "new", "--quiet", *scales)
        found.append([one["red"][0] for one in images.values()])
    assert found[0] == found[1] != found[2]  # 73 is 64 * 256 / 224


def test_classes_that_the_model_does_not_know_are_left_out(folder, tmp_path, capsys):
    plain, _ = evaluate(folder, tmp_path / "plain", folder / "new")
    shutil.copytree(folder / "new", tmp_path / "more")
    make_photographs(tmp_path / "more", {"azure": (0, 120, 250), "white": (250, 250, 250)}, 2, seed=3)
    capsys.readouterr()
    metrics, images = evaluate(folder, tmp_path / "out", tmp_path / "more")
    expected = f"warning: {tmp_path / 'more'}: 2 of 5 classes are not in {folder / 'one.safetensors'}; "
    assert expected + "their 4 photographs are left out" in capsys.readouterr().err
    assert metrics == plain
    assert len(images) == 9
    evaluate(folder, tmp_path / "out", tmp_path / "more", "--quiet")
    assert capsys.readouterr().err == f"{expected}their 4 photographs are left out\n"


def test_classes_without_photographs_are_no_fault(folder, tmp_path, capsys):
    metrics, images = evaluate(folder, tmp_path, folder / "new", "--classes", "red,blue")
    assert "not in the mean (no images): green" in capsys.readouterr().out
    assert metrics["images"] == 6
    assert metrics["metric"]["accuracy"]["green"] is None
    assert all(list(classes) == list(COLOURS) for classes in images.values())


def test_several_labels(folder, tmp_path, capsys):
    """The model knows discs and boxes; stars and triangles are in the scenes, too."""
    many = {"model": "many.safetensors"}
    metrics, images = evaluate(folder, tmp_path / "all", folder / "scenes", "--set", "val", **many)
    out, log = capsys.readouterr()
    assert "2 of 4 classes are not in" in log
    assert "their labels are left out" in log
    assert "VOC07 11-point AP" in out
    assert metrics["images"] == len(images) == 4
    assert list(metrics["metric"]["voc07"]["ap"]) == ["disc", "box"]
    assert 0 <= metrics["metric"]["voc"]["map"] <= 1
    # Each class has a sigmoid of its own; rows of a softmax would sum to 1 but for the six digits written.
    assert all(abs(sum(probability for probability, _ in one.values()) - 1) > 1e-4 for one in images.values())
    two, same = evaluate(folder, tmp_path / "two", folder / "scenes", "--set", "val", "--classes", "box,disc", **many)
    assert (two, same) == (metrics, images)


# --- predict ----------------------------------------------------------------------------------------------------------


def test_predict_table_and_json(folder, tmp_path, capsys):
    file = tmp_path / "deep" / "labels.json"
    assert classify("predict", folder / "new", "--model", folder / "one.safetensors", "-o", file) == 0
    out, log = capsys.readouterr()
    assert log.splitlines()[-1] == f"9 photographs: {file}"
    result = json.loads(file.read_text())
    assert list(result) == ["model", "version", "classes", "images", "failed"]
    assert (result["model"], result["classes"]) == (str(folder / "one.safetensors"), list(COLOURS))
    assert result["failed"] == []
    expected = sorted(str(path) for path in (folder / "new").rglob("*.png"))
    assert [image["file"] for image in result["images"]] == expected
    table = [line.split() for line in out.splitlines()[2:]]
    assert len(table) == 9 * 3
    for number, image in enumerate(result["images"]):
        with Image.open(image["file"]) as picture:
            assert (image["width"], image["height"]) == picture.size
        probabilities = [label["probability"] for label in image["labels"]]
        assert probabilities == sorted(probabilities, reverse=True)
        assert sum(probabilities) == pytest.approx(1, abs=1e-5)
        assert {label["label"] for label in image["labels"]} == set(COLOURS)
        first = image["labels"][0]
        assert table[3 * number] == [image["file"], first["label"], f"{first['probability']:.3f}"]


def test_predict_and_evaluate_agree(folder, tmp_path):
    _, images = evaluate(folder, tmp_path, folder / "new", "--views", "ten+full", "--quiet")
    file = tmp_path / "labels.json"
    words = ["--views", "ten+full", "-o", file, "--quiet"]
    assert classify("predict", folder / "new", "--model", folder / "one.safetensors", *words) == 0
    for image in json.loads(file.read_text())["images"]:
        for label in image["labels"]:
            assert images[image["file"]][label["label"]][0] == pytest.approx(label["probability"], rel=1e-4)


def test_top_rows_and_several_labels(folder, tmp_path, capsys):
    new, scenes = folder / "new", folder / "scenes" / "JPEGImages"
    file = tmp_path / "labels.json"
    assert classify("predict", new, "--model", folder / "one.safetensors", "--top", "1", "-o", file) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2 + 9
    assert classify("predict", scenes, "--model", folder / "many.safetensors", "-o", file) == 0
    likely = [[one["probability"] > 0.5 for one in image["labels"]] for image in json.loads(file.read_text())["images"]]
    assert len(capsys.readouterr().out.splitlines()) == 2 + sum(max(1, sum(row)) for row in likely)


@pytest.mark.parametrize(
    ("probabilities", "top", "multi_label", "expected"),
    [
        ((0.9, 0.6, 0.5, 0.1), None, True, 2),
        ((0.4, 0.3), None, True, 1),
        ((0.9, 0.8, 0.7, 0.6), None, True, 4),
        ((0.9, 0.6, 0.5, 0.1), 3, True, 3),
        ((0.6, 0.2, 0.1, 0.1), None, False, 3),
        ((0.6, 0.2, 0.1, 0.1), 1, False, 1),
    ],
)
def test_which_labels_the_table_shows(probabilities, top, multi_label, expected):
    assert shown([("name", probability) for probability in probabilities], top, multi_label) == expected


# --- what goes wrong --------------------------------------------------------------------------------------------------


def test_unreadable_photographs_are_named_and_left_out(folder, tmp_path, capsys):
    data = tmp_path / "data"
    shutil.copytree(folder / "new", data)
    broken = [data / "green" / "1.png", data / "red" / "0.png"]
    for path in broken:
        path.write_text("no picture")
    model = folder / "one.safetensors"
    calls = [
        (
            "train",
            data,
            "--out",
            tmp_path / "m.safetensors",
            "--sizes",
            "64",
            "--epochs",
            "1",
            "--held-out",
            "0",
            *SMALL,
        ),
        ("evaluate", data, "--model", model, "-o", tmp_path / "out"),
        ("predict", data, "--model", model, "-o", tmp_path / "labels.json"),
    ]
    for words in calls:
        assert classify(*words, "--quiet") == 1
        lines = capsys.readouterr().err.splitlines()
        assert sorted(line.split(": ")[1] for line in lines) == [str(path) for path in broken], words[0]
        assert all(line.startswith("sppnet: ") for line in lines)
    card = SPPClassifier.load(tmp_path / "m.safetensors").card
    assert card["failed"] == [str(path) for path in broken]
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["images"] == 7
    result = json.loads((tmp_path / "labels.json").read_text())
    assert [failed["file"] for failed in result["failed"]] == [str(path) for path in broken]
    assert all("not an image" in failed["error"] for failed in result["failed"])
    assert len(result["images"]) == 7


def test_names_that_utf8_cannot_say_are_written_with_escapes(folder, tmp_path, capsys):
    data = tmp_path / "data" / "red"
    shutil.copytree(folder / "new" / "blue", data.parent / "blue")
    data.mkdir()
    try:
        shutil.copy(folder / "new" / "red" / "0.png", data / os.fsdecode(b"\xb0\xa1.png"))
        (data / os.fsdecode(b"\xb0.png")).write_text("no picture")
    except OSError:
        pytest.skip("this file system has no such names")
    model = ["--model", folder / "one.safetensors"]
    assert classify("predict", data, *model, "-o", tmp_path / "labels.json") == 1
    result = json.loads((tmp_path / "labels.json").read_text())
    good, bad = f"{data}/\\xb0\\xa1.png", f"{data}/\\xb0.png"
    assert [one["file"] for one in result["images"]] == [good]
    assert [one["file"] for one in result["failed"]] == [bad]
    assert result["failed"][0]["error"].startswith(bad)
    assert good in capsys.readouterr().out
    assert classify("evaluate", data.parent, *model, "-o", tmp_path / "out") == 1
    with (tmp_path / "out" / "predictions.csv").open(encoding="utf-8") as file:
        assert good in {row["image"] for row in csv.DictReader(file)}


def test_labels_are_written_before_they_are_shown(folder, tmp_path, monkeypatch):
    def broken_pipe(*texts, **options):
        raise BrokenPipeError

    monkeypatch.setattr("builtins.print", broken_pipe)
    model = ["--model", folder / "one.safetensors", "--quiet"]
    assert classify("predict", folder / "new", *model, "-o", tmp_path / "labels.json") == 1
    assert len(json.loads((tmp_path / "labels.json").read_text())["images"]) == 9
    assert classify("evaluate", folder / "new", *model, "-o", tmp_path / "out") == 1
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["images"] == 9
    assert (tmp_path / "out" / "predictions.csv").is_file()


def test_labels_that_are_found_are_kept_when_it_is_interrupted(folder, tmp_path, monkeypatch, capsys):
    def interrupted(*arguments):
        found = predict_all(*arguments)
        for _ in range(2):
            yield next(found)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr("sppnet.detector.classification.predict.predict_all", interrupted)
    words = ["--model", folder / "one.safetensors", "-o", tmp_path / "labels.json", "--quiet"]
    assert classify("predict", folder / "new", *words) == 130
    out, error = capsys.readouterr()
    assert error == "sppnet: interrupted after 2 of 9 photographs; what was found is written\n"
    assert len(out.splitlines()) == 2 + 2 * 3
    assert len(json.loads((tmp_path / "labels.json").read_text())["images"]) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["labels.json"]


def test_no_photograph_that_can_be_read(folder, tmp_path, capsys):
    for name in ("red", "blue"):
        (tmp_path / "data" / name).mkdir(parents=True)
        (tmp_path / "data" / name / "0.png").write_text("no picture")
    words = ["--model", folder / "one.safetensors", "--quiet"]
    assert classify("evaluate", tmp_path / "data", *words, "-o", tmp_path / "out") == 2
    assert f"error: {tmp_path / 'data'}: none of 2 photographs can be read" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_quiet_says_nothing_on_stderr(folder, tmp_path, capsys):
    assert train(folder / "colours", "--out", tmp_path / "m.safetensors", "--quiet") == 0
    evaluate(folder, tmp_path, folder / "new", "--quiet")
    words = ["--model", folder / "one.safetensors", "-o", tmp_path / "labels.json", "--quiet"]
    assert classify("predict", folder / "new", *words) == 0
    assert capsys.readouterr().err == ""


def test_wrong_calls_are_one_line(folder, tmp_path, capsys):
    colours, scenes, one = folder / "colours", folder / "scenes", folder / "one.safetensors"
    (tmp_path / "flat").mkdir()
    shutil.copy(colours / "red" / "0.png", tmp_path / "flat")
    shutil.copytree(scenes, tmp_path / "voc")
    (tmp_path / "voc" / "ImageSets" / "Main" / "none.txt").write_text("")
    train = ("train", colours, "--out", tmp_path / "m.safetensors")
    anew = ("train", "--out", tmp_path / "m.safetensors")
    of_colours = ("evaluate", colours, "--model")
    calls = [
        ((*anew, tmp_path / "nowhere"), "nowhere: no such dataset; expected one folder for each class"),
        ((*anew, tmp_path / "flat"), "flat: no folder in it has images; expected one folder for each class"),
        ((*anew, tmp_path / "voc", "--set", "none"), "voc: no image in it"),
        ((*anew, scenes, "--set", "nonsense"), "no image set 'nonsense'"),
        ((*anew, colours, scenes, "--set", "train"), "a multi-label set cannot be joined with others"),
        ((*train, "--classes", "red"), "there is one class, red"),
        ((*train, "--classes", "red,gren"), "unknown class 'gren'; did you mean 'green'?"),
        ((*train, "--crops"), "no labelled objects to crop"),
        ((*train, "--backbone", "resnet19"), "backbone 'resnet19' is not known; near names are resnet18"),
        ((*train, "--layer", "features.60"), "sppnet_small has no layer 'features.60'; near names are features.6"),
        ((*train, "--weights", "imagenet"), "no 'imagenet' weights of sppnet_small"),
        ((*train, "--weights", tmp_path / "no.pth"), "no.pth: cannot be read as a state dict (no such file)"),
        ((*train, "--weights", one, "--backbone", "squeezenet1_1"), "one.safetensors: "),
        ((*train, "--sizes", "63"), "sizes must be 64 pixels or more, the largest first, not 63"),
        ((*train, "--sizes", "64,80"), "the largest first, not 64,80"),
        ((*train, "--sizes", "big"), "expected positive whole numbers with commas between them, got 'big'"),
        ((*train, "--sizes", "80,64", "--no-spp", "crop"), "without SPP a network takes one size of images, not 80,64"),
        ((*train, "--rate", "0"), "the learning rate must be positive"),
        ((*train, "--val", tmp_path / "nowhere"), "nowhere: no such dataset"),
        ((*train, "--val", scenes), "scenes: its photographs have any number of labels each; expected one label, as"),
        ((*train, "--val", colours, "--val-images", colours), "goes with a COCO annotation file, not a folder"),
        (("train", colours, "--out", tmp_path), "is a folder; expected a file to write"),
        (("train", colours), "the following arguments are required: --out/-o"),
        (("trian", colours), "unknown job 'trian'; did you mean 'train'?"),
        ((*of_colours, tmp_path / "missing"), "missing: no such model file"),
        ((*of_colours, colours / "red" / "0.png"), "0.png: not an sppnet model file"),
        ((*of_colours, folder / "many.safetensors"), "have one label each; expected any number of labels, as"),
        ((*of_colours, one, "--views", "eleven"), "views 'eleven' are not known; expected one, ten, 96, full, 98"),
        ((*of_colours, one, "--scales", "63"), "scales of views must be at least 64 pixels, not 63"),
        ((*of_colours, folder / "crop.safetensors", "--views", "one+full"), "expected other --views than 'one+full'"),
        (("evaluate", scenes, "--set", "val", "--model", one), "expected one label"),
        (
            ("evaluate", scenes, "--set", "val", "--crops", "--model", one),
            "has box, disc, star, triangle, expected some of blue, green, red",
        ),
        (("predict", tmp_path / "nowhere", "--model", one), "nowhere: no such image"),
        (
            ("predict", colours, "--model", one, "--top", "0"),
            "argument --top: expected a whole number from 1 up, got '0'",
        ),
        (("predict", colours, "--model", folder / "crop.safetensors", "--views", "98"), "other --views than '98'"),
    ]
    for words, expected in calls:
        assert classify(*words) == 2, words
        out, error = capsys.readouterr()
        assert expected in error
        assert out == ""
        assert "Traceback" not in error
        assert len([line for line in error.splitlines() if "error:" in line]) == 1
    assert not (tmp_path / "m.safetensors").exists()


def test_a_twin_that_warps_sees_whole_photographs(folder, tmp_path):
    whole, _ = evaluate(folder, tmp_path, folder / "new", "--views", "full", "--quiet", model="warp.safetensors")
    assert whole["images"] == 9


# --- around it --------------------------------------------------------------------------------------------------------


def test_help_lists_the_jobs_and_their_options(capsys):
    assert classify("--help") == 0
    out = capsys.readouterr().out
    for name in ("train", "evaluate", "predict", "svm"):
        assert f"\n  {name} " in out
        assert classify(name, "--help") == 0
        job = capsys.readouterr().out
        assert job.startswith(f"usage: sppnet classify {name} ")
        assert all(option in job for option in ("--device auto|cpu|cuda", "--seed INT", "--quiet"))


def test_benchmark_of_views(folder, tmp_path, capsys):
    photograph, file = str(folder / "new" / "red" / "0.png"), tmp_path / "views.json"
    arguments = ["benchmark", "views", photograph, "--views", "ten", "--rounds", "1"]
    assert main([*arguments, "--model", str(folder / "one.safetensors"), "--json", str(file), "--quiet"]) == 0
    out, log = capsys.readouterr()
    assert "Views 'ten' of 1 photographs" in out
    assert log == ""
    report = json.loads(file.read_text())
    assert report["benchmark"] == "views"
    assert report["result"]["photographs"][0]["views"] == 10
    assert main([*arguments, "--model", str(folder / "crop.safetensors")]) == 2
    assert "takes squares only" in capsys.readouterr().err

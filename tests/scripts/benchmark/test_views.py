"""``sppnet benchmark views``: measurements and output; no test depends on durations."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from sppnet.data.errors import InputError
from sppnet.detector.classification.network import SPPClassifier
from sppnet.detector.classification.options import ClassifierOptions
from sppnet.detector.classification.views import Views, from_crops, named_views
from sppnet.scripts.benchmark import views as bench_views
from sppnet.scripts.parser import CommandParser

SMALL = ["--backbone", "squeezenet1_1", "--pyramid", "1,2", "--fc-width", "8", "--classes", "4", "--rounds", "2"]


@pytest.fixture(autouse=True)
def few_views(monkeypatch):
    """Of 64 pixels, in two batches: what is measured does not matter here."""
    monkeypatch.setitem(bench_views._BATCHES, "cpu", (2, 8))


@pytest.fixture
def photograph(tmp_path):
    path = tmp_path / "noise.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (80, 110, 3), np.uint8)).save(path)
    return path


@pytest.fixture(scope="module")
def classifier():
    options = ClassifierOptions(levels=(1, 2), width=8, size=64)
    return SPPClassifier(("a", "b", "c"), "squeezenet1_1", options=options).eval()


def arguments(*words):
    parser = CommandParser()
    bench_views.add_arguments(parser)
    shared = SimpleNamespace(device="cpu", quiet=True, seed=0)
    return parser.parse_args(list(map(str, words)), namespace=shared)


def test_times_ratios_and_agreement_fit_together(photograph, classifier, tmp_path):
    model = tmp_path / "model.safetensors"
    classifier.save(model)
    args = arguments(photograph, "--model", model, "--views", "ten", "--rounds", "2")
    result = bench_views.measure(args)
    assert result["views"] == "ten"
    assert result["random"] is False
    assert result["levels"] == [1, 2]
    assert result["batch"] in (2, 8)
    assert result["failed"] == []
    assert all(len(times["seconds"]) == 2 for times in result["times"].values())
    whole, part = (result["times"][name]["seconds"] for name in (bench_views.CROPS, bench_views.MAPS))
    expected = [slow / fast for slow, fast in zip(whole, part, strict=True)]
    assert result["times_faster"][bench_views.CROPS]["seconds"] == pytest.approx(expected)
    only = result["photographs"][0]
    assert (only["height"], only["width"], only["views"]) == (80, 110, 10)
    assert 0 < only["mean_apart"] <= only["max_apart"] < 1
    assert result["same_top1"] == only["same_top1"]
    text = bench_views.table(result)
    assert "Views 'ten' of 1 photographs" in text
    assert "random" not in text
    assert "110 x 80" in text


def test_a_file_that_is_no_image_is_named_and_left_out(photograph, caplog):
    broken = photograph.parent / "broken.png"
    broken.write_text("no picture")
    result = bench_views.measure(arguments(photograph, broken, *SMALL, "--views", "one", "--rounds", "1"))
    (named,) = [one.getMessage() for one in caplog.records if one.levelname == "WARNING"]
    assert named.startswith(f"sppnet: {broken}: ")
    assert result["failed"] == [str(broken)]
    assert len(result["photographs"]) == 1
    text = bench_views.table(result)
    assert f"could not be read: {broken}" in text
    assert "squeezenet1_1, random weights" in text
    with pytest.raises(InputError, match="none of 1 photographs can be read"):
        bench_views.measure(arguments(broken, *SMALL))


@pytest.mark.parametrize("name", ["ten", "98"])
def test_crops_one_at_a_time_are_the_same_views(classifier, name):
    image = np.random.default_rng(0).integers(0, 256, (80, 110, 3), np.uint8)
    views = named_views(name, 64)
    crops = bench_views.single_crops(classifier, image, views)
    assert len(crops) == int(name.replace("ten", "10"))
    found = bench_views.one_at_a_time(classifier, crops)
    torch.testing.assert_close(found, torch.from_numpy(from_crops(classifier, image, views)), rtol=1e-4, atol=1e-5)


def test_a_sample_is_scaled_to_all_crops(classifier, monkeypatch):
    seen = []
    monkeypatch.setattr(bench_views, "one_at_a_time", lambda classifier, crops: seen.append(len(crops)))
    image = np.random.default_rng(0).integers(0, 256, (80, 110, 3), np.uint8)
    views = (Views((80,), "grid", mirror=True),)
    monkeypatch.setattr("sppnet.eval.timing.perf_counter", iter(range(10_000)).__next__)  # every job takes a second
    for sample, crops in ((None, 18), (6, 6), (100, 18)):
        args = SimpleNamespace(rounds=1, sample=sample)
        times, _ = bench_views.measure_one(classifier, image, views, 4, args)
        assert seen[-1] == crops
        assert times[bench_views.SINGLY].median == 18 / crops
        assert times[bench_views.MAPS].median == 1


@pytest.mark.parametrize("option", ["--rounds", "--sample", "--fc-width", "--classes"])
def test_a_count_of_nothing_is_refused(option, capsys):
    with pytest.raises(SystemExit):
        arguments("photograph", option, 0)
    assert f"argument {option}: expected a whole number from 1 up, got '0'" in capsys.readouterr().err


def test_what_makes_no_sense_is_refused(photograph, tmp_path):
    for words, message in [
        (["--views", "eleven"], "'eleven' are not known; expected one, ten, 96"),
        (["--backbone", "squeezenot"], "squeezenet"),
    ]:
        with pytest.raises(InputError, match=message):
            bench_views.measure(arguments(photograph, *SMALL, *words))
    with pytest.raises(InputError, match="nowhere"):
        bench_views.measure(arguments("nowhere.png", *SMALL))
    twin = tmp_path / "twin.safetensors"
    SPPClassifier(("a", "b"), "squeezenet1_1", options=ClassifierOptions(width=8, fit="warp")).save(twin)
    with pytest.raises(InputError, match=r"twin.safetensors: takes squares only"):
        bench_views.measure(arguments(photograph, "--model", twin))
    with pytest.raises(InputError, match="do not combine it with --layer or --stride"):
        bench_views.measure(arguments(photograph, "--model", twin, "--stride", "8"))


def test_a_random_network_has_the_map_asked_for():
    options = ["--fc-width", "8", "--pyramid", "1", "--classes", "2"]
    network = bench_views.make_classifier(arguments("--layer", "features.4", "--stride", "8", *options), "cpu")
    assert (network.name, network.layer, network.stride) == ("sppnet_small", "features.4.relu2", 8)

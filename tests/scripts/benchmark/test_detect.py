"""``sppnet benchmark detect``: measurements and output; no test depends on durations."""

import json
from types import SimpleNamespace
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from random_models import random_model
from sppnet import SPPDetector
from sppnet.data.scenes import make_scenes
from sppnet.scripts.benchmark import detect as bench_detect
from sppnet.scripts.benchmark import growth
from sppnet.scripts.benchmark.growth import write_growth_charts
from sppnet.scripts.cli import main

SIZE = (96, 128)
STAGES = ["decoding", "proposals", "convolutions", "pooling, SVMs, NMS, boxes", "drawing"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three scenes and a model with random SVMs."""
    folder = tmp_path_factory.mktemp("bench-detect")
    make_scenes(folder / "scenes", {"val": 3}, seed=0, size=SIZE)
    random_model().save(folder / "model.safetensors")
    return folder


@pytest.fixture(autouse=True)
def _few_small_points(monkeypatch):
    monkeypatch.setattr(growth, "WINDOWS", (5, 80))
    monkeypatch.setattr(growth, "MEGAPIXELS", (0.005, 0.02))


def benchmark(folder, *options):
    model, photographs = str(folder / "model.safetensors"), str(folder / "scenes" / "JPEGImages")
    return main(["benchmark", "detect", "--model", model, "--images", photographs, "--quiet", *options])


def test_figures_of_a_folder_and_of_the_growth(folder, capsys, tmp_path):
    file, plot = tmp_path / "detect.json", tmp_path / "new" / "growth.svg"
    assert benchmark(folder, "--count", "2", "--repeats", "2", "--json", str(file), "--plot", str(plot)) == 0
    table, errors = capsys.readouterr()
    assert errors == ""
    result = json.loads(file.read_text())["result"]

    assert result["images"] == 2
    assert list(result["stages"]) == STAGES
    whole = result["whole"]["seconds"]
    assert len(whole) == 2
    for stage in result["stages"].values():
        assert all(part <= total for part, total in zip(stage["seconds"], whole, strict=True))
    assert result["whole"]["percentile_95"] == pytest.approx(np.percentile(whole, 95))
    assert result["per_second"] == pytest.approx(2 / sum(whole))
    assert result["together_per_second"] > 0
    assert result["peak_memory"]["gpu"] is None or torch.cuda.is_available()

    curves = result["growth"]
    assert [point["windows"] for point in curves["windows"]] == [5, 80]
    assert [point["megapixels"] for point in curves["size"]] == [0.005, 0.02]
    assert list(curves["windows"][0]["stages"]) == [*STAGES[2:4], "whole"]
    assert list(curves["size"][0]["stages"]) == [*STAGES[1:4], "whole"]
    for point in [*curves["windows"], *curves["size"]]:
        *parts, total = (stage["seconds"] for stage in point["stages"].values())
        np.testing.assert_allclose(np.sum(parts, axis=0), total)
        assert len(total) == 2

    told = "one after the other", "several at a time", "95th percentile", "peak memory, process"
    for text in (*STAGES, "whole", *told):
        assert text in table
    assert "Growth with the number of windows, proposing left out, milliseconds (median of 2)" in table
    for name, axis in (("windows", "windows"), ("size", "megapixels")):
        svg = ElementTree.parse(tmp_path / "new" / f"growth-{name}.svg").getroot()
        texts = [text.text for text in svg.iter("{http://www.w3.org/2000/svg}text")]
        assert {axis, "convolutions", "pooling, SVMs, NMS, boxes", "whole"} <= set(texts)
    assert len(list(plot.parent.iterdir())) == 2


def test_without_growth(folder, capsys, tmp_path):
    assert benchmark(folder, "--no-growth", "--json", str(tmp_path / "detect.json")) == 0
    result = json.loads((tmp_path / "detect.json").read_text())["result"]
    assert result["precision"] == "float32"
    assert result["images"] == 3  # all there are, fewer than the default
    assert "growth" not in result
    assert "Growth" not in capsys.readouterr().out


def test_convolutions_in_another_precision(folder, monkeypatch, capsys, tmp_path):
    timed, measure = [], bench_detect.measure_stages

    def note(detector, *rest):
        timed.append(detector)
        return measure(detector, *rest)

    monkeypatch.setattr(bench_detect, "measure_stages", note)
    options = ["--no-growth", "--count", "1", "--precision", "bfloat16", "--json", str(tmp_path / "detect.json")]
    assert benchmark(folder, *options) == 0
    assert json.loads((tmp_path / "detect.json").read_text())["result"]["precision"] == "bfloat16"
    assert "convolutions in bfloat16" in capsys.readouterr().out
    image = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)
    half, exact = (one.maps(image).maps[0] for one in (timed[0], SPPDetector(random_model())))
    assert not torch.equal(half, exact)


def test_each_photograph_is_drawn_after_the_warm_up(folder, monkeypatch):
    drawn = []
    monkeypatch.setattr(bench_detect, "draw", lambda path, image, found: drawn.append(image.shape))
    assert benchmark(folder, "--no-growth", "--count", "2") == 0
    assert len(drawn) == 2 + 2 + 2  # warm-up, one after the other, several at a time


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--count", "0"], "argument --count: expected a whole number from 1 up, got '0'"),
        (["--repeats", "0"], "argument --repeats: expected a whole number from 1 up, got '0'"),
        (["--plot", "a.svg", "--no-growth"], "--plot draws the growth, which --no-growth leaves out"),
        (["--plot", "a"], "--plot writes SVG or PNG; expected a name that ends in .svg or .png, not a"),
    ],
)
def test_wrong_calls_are_one_line(folder, capsys, options, message):
    assert benchmark(folder, *options) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1


class Planted:
    """A detector that notes what it is asked for."""

    def __init__(self, method="spp"):
        self.bundle = SimpleNamespace(features=SimpleNamespace(method=method))
        self.features = self
        self.proposed = np.array([[0, 0, 10, 10], [5, 5, 20, 20]] * 10, np.float32)
        self.seen, self.mapped = [], 0

    def propose(self, image):
        return self.proposed

    def maps(self, image):
        self.mapped += 1
        return image.shape

    def detect_on(self, maps, windows):
        self.seen.append((maps, windows))


def test_points_are_measured_in_turns_and_from_the_pixels_on():
    detector = Planted()
    image = np.zeros((*SIZE, 3), np.uint8)
    growth.against_windows(detector, image, np.random.default_rng(0), 3, "cpu")
    assert [len(windows) for _, windows in detector.seen] == [5, 80] * 4  # the first two are the warm-up
    assert detector.mapped == len(detector.seen)
    assert all(np.array_equal(windows[:5], detector.proposed[:5]) for _, windows in detector.seen)
    detector = Planted()
    growth.against_size(detector, image, 2, "cpu")
    pixels = [height * width for (height, width, _), _ in detector.seen]
    np.testing.assert_allclose(pixels, [5_000, 20_000] * 3, rtol=0.02)


def test_stages_of_a_detector_that_warps_have_names_of_their_own():
    points = growth.against_windows(Planted("warp"), np.zeros((*SIZE, 3), np.uint8), np.random.default_rng(0), 1, "cpu")
    assert list(points[0]["stages"]) == ["preparation", "warping, convolutions, SVMs, NMS, boxes", "whole"]


@pytest.mark.parametrize("size", [SIZE, (7, 300), (1, 1)])
@pytest.mark.parametrize("given", [0, 3])
def test_windows_are_topped_up_with_random_ones_in_the_image(size, given):
    windows = np.arange(4 * given, dtype=np.float32).reshape(given, 4)
    full = growth.top_up(windows, 500, size, np.random.default_rng(1))
    assert (full.shape, full.dtype) == ((500, 4), np.float32)
    np.testing.assert_array_equal(full[:given], windows)
    random = full[given:]
    assert random.min() >= 0
    assert (random[:, 2:] <= np.array(size[::-1]) * (1 + 1e-6)).all()
    assert (random[:, 2:] - random[:, :2] >= np.minimum(16, size[::-1]) - 1e-3).all()
    np.testing.assert_array_equal(full, growth.top_up(windows, 500, size, np.random.default_rng(1)))
    np.testing.assert_array_equal(growth.top_up(full, 9, size, np.random.default_rng(1)), full[:9])


def test_photographs_are_resized_in_proportion():
    image = np.random.default_rng(0).integers(0, 256, (120, 480, 3), np.uint8)
    for megapixels in (0.0012, 0.0576, 0.3):
        height, width, channels = growth.resized(image, megapixels).shape
        assert channels == 3
        assert height * width == pytest.approx(1e6 * megapixels, rel=0.06)
        assert width / height == pytest.approx(4, rel=0.06)
    np.testing.assert_array_equal(growth.resized(image, 0.0576), image)


def test_peak_memory_is_in_bytes():
    held = np.ones(2**26, np.uint8)
    assert held.nbytes < bench_detect.peak_memory("cpu")["process"] < 2**44


def test_charts_of_the_growth_are_png_where_the_name_says_so(tmp_path):
    growth = {
        name: [{measure: at, "stages": {"whole": {"median": 0.01 * at}}} for at in (1, 10)]
        for name, measure in (("windows", "windows"), ("size", "megapixels"))
    }
    write_growth_charts(tmp_path / "g.png", growth)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["g-size.png", "g-windows.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in tmp_path.iterdir())

"""``--proposals``, ``--max-windows``, ``--regressions`` and ``--C`` of ``sppnet train``: the model follows them."""

import pytest
from sppnet.data.scenes import make_scenes
from sppnet.detector.detection.bundle import Bundle
from sppnet.detector.detection.detector import detector_of
from sppnet.detector.options import DetectOptions
from sppnet.scripts.cli import main


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("windows") / "scenes"
    make_scenes(folder, {"trainval": 6}, seed=0, size=(90, 120))
    return folder


def test_the_model_looks_at_the_windows_that_it_was_trained_on(scenes, tmp_path, capsys):
    model = tmp_path / "m.safetensors"
    call = ["train", str(scenes), "--backbone", "sppnet_small", "--weights", "none", "--scales", "96", "--quiet"]
    call += ["--out", str(model), "--proposals", "dense", "--max-windows", "150", "--regressions", "2", "--C", "0.01"]
    call += ["--stride", "8"]
    assert main(call) == 0
    bundle = Bundle.load(model)
    assert bundle.card["svm"]["C"] == 0.01
    assert bundle.detection == DetectOptions("dense", 150, regressions=2)
    image = next((scenes / "JPEGImages").iterdir())
    assert bundle.stride == 8
    detector = detector_of(bundle, "cpu")
    assert detector.features.backbone.stride == 8
    found = detector.detect(image, threshold=0.0)
    assert found.boxes.shape[1] == 4
    capsys.readouterr()
    assert main(["info", str(model)]) == 0
    said = capsys.readouterr().out
    assert "dense, 150 windows, boxes regressed 2 times, boxes scored again, votes from an IoU of 0.4" in said
    assert "sppnet_small, layer features.4.relu2,features.6.relu2, stride 8, weights none" in said


@pytest.mark.parametrize(
    ("option", "number", "said"),
    [
        ("--max-windows", "0", "expected a whole number from 1 up, got '0'"),
        ("--regressions", "-1", "expected a whole number from 0 up, got '-1'"),
        ("--C", "0", "must be more than 0, not 0.0"),
        ("--positive-weight", "-1", "the weight of positives must be more than 0, not -1.0"),
        ("--ridge", "nan", "the ridge of box regression must be more than 0, not nan"),
        ("--stride", "4", "invalid choice: 4"),
    ],
)
def test_impossible_numbers_are_refused_before_any_work(scenes, tmp_path, capsys, option, number, said):
    call = ["train", str(scenes), "--out", str(tmp_path / "m.safetensors"), "--weights", "none", option, number]
    assert main(call) == 2
    assert said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []

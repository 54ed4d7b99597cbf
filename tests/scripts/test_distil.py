"""``sppnet distil``, and ``sppnet info`` for its file."""

import numpy as np
import torch
from PIL import Image
from sppnet.detector.convolutions.backbone import Backbone
from sppnet.scripts.cli import main


def test_from_a_folder_to_weights_that_train_takes(tmp_path, capsys):
    photographs, out, rng = tmp_path / "photographs", tmp_path / "student.safetensors", np.random.default_rng(0)
    photographs.mkdir()
    for number in range(6):
        Image.fromarray(rng.integers(0, 256, (70, 90, 3), np.uint8)).save(photographs / f"{number}.png")
    (photographs / "broken.png").write_bytes(b"")
    torch.save(Backbone("sppnet_small").state(), tmp_path / "teacher.pt")
    arguments = ["distil", str(photographs), "--out", str(out), "--backbone", "sppnet_small", "--epochs", "1"]
    arguments += ["--teacher", "sppnet_small", "--weights", str(tmp_path / "teacher.pt"), "--sizes", "80,64"]
    assert main([*arguments, "--batch", "2", "--held-out", "0.3", "--quiet"]) == 1
    assert "broken.png" in capsys.readouterr().err
    assert Backbone("sppnet_small", out).channels == 160
    assert main(["info", str(out)]) == 0
    said = capsys.readouterr().out
    assert "teacher     sppnet_small, weights" in said
    assert "sizes       80, 64 pixels, one each epoch in turn" in said
    assert "of the variance of the map of 2 held-out images" in said
    assert main(["detect", str(photographs / "0.png"), "--model", str(out)]) == 2
    assert f"{out}: is a backbone, expected a detector" in capsys.readouterr().err


def test_a_student_unlike_its_teacher(tmp_path, capsys):
    Image.new("RGB", (80, 80)).save(tmp_path / "a.png")
    call = ["distil", str(tmp_path / "a.png"), "--out", str(tmp_path / "m.safetensors")]
    call += ["--backbone", "sppnet_medium", "--weights", "none"]
    mobilenet = ["--teacher", "mobilenet_v2", "--layer"]
    for options, teacher, channels in (
        ([*mobilenet, "features.18"], "mobilenet_v2", "512"),
        ([*mobilenet, "features.17", "--channels", "0"], "mobilenet_v2", "320"),
        (["--channels", "8,16"], "efficientnet_lite0", "8+16"),
    ):
        assert main([*call, *options]) == 2
        assert (
            "the map of sppnet_medium (288 channels at stride 16, first cell at 1) must be like that of "
            f"{teacher} ({channels} channels at stride 16, first cell at 1)"
        ) in capsys.readouterr().err


def test_parts_of_a_photograph(tmp_path, capsys):
    Image.new("RGB", (80, 80)).save(tmp_path / "a.png")
    call = ["distil", str(tmp_path / "a.png"), "--out", str(tmp_path / "m.safetensors"), "--weights", "none", "--area"]
    for wrong in ("0.1", "a,b", "0.1,0.2,0.3"):
        assert main([*call, wrong]) == 2
        assert f"expected two parts of a photograph, like 0.08,0.8, got '{wrong}'" in capsys.readouterr().err
    assert main([*call, "0.4,0.1"]) == 2
    assert "area must be two shares of a photograph, 0 < least <= most <= 1" in capsys.readouterr().err

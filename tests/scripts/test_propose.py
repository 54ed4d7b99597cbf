"""``sppnet propose`` and ``sppnet benchmark proposals`` on the command line."""

import json
import signal

import cv2
import numpy as np
import pytest
from sppnet.data.image import read_image, write_image
from sppnet.data.scenes import draw_scene, make_scenes
from sppnet.proposals.selective_search import selective_search
from sppnet.scripts.cli import main

needs_contrib = pytest.mark.skipif(not hasattr(cv2, "ximgproc"), reason="OpenCV without contrib modules")


def boxes_in(path):
    with np.load(path, allow_pickle=False) as archive:
        return archive["boxes"]


def test_boxes_of_a_folder(tmp_path, capsys):
    images = [draw_scene(np.random.default_rng(seed), (60, 80)).image for seed in range(2)]
    write_image(tmp_path / "in" / "a.png", images[0])
    write_image(tmp_path / "in" / "deep" / "a.png", images[1])
    status = main(
        ["propose", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "--max", "30", "--seed", "4", "--quiet"]
    )
    assert status == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"a.npz", "a-2.npz"}
    for name, image in zip(("a", "a-2"), images, strict=True):
        found = boxes_in(tmp_path / "out" / f"{name}.npz")
        assert found.dtype == np.float32
        assert np.array_equal(found, selective_search(image, max_boxes=30, seed=4))
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""


def test_a_bad_image_is_named_and_the_others_done(tmp_path, capsys):
    (tmp_path / "bad.jpg").write_bytes(b"nothing")
    write_image(tmp_path / "good.png", np.zeros((5, 5, 3), np.uint8))
    status = main(["propose", str(tmp_path / "bad.jpg"), str(tmp_path / "good.png"), "-o", str(tmp_path / "out")])
    assert status == 1
    assert "bad.jpg" in capsys.readouterr().err
    assert boxes_in(tmp_path / "out" / "good.npz").tolist() == [[0, 0, 5, 5]]
    assert not (tmp_path / "out" / "bad.npz").exists()


def test_recall_over_a_labelled_set(tmp_path, capsys):
    root = make_scenes(tmp_path / "scenes", {"val": 3}, size=(120, 160))
    status = main(["propose", "--dataset", str(root), "--set", "val", "-o", str(tmp_path / "out"), "--quiet"])
    assert status == 0
    figures = json.loads((tmp_path / "out" / "recall.json").read_text())
    assert figures["images"] == 3
    assert figures["objects"] > 3
    assert figures["recall"]["0.5"] > 0.8
    assert figures["mabo"] > 0.7
    printed = capsys.readouterr().out
    assert f"{figures['objects']} objects" in printed
    assert f"{figures['mabo']:.3f}" in printed
    assert "recall at 0.7" in printed
    assert len(list((tmp_path / "out").glob("*.npz"))) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "expected either IMAGES or --dataset"),
        (["a.jpg", "--dataset", "b"], "expected either IMAGES or --dataset"),
        (["nowhere.jpg"], "nowhere.jpg: no such image"),
        (["nowhere.jpg", "--max", "0"], "argument --max: expected a whole number from 1 up, got '0'"),
        (["nowhere.jpg", "--method", "best"], "invalid choice: 'best'"),
    ],
)
def test_wrong_calls_end_with_2(arguments, message, capsys):
    with pytest.raises(SystemExit) as stop:
        raise SystemExit(main(["propose", *arguments]))
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


@needs_contrib
def test_benchmark_compares_both_sides(tmp_path, capsys):
    root = make_scenes(tmp_path / "scenes", {"val": 3}, size=(60, 80))
    report = tmp_path / "report.json"
    call = ["benchmark", "proposals", "--dataset", str(root), "--set", "val", "--images", "2", "--json", str(report)]
    assert main([*call, "--quiet"]) == 0
    result = json.loads(report.read_text())["result"]
    assert result["images"] == 2
    for side in ("sppnet", "opencv"):
        assert len(result[side]["seconds"]["seconds"]) == 2
        assert 0 < result[side]["mabo"] <= 1
        assert set(result[side]["recall"]) == {"0.5", "0.7", "0.8"}
    assert result["ratio"]["median"] > 0
    printed = capsys.readouterr().out
    assert "times as fast" in printed
    assert "OpenCV fast" in printed


def test_the_first_boxes_are_drawn(tmp_path):
    image = draw_scene(np.random.default_rng(0), (60, 80)).image
    write_image(tmp_path / "in/a.png", image)
    assert main(["propose", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "--draw", "--quiet"]) == 0
    drawn = read_image(tmp_path / "out/images/a.jpg")
    assert drawn.shape == image.shape
    assert np.abs(drawn.astype(int) - image).max() > 100
    # Drawings are no photographs.
    assert main(["propose", str(tmp_path), "-o", str(tmp_path / "again"), "--quiet"]) == 0
    assert [path.name for path in (tmp_path / "again").iterdir()] == ["a.npz"]


def test_a_picture_that_cannot_be_drawn_does_not_cost_the_others(tmp_path, monkeypatch, capsys):
    for name in ("a", "b"):
        write_image(tmp_path / f"in/{name}.png", draw_scene(np.random.default_rng(0), (60, 80)).image)

    def refuse(path, *rest, **options):
        if path.stem == "a":
            raise OSError("no space left")
        write_image(path, *rest, **options)

    monkeypatch.setattr("sppnet.data.image.write_image", refuse)
    arguments = [str(tmp_path / "in"), "-o", str(tmp_path / "out"), "--draw", "--quiet"]
    assert main(["propose", *arguments]) == 1
    assert capsys.readouterr().err == (
        f"sppnet: {tmp_path}/in/a.png: cannot be drawn (no space left); its boxes are kept\n"
    )
    assert sorted(path.name for path in (tmp_path / "out").rglob("*.*")) == ["a.npz", "b.jpg", "b.npz"]


def test_what_is_done_is_kept_when_it_is_interrupted(tmp_path, monkeypatch, capsys):
    for number in range(4):
        write_image(tmp_path / f"in/{number}.png", np.zeros((5, 5, 3), np.uint8))

    def propose(image, name):
        if name == "2":
            signal.raise_signal(signal.SIGINT)
        return np.zeros((1, 4), np.float32)

    monkeypatch.setattr("sppnet.proposals.backends.make_proposer", lambda *_: propose)
    assert main(["propose", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "--quiet"]) == 130
    assert capsys.readouterr() == ("", "sppnet: interrupted\n")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["0.npz", "1.npz"]


def test_recall_is_written_before_it_is_shown(tmp_path, monkeypatch):
    root = make_scenes(tmp_path / "scenes", {"val": 1}, size=(60, 80))
    monkeypatch.setattr("builtins.print", broken_pipe)
    command = ["propose", "--dataset", str(root), "--set", "val", "-o", str(tmp_path / "out"), "--quiet"]
    assert main(command) == 1
    assert json.loads((tmp_path / "out" / "recall.json").read_text())["images"] == 1


def broken_pipe(*texts, **options):
    raise BrokenPipeError

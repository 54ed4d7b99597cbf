"""``sppnet detect --resume`` after a stop of any kind ends with the files of a run without a stop."""

import json
import random
import signal
import subprocess
import sys
import time

import pytest
from many_photographs import link_scenes
from random_models import random_model
from sppnet.data.formats import read_detections_json
from sppnet.data.scenes import make_scenes
from sppnet.scripts.cli import main

FORMATS = ["--format", "json,csv,coco,voc"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Photographs, most of them links to a few scenes, one damaged; a model; and what a run without a stop writes."""
    folder = tmp_path_factory.mktemp("resume")
    make_scenes(folder / "scenes", {"val": 4}, seed=0, size=(96, 128))
    link_scenes(folder, "many", 60)
    (folder / "many" / "00030.png").write_text("no picture")
    random_model().save(folder / "model.safetensors")
    assert main(command(folder, folder / "whole")[3:]) == 1
    return folder


def command(folder, out, *more, photographs="many"):
    called = [sys.executable, "-m", "sppnet", "detect", str(folder / photographs), "-o", str(out)]
    model = ["--model", str(folder / "model.safetensors"), "--max-windows", "20", "--threshold", "-10"]
    return [*called, *model, *FORMATS, *more]


def contents(out):
    return {path.relative_to(out): path.read_bytes() for path in out.rglob("*") if path.suffix not in (".jsonl", "")}


def stopped(folder, out, number, after, photographs="many"):
    """Run until some images are done, then send a signal; returns the exit status and the lines on stderr."""
    called = command(folder, out, "--resume", photographs=photographs)
    process = subprocess.Popen(called, stderr=subprocess.PIPE, text=True)
    journal = out / "detections.jsonl"
    while process.poll() is None and not (journal.exists() and journal.read_bytes().count(b"\n") > after):
        time.sleep(0.005)
    process.send_signal(number)
    errors = process.communicate(timeout=60)[1]
    return process.returncode, errors


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_stopped_run_goes_on(folder, tmp_path, number, capsys):
    status, errors = stopped(folder, tmp_path, number, after=8)
    done = (tmp_path / "detections.jsonl").read_text().splitlines()
    assert 8 <= len(done) < 61
    assert "Traceback" not in errors
    if number == signal.SIGTERM:
        # It does what Ctrl-C does: what was found is written.
        assert status == 130
        assert "of 61 images; what was found is written, and --resume goes on" in errors
        assert 8 <= len(read_detections_json(tmp_path / "detections.json").images) < 60
    assert main(command(folder, tmp_path, "--resume")[3:]) == 1
    assert "of 61 images were done before" in capsys.readouterr().err
    assert contents(tmp_path) == contents(folder / "whole")
    lines = [json.loads(line) for line in (tmp_path / "detections.jsonl").read_text().splitlines()]
    assert len({line["file"] for line in lines[1:]}) == 61


@pytest.mark.corpus
def test_a_run_killed_at_twenty_moments_goes_on(folder, tmp_path):
    link_scenes(folder, "more", 400)
    assert main(command(folder, tmp_path / "whole", photographs="more")[3:]) == 0
    moments, out = random.Random(0), tmp_path / "out"
    for _ in range(20):
        journal = out / "detections.jsonl"
        done = journal.read_bytes().count(b"\n") if journal.exists() else 0
        stopped(folder, out, signal.SIGKILL, done + moments.randrange(0, 12), photographs="more")
    assert journal.read_bytes().count(b"\n") < 400
    assert main(command(folder, out, "--resume", photographs="more")[3:]) == 0
    assert contents(out) == contents(tmp_path / "whole")


def test_pictures_that_are_missing_are_drawn_again(folder, tmp_path):
    assert main(command(folder, tmp_path, "--no-draw")[3:]) == 1
    assert main(command(folder, tmp_path, "--resume")[3:]) == 1
    assert contents(tmp_path) == contents(folder / "whole")


def test_another_model_is_refused_and_nothing_is_lost(folder, tmp_path, capsys):
    assert main(command(folder, tmp_path)[3:]) == 1
    before = contents(tmp_path), (tmp_path / "detections.jsonl").read_bytes()
    other = random_model(seed=1)
    other.save(tmp_path.parent / "model.safetensors")
    called = command(folder, tmp_path, "--resume")[3:]
    called[called.index("--model") + 1] = str(tmp_path.parent / "model.safetensors")
    capsys.readouterr()
    assert main(called) == 2
    assert "was made with another model" in capsys.readouterr().err.splitlines()[-1]
    assert (contents(tmp_path), (tmp_path / "detections.jsonl").read_bytes()) == before
    assert len(read_detections_json(tmp_path / "detections.json").images) == 60

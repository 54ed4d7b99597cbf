"""Hard stops: a training that was killed, damaged files of its work folder, a full disk, two runs at once."""

import json
import os
import re
import shutil
import subprocess
import sys
from contextlib import contextmanager, suppress

import numpy as np
import pytest
from detector_options import SMALL
from sppnet.data import store
from sppnet.data.errors import InputError
from sppnet.data.scenes import make_scenes
from sppnet.data.store import locked
from sppnet.data.voc import VOCDataset
from sppnet.detector.classification.train import train_classifier
from sppnet.detector.distillation import distil
from sppnet.detector.options import DetectOptions, FeatureOptions, FineTuneOptions, SVMOptions, TrainOptions
from sppnet.detector.training.train import train
from sppnet.scripts.cli import main

#: Options that train in half a second.
POOL5 = SMALL | {
    "backbone": "sppnet_small",
    "features": FeatureOptions(scales=(96,), levels=(1, 2)),
    "detection": DetectOptions(max_windows=30),
    "svm": SVMOptions(start_negatives=20, max_gigabytes=0.01),
    "options": TrainOptions(held_out=0.34),
}
FC7 = POOL5 | {
    "features": FeatureOptions(scales=(96,), levels=(1, 2), kind="fc7"),
    "finetune": FineTuneOptions(width=16, epochs=2, batch=8, positives_in_batch=2, batches_in_epoch=1),
}


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    """Four scenes."""
    root = tmp_path_factory.mktemp("few")
    make_scenes(root, {"train": 4}, seed=3, size=(96, 128))
    return VOCDataset(root, "train")


@pytest.fixture(scope="module")
def whole(few, tmp_path_factory):
    """The folder of an undisturbed run with fine-tuned fc layers: model.safetensors and work."""
    folder = tmp_path_factory.mktemp("whole")
    train(few, out=folder / "model.safetensors", work=folder / "work", **FC7)
    return folder


def kept(work):
    """The content of each entry of a work folder, by name; without charts and locks."""
    return {path.name: path.read_bytes() for path in work.glob("*/*") if path.suffix in (".npy", ".npz", ".json")}


class StoppedError(BaseException):
    """Stands for the end of the process."""


def test_a_run_that_is_stopped_at_each_of_its_writes_ends_with_the_same_file(few, whole, tmp_path, monkeypatch):
    """Each run goes on where the one before was stopped, writes one more file, and is stopped at the next."""
    out, work, replace, written, runs = tmp_path / "model.safetensors", tmp_path / "work", os.replace, set(), 0

    def stop_at_second(source, target):
        if len(written | {target}) > runs + 1:
            raise StoppedError
        written.add(target)
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(store.os, "replace", stop_at_second)
        while not out.exists():
            with suppress(StoppedError):
                train(few, out=out, work=work, **FC7)
            runs += 1
    assert runs >= len(kept(whole / "work"))
    assert out.read_bytes() == (whole / "model.safetensors").read_bytes()
    assert kept(work) == kept(whole / "work")


def changed(path, change):
    """Write an array, or those of a file, again, each changed and with a checksum that is right."""
    if path.suffix == ".npy":
        np.save(path, change(np.load(path)))
        return
    with np.load(path) as file:
        arrays = {name: change(value) for name, value in file.items()}
    np.savez(path, **arrays)


def with_nan(value):
    value = value.copy()
    if value.dtype.kind == "f":
        value.reshape(-1)[:1] = np.nan
    return value


def damage(path, kind):
    content = path.read_bytes()
    half = len(content) // 2
    if kind == "cut":
        path.write_bytes(content[:half])
    elif kind == "zeros":
        path.write_bytes(bytes(len(content)))
    elif kind == "page of zeros":
        # Of an archive this is in a member: its directory, at the end, stays whole.
        path.write_bytes(content[: half // 2] + bytes(half - half // 2) + content[half:])
    elif kind == "folder":
        path.unlink()
        path.mkdir()
        (path / "file").write_text("")
    elif path.suffix == ".json":
        text = content.decode()
        path.write_text("[]" if kind == "shape" else re.sub(r"-?\d+\.\d+", "NaN", text))
    else:
        changed(path, with_nan if kind == "nan" else lambda value: value[None])


@pytest.mark.parametrize("kind", ["cut", "zeros", "page of zeros", "folder", "nan", "shape"])
def test_damaged_entries_are_computed_again(few, whole, tmp_path, kind):
    """All of them at once: the next run ends with the same model, and whole entries."""
    shutil.copytree(whole / "work", tmp_path / "work")
    before = kept(whole / "work")
    for path in (tmp_path / "work").glob("*/*"):
        if path.name in before:
            damage(path, kind)
    train(few, out=tmp_path / "model.safetensors", work=tmp_path / "work", **FC7)
    assert (tmp_path / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    after = kept(tmp_path / "work")
    assert after.keys() == before.keys()
    assert [name for name in before if after[name] != before[name]] == []


def test_one_damaged_entry_costs_only_itself(few, whole, tmp_path, monkeypatch):
    shutil.copytree(whole / "work", tmp_path / "work")
    damaged = sorted((tmp_path / "work" / "maps").iterdir())[0]
    damage(damaged, "cut")
    written, replace = [], os.replace
    monkeypatch.setattr(store.os, "replace", lambda *paths: written.append(paths[1]) or replace(*paths))
    out = tmp_path / "model.safetensors"
    train(few, out=out, work=tmp_path / "work", **FC7)
    assert written == [damaged, tmp_path / "work" / "held-out.json", out]


def test_entries_of_earlier_versions_have_no_checksum_and_are_used(few, whole, tmp_path, monkeypatch):
    shutil.copytree(whole / "work", tmp_path / "work")
    for path in (tmp_path / "work" / "maps").iterdir():
        changed(path, np.array)
    before = kept(tmp_path / "work")
    train(few, out=tmp_path / "model.safetensors", work=tmp_path / "work", **FC7)
    assert kept(tmp_path / "work") == before
    assert (tmp_path / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()


@contextmanager
def files_up_to(size):
    """In this block no file can grow beyond so many bytes, as if the disk were full."""
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_full_disk_is_told_with_the_name_of_the_model(few, whole, tmp_path):
    """The earlier model stays, and nothing half-written."""
    shutil.copytree(whole / "work", tmp_path / "work")
    out = tmp_path / "model.safetensors"
    out.write_bytes(b"earlier")
    with files_up_to(200_000), pytest.raises(OSError, match=f"{re.escape(str(out))}'$") as caught:
        train(few, out=out, work=tmp_path / "work", **FC7)
    assert caught.value.filename == str(out)
    assert "\n" not in str(caught.value)
    assert out.read_bytes() == b"earlier"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.safetensors", "work"]


def test_a_second_run_on_a_work_folder_is_refused(few, labelled, tmp_path, capsys):
    work, out = tmp_path / "work", tmp_path / "m.safetensors"
    message = f"{re.escape(str(work))}: another run works in this folder \\(process {os.getpid()}\\)"
    with locked(work):
        with pytest.raises(InputError, match=message):
            train(few, out=out, work=work, **POOL5)
        with pytest.raises(InputError, match=message):
            train_classifier(labelled(12), out, "sppnet_small", "none", work=work, quiet=True)
        with pytest.raises(InputError, match=message):
            distil([image.path for image in labelled(12)], out, "sppnet_small", "sppnet_small", "none", work=work)
        call = ["train", str(few.root), "--set", "train", "--quiet", "--device", "cpu", "--backbone", "sppnet_small"]
        assert main([*call, "--weights", "none", "--out", str(out), "--work", str(work)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(message, line)
    assert not out.exists()


# Starts a training in a process of its own as often as it is asked to, and kills it after so many seconds.
STARTER = """
import os, signal, sys, time, torch
torch.set_num_threads(1)
from sppnet.data.voc import VOCDataset
from sppnet.detector.options import *
from sppnet.detector.training.train import train
options = eval(sys.argv[2])
for line in sys.stdin:
    seconds, out, work = line.split()
    start, child = time.monotonic(), os.fork()
    if child == 0:
        try:
            train(VOCDataset(sys.argv[1], "train"), out=out, work=work, **options)
            os._exit(0)
        finally:
            os._exit(1)
    while (ended := os.waitpid(child, os.WNOHANG)) == (0, 0) and time.monotonic() - start < float(seconds):
        time.sleep(0.001)
    if ended == (0, 0):
        os.kill(child, signal.SIGKILL)
        ended = os.waitpid(child, 0)
    print(ended[1], time.monotonic() - start, flush=True)
"""


@pytest.mark.corpus
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and kill -9")
@pytest.mark.parametrize("kind", ["pool5", "fc7"])
def test_a_run_that_is_killed_at_any_moment_ends_with_the_same_file(few, tmp_path, kind):
    options = repr(POOL5 if kind == "pool5" else FC7)
    command = [sys.executable, "-c", STARTER, str(few.root), options]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    rng, killed, left = np.random.default_rng(0), 0, 0
    with subprocess.Popen(
        command, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as starter:

        def run(seconds, name):
            starter.stdin.write(f"{seconds} {tmp_path / name}.safetensors {tmp_path / name}\n")
            starter.stdin.flush()
            status, took = starter.stdout.readline().split()
            return int(status), float(took)

        assert run(600, "first")[0] == 0
        status, longest = run(600, "whole")
        assert status == 0
        expected = (tmp_path / "whole.safetensors").read_bytes()
        while killed < 15:
            work = tmp_path / "killed"
            status, _ = run(rng.uniform(0, longest), "killed")
            if status:
                killed += 1
                left += len(list(work.rglob(".*.sppnet-*")))
                assert run(600, "killed")[0] == 0
            assert (tmp_path / "killed.safetensors").read_bytes() == expected
            assert list(work.rglob(".*.sppnet-*")) == []
            assert kept(work) == kept(tmp_path / "whole")
            shutil.rmtree(work)
            (tmp_path / "killed.safetensors").unlink()
        starter.stdin.close()
    print(json.dumps({"killed": killed, "half-written files": left, "seconds of a run": longest}))

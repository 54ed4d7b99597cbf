"""A training and its detections are the same, to the last bit, for any number of threads."""

import os
import subprocess
import sys

from sppnet.data.scenes import make_scenes


def run(folder, threads, *arguments, **environment):
    """Run a command with a number of threads."""
    given = {**os.environ, "OMP_NUM_THREADS": str(threads), "NUMBA_NUM_THREADS": str(threads), **environment}
    subprocess.run([sys.executable, "-m", "sppnet", *arguments, "--quiet"], cwd=folder, env=given, check=True)


def test_a_model_does_not_depend_on_the_threads(tmp_path):
    """Of fc layers it does, by the batch norms of their training."""
    make_scenes(tmp_path / "scenes", {"train": 8}, seed=3, size=(160, 200))
    options = ["--backbone", "mobilenet_v2", "--weights", "none", "--scales", "160", "--max-windows", "300"]
    options += ["--effort", "quick", "--held-out", "0.3", "--no-report"]
    for threads in (1, 3):
        out = f"model{threads}.safetensors"
        run(tmp_path, threads, "train", "scenes", "--set", "train", "--out", out, *options)
        found = ["--model", out, "--threshold", "0", "--no-draw", "--format", "csv"]
        run(tmp_path, threads, "detect", "scenes/JPEGImages", "-o", f"found{threads}", *found)
    models = [(tmp_path / f"model{threads}.safetensors").read_bytes() for threads in (1, 3)]
    assert models[0] == models[1]
    found = [(tmp_path / f"found{threads}/detections.csv").read_text() for threads in (1, 3)]
    assert found[0] == found[1]
    assert len(found[0].splitlines()) > 8

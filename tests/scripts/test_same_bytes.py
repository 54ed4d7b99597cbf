"""A training and its detections are the same, to the last bit, for any number of threads."""

import json
import os
import subprocess
import sys

import pytest
from sppnet.data.scenes import make_scenes


def run(folder, threads, *arguments, **environment):
    """Run a command with a number of threads."""
    given = {**os.environ, "OMP_NUM_THREADS": str(threads), "NUMBA_NUM_THREADS": str(threads), **environment}
    subprocess.run([sys.executable, "-m", "sppnet", *arguments, "--quiet"], cwd=folder, env=given, check=True)


@pytest.mark.parametrize("learnt", [[], ["--features", "fc7", "--epochs", "2"]], ids=["pool5", "fc7"])
def test_a_model_does_not_depend_on_the_threads(tmp_path, learnt):
    make_scenes(tmp_path / "scenes", {"train": 8}, seed=3, size=(160, 200))
    options = ["--backbone", "mobilenet_v2", "--weights", "none", "--scales", "160", "--max-windows", "300"]
    options += ["--effort", "quick", "--held-out", "0.3", "--no-report"]
    for threads in (1, 3):
        out = f"model{threads}.safetensors"
        run(tmp_path, threads, "train", "scenes", "--set", "train", "--out", out, *options, *learnt)
        found = ["--model", out, "--threshold", "0", "--no-draw", "--format", "csv"]
        run(tmp_path, threads, "detect", "scenes/JPEGImages", "-o", f"found{threads}", *found)
    models = [(tmp_path / f"model{threads}.safetensors").read_bytes() for threads in (1, 3)]
    assert models[0] == models[1]
    found = [(tmp_path / f"found{threads}/detections.csv").read_text() for threads in (1, 3)]
    assert found[0] == found[1]
    assert len(found[0].splitlines()) > 8


@pytest.mark.corpus
def test_other_instructions_move_detections_by_rounding_alone(tmp_path):
    """AVX2 and whatever the machine has: of 40 photographs boxes differed by 0.0004 pixels, scores by 2.4e-6."""
    make_scenes(tmp_path / "scenes", {"test": 8}, seed=3, size=(160, 200))
    older = {"ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_CBWR": "AVX2,STRICT", "ATEN_CPU_CAPABILITY": "avx2"}
    older |= {"NUMBA_CPU_NAME": "haswell", "NUMBA_CACHE_DIR": str(tmp_path / "compiled")}
    found = []
    for name, environment in (("own", {}), ("older", older)):
        run(tmp_path, 2, "detect", "scenes/JPEGImages", "-o", name, "--threshold", "0.02", "--no-draw", **environment)
        images = json.loads((tmp_path / name / "detections.json").read_text())["images"]
        found.append([record for image in images for record in image["detections"]])
    assert len(found[0]) == len(found[1]) > 0
    for one, other in zip(*found, strict=True):
        assert one["label"] == other["label"]
        assert one["box"] == pytest.approx(other["box"], abs=0.01)
        assert one["score"] == pytest.approx(other["score"], abs=1e-4)

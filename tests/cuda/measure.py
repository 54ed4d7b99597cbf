"""Everything that wants a GPU, in under six minutes: the tests, the benchmarks and a small training.

``python tests/cuda/measure.py FOLDER`` writes the JSON of each benchmark, with machine, versions and command, into
FOLDER, the output of each job beside it, and ``measured.json`` with the jobs' commands, seconds and statuses. The most
important ones come first; a job that the time does not suffice for is left out and named.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from time import perf_counter

#: Seconds for all jobs together, and those that a job needs to be worth starting.
LIMIT, LEAST = 340, 15

#: Photographs in the folder that is detected in: each of the five that come with scikit-image many times.
COPIES = 60

_RCNN = ["benchmark", "rcnn", "--features", "fc7", "--fc-width", "4096", "--compress", "none", "--sample", "2000"]


def jobs(folder: Path) -> dict[str, list[str]]:
    """Arguments of Python by the name of the job, the most important first."""
    tests = ["tests/cuda", "tests/detector/pooling/test_gpu.py"]
    benchmarks = {
        "pooling": ["benchmark", "pooling", "--repeats", "50"],
        "rcnn-alexnet-float32": [*_RCNN, "--count", "3"],
        "rcnn-alexnet-bfloat16": [*_RCNN, "--count", "3", "--dtype", "bfloat16"],
        "detect": ["benchmark", "detect", "--images", str(folder / "photographs"), "--count", "300"],
        "rcnn-vgg16-bfloat16": [
            *_RCNN,
            *("--backbone", "vgg16", "--dtype", "bfloat16", "--count", "2", "--rounds", "2"),
        ],
        "rcnn-vgg16-float32": [*_RCNN, "--backbone", "vgg16", "--count", "1", "--rounds", "2"],
    }
    scenes, model = str(folder / "scenes"), str(folder / "scenes.safetensors")
    result = {"tests": ["-m", "pytest", "-q", "-rs", *tests]}
    for name, arguments in benchmarks.items():
        result[name] = ["-m", "sppnet", *arguments, "--device", "cuda", "--json", str(folder / f"{name}.json")]
    result["scenes"] = ["-m", "sppnet", "scenes", scenes]
    result["train"] = ["-m", "sppnet", "train", scenes, "--set", "train", "--weights", "none", "--features", "fc7"]
    result["train"] += ["--backbone", "sppnet_small", "--device", "cuda", "--out", model]
    result["evaluate"] = ["-m", "sppnet", "evaluate", scenes, "--set", "val", "--model", model, "--device", "cuda"]
    result["evaluate"] += ["-o", str(folder / "evaluation")]
    return result


def write_photographs(folder: Path) -> None:
    """Copies of the sample photographs under names of their own."""
    from sppnet.data.example_photographs import sample_photographs

    folder.mkdir(parents=True, exist_ok=True)
    for path in sample_photographs():
        for number in range(COPIES):
            (folder / f"{path.stem}-{number}{path.suffix}").write_bytes(path.read_bytes())


def run(folder: Path, limit: float = LIMIT) -> list[dict[str, object]]:
    """Run the jobs, each with its output in a file, and write what happened after each of them."""
    from sppnet.eval.machine import describe_machine

    write_photographs(folder / "photographs")
    start, done = perf_counter(), []
    for name, arguments in jobs(folder).items():
        began = perf_counter()
        left = max(0.0, limit - (began - start))
        status: int | str = f"left out: {left:.0f} s were left"
        if left >= LEAST:
            with open(folder / f"{name}.txt", "w") as output:
                try:
                    status = subprocess.run(
                        [sys.executable, *arguments], stdout=output, stderr=subprocess.STDOUT, timeout=left, check=False
                    ).returncode
                except subprocess.TimeoutExpired:
                    status = f"stopped after {left:.0f} s"
        done.append({"job": name, "command": arguments, "seconds": perf_counter() - began, "status": status})
        report = {"machine": describe_machine(), "limit": limit, "jobs": done}
        (folder / "measured.json").write_text(json.dumps(report, indent=2))
        print(f"{name}: {status}, {done[-1]['seconds']:.0f} s", flush=True)
    return done


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python tests/cuda/measure.py FOLDER")
    import torch

    if not torch.cuda.is_available():
        sys.exit("torch finds no CUDA device here; expected one")
    statuses = [job["status"] for job in run(Path(sys.argv[1]))]
    sys.exit(0 if not any(statuses) else 1)

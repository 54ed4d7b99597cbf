"""Detection in many photographs by the workers of a Ray cluster.

The photographs are divided into blocks. Ray hands each block to a worker, which writes what it finds as one part, a
Parquet file, and sends back no more than counts. A part is written as a whole and named after its photographs: if a
worker is lost, Ray gives its block to another, and nothing is lost or there twice.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from logging import getLogger
from math import ceil
from pathlib import Path
from secrets import token_hex
from typing import Any

from ...data.addresses import Photograph, photograph_of
from ...data.arrays import Array
from ...data.decoding import MAX_PIXELS, pixel_limit
from ...data.detections import Detections
from ...data.drawings import draw_found
from ...data.errors import ImageError, InputError
from ...data.parquet import Parts, Row
from ...data.store import content_key
from ..detection.bundle import Bundle
from ..detection.combination import CombinedDetector
from ..detection.detector import detector_of
from ..detection.stream import detect_files
from ..options import Precision

#: Photographs of a block. A lost worker costs so many at most; a part is a file, and stores do not like small ones.
BLOCK = 256

#: Blocks for each worker, where there are few photographs: so that all workers end at about the same time.
BLOCKS_PER_WORKER = 8

#: After so many workers were lost over a block its photographs are left out: one of them may be what kills workers.
TRIES = 3

#: Bytes of Ray's store of objects where a cluster is made for detection, which needs next to none: 75 MB is the least
#: that it allows.
STORE = 100 << 20

#: What workers must have in common with this process so that they compute the same bits.
_ENVIRONMENT = ("MKL_CBWR", "GOMP_SPINCOUNT", "OMP_WAIT_POLICY")


@dataclass(frozen=True, eq=False)
class Job:
    """What a worker needs to know.

    Attributes
    ----------
    models : tuple of Path
        File of the model, or of several that are combined, where all workers find it.
    place : Path
        The current folder, from which paths are seen.
    precision : {"float32", "tf32", "bfloat16"}
    threshold : float or None
        As in :meth:`.interface.BaseDetector.detect`.
    parts : Parts
        On a file system that all workers have.
    pictures : Path or None
        Folder of drawings, on such a file system; None for no drawings.
    max_pixels : int
        Larger photographs are refused.
    device : {"cpu", "cuda"}
    """

    models: tuple[Path, ...]
    place: Path
    precision: Precision
    threshold: float | None
    parts: Parts
    pictures: Path | None
    max_pixels: int = MAX_PIXELS
    device: str = "cpu"


@dataclass(frozen=True)
class Done:
    """What was done of a block.

    Attributes
    ----------
    photographs : int
        All of the block.
    images : int
        Those that could be read.
    objects : int
    errors : tuple of str
        Of photographs that could not be read or drawn.
    """

    photographs: int
    images: int
    objects: int
    errors: tuple[str, ...]


@contextmanager
def connected(address: str, store: int | None = STORE) -> Iterator[None]:
    """In this block there is a Ray cluster: one that runs already, or one of this machine.

    Parameters
    ----------
    address : str
        ``"auto"`` for the cluster that this machine is in, or its head's ``HOST:PORT``. An empty one means what the
        variable ``RAY_ADDRESS`` says, or else a cluster of this machine's cores that ends with the block.
    store : int or None
        Bytes of the store of objects of such a cluster; None for the size that Ray chooses.

    Raises
    ------
    InputError
        When there is no such cluster.
    """
    address = address or os.environ.get("RAY_ADDRESS", "")
    if not address:
        # Whoever runs a cluster decides about these. One of our own tells nobody that it is there, and lets nobody in
        # that does not know its secret: its ports are open to the network, and behind them is Python.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_AUTH_TOKEN", token_hex(32))
        if "ray" not in sys.modules:  # which has read it by then
            os.environ.setdefault("RAY_AUTH_MODE", "token")
    import ray

    environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    options: dict[str, Any] = {
        "runtime_env": {"env_vars": environment},
        "log_to_driver": False,
        "logging_level": "error",
    }
    if not address:
        options |= {"address": "local", "include_dashboard": False, "object_store_memory": store}
    else:
        options["address"] = address
    try:
        ray.init(**options)
    except (ConnectionError, ValueError, RuntimeError) as error:
        said = " ".join(str(error).split())
        raise InputError(f"--ray {address}: no such cluster ({said})") from None
    try:
        yield
    finally:
        ray.shutdown()


def workers_of(device: str) -> tuple[int, str, dict[str, int]]:
    """Number of workers that the cluster has room for, their device, and what each takes of its resources.

    Parameters
    ----------
    device : {"auto", "cpu", "cuda"}
        "auto" means GPUs if the cluster has some.

    Raises
    ------
    InputError
        When the cluster has no GPU, or no core.
    """
    import ray

    there = ray.cluster_resources()
    cores, gpus = int(there.get("CPU", 0)), int(there.get("GPU", 0))
    if device == "cuda" and not gpus:
        raise InputError("--device cuda: the cluster has no GPU; use --device cpu or auto")
    if gpus and device != "cpu":
        return gpus, "cuda", {"num_gpus": 1, "num_cpus": max(1, cores // gpus)}
    if not cores:
        raise InputError("--ray: the cluster has no core for a worker")
    return cores, "cpu", {"num_cpus": 1}


def detect_on_cluster(
    job: Job, photographs: Sequence[tuple[Photograph, str]], workers: int, resources: Mapping[str, Any]
) -> Iterator[Done]:
    """Detect in photographs, and yield what was done as blocks are; inside of :func:`connected`.

    Parameters
    ----------
    job : Job
    photographs : sequence of (Path or Address, str)
        Each with the file name of its drawing.
    workers : int
        Number of workers.
    resources : mapping
        What each takes, such as ``num_cpus``.

    Raises
    ------
    InputError
        When a worker cannot write its part.
    """
    import ray.data

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    getLogger("ray.data").setLevel("ERROR")
    size = max(1, min(BLOCK, ceil(len(photographs) / (workers * BLOCKS_PER_WORKER))))
    blocks = [
        {"photographs": [(str(photograph), name) for photograph, name in photographs[first : first + size]]}
        for first in range(0, len(photographs), size)
    ]
    # A run that was stopped in the middle of a block lost no worker over it.
    for old in job.parts.folder.glob("_tries-*"):
        old.unlink()
    worker: Any = Worker
    found = ray.data.from_items(blocks, override_num_blocks=len(blocks)).map(
        worker,
        fn_constructor_args=(job,),
        compute=ray.data.ActorPoolStrategy(size=min(workers, len(blocks))),
        **resources,
    )
    for row in found.iter_rows():
        if row["refused"]:
            raise InputError(row["refused"])
        yield Done(row["photographs"], row["images"], row["objects"], tuple(row["errors"]))


class Worker:
    """Detects in blocks; Ray makes as many of them as there is room for.

    Parameters
    ----------
    job : Job
    """

    def __init__(self, job: Job) -> None:
        import torch

        cores = int(os.environ.get("OMP_NUM_THREADS", "0"))  # which Ray sets
        if cores:
            torch.set_num_threads(cores)
        os.chdir(job.place)
        detectors = [detector_of(Bundle.load(model), job.device, job.precision) for model in job.models]
        self._job, self._detector = job, detectors[0] if len(detectors) == 1 else CombinedDetector(detectors)

    def __call__(self, block: dict[str, Any]) -> dict[str, Any]:
        """Detect in the photographs of a block and write the part; returns counts."""
        photographs = [(photograph_of(file), name) for file, name in block["photographs"]]
        tries = self._job.parts.folder / f"_tries-{content_key([str(one) for one, _ in photographs])}"
        done: dict[str, Any] = {"photographs": len(photographs), "images": 0, "objects": 0, "errors": [], "refused": ""}
        try:
            begun = _begin(tries)
        except OSError as error:
            return {**done, "refused": self._unwritten(error)}
        rows = self._lost(photographs) if begun > TRIES else self._rows(photographs)
        try:
            self._job.parts.write(rows)
            tries.unlink(missing_ok=True)
        except OSError as error:
            return {**done, "refused": self._unwritten(error)}
        images = [row.image for row in rows if row.image is not None]
        return {
            **done,
            "images": len(images),
            "objects": sum(len(image.detections) for image in images),
            "errors": [row.error for row in rows if row.error is not None],
        }

    def _unwritten(self, error: OSError) -> str:
        file = error.filename or self._job.parts.folder
        return f"{file}: cannot be written by a worker ({error.strerror or error})"

    def _rows(self, photographs: Sequence[tuple[Photograph, str]]) -> list[Row]:
        pictures, names = self._job.pictures, dict(photographs)
        undrawn: dict[str, str | None] = {}

        def finish(photograph: Photograph, image: Array, found: Detections) -> None:
            if pictures is not None:
                undrawn[str(photograph)] = draw_found(pictures / names[photograph], photograph, image, found)

        rows = []
        files = [photograph for photograph, _ in photographs]
        with (
            pixel_limit(self._job.max_pixels),
            closing(detect_files(self._detector, files, self._job.threshold, finish)) as results,
        ):
            for photograph, result in zip(files, results, strict=True):
                if isinstance(result, ImageError):
                    rows.append(Row(str(photograph), None, str(result)))
                else:
                    rows.append(Row(result.file, result, undrawn.get(result.file)))
        return rows

    def _lost(self, photographs: Sequence[tuple[Photograph, str]]) -> list[Row]:
        said = f"left out: {TRIES} workers were lost over this photograph and the {len(photographs) - 1} of its block"
        return [Row(str(photograph), None, f"{photograph}: {said}") for photograph, _ in photographs]


def _begin(tries: Path) -> int:
    """Note that a block is begun; returns how often it was."""
    tries.parent.mkdir(parents=True, exist_ok=True)
    with open(tries, "ab") as file:
        file.write(b".")
        return file.tell()

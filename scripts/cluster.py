"""``--ray``: the photographs are divided among the workers of a Ray cluster."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

from .common import INTERRUPTED, compile_kernels, loading, model_names, protect_inputs
from .detection import check_threshold, combined, journal_header, load_bundle
from .photographs import check_replaced, drawn_names, photographs

if TYPE_CHECKING:
    from ..data.addresses import Photograph
    from ..data.parquet import Parts
    from ..detector.cluster.crew import RayCrew
    from ..detector.cluster.detect import Done
    from ..detector.detection.bundle import Bundle

#: Folder of the parts that the workers write.
PARTS = "detections.parquet"


def detect(args: argparse.Namespace) -> int:
    """Detect in every image; return 1 if some could not be read or drawn."""
    from ..data.outputs import make_writable
    from ..data.parquet import Parts, Row, check_pyarrow
    from ..data.progress import log, warn
    from ..data.store import remove_unfinished, writable_text

    refuse_options(args)
    check_pyarrow()
    paths, missing = photographs(args)
    drawn = {} if args.no_draw else {path: args.out / "images" / name for path, name in drawn_names(paths).items()}
    protect_inputs(args, [args.out / PARTS / "part", *drawn.values()], paths)
    check_replaced(drawn.values())
    with loading():
        from ..detector.detection.detector import detector_of

        bundles = tuple(load_bundle(model, args) for model in model_names(args))
        detector = combined([detector_of(bundle) for bundle in bundles])
        check_threshold(args, detector)
        make_writable(args.out if args.no_draw else args.out / "images")
        compile_kernels(args.quiet)
    parts = Parts(args.out / PARTS, journal_header(args, detector, args.threshold), args.resume)
    pictures = {writable_text(str(path)): file for path, file in drawn.items()}
    done = parts.keep(lambda row: row.error is None and (row.file not in pictures or pictures[row.file].exists()))
    if args.resume:
        remove_unfinished(args.out)
        log(f"{len(done)} of {len(paths)} images were done before", args.quiet)
    left = [path for path in paths if writable_text(str(path)) not in done]
    counts: list[Done] = []
    stopped, start = False, monotonic()
    try:
        for error in errors_on_cluster(args, bundles, parts, left, drawn, counts):
            warn(f"sppnet: {error}")
    except KeyboardInterrupt:
        stopped = True
    if missing:
        parts.write([Row(pattern, None, error) for pattern, error in missing.items()])
    objects, images = (sum(getattr(one, what) for one in counts) for what in ("objects", "images"))
    rate = images / (monotonic() - start)
    log(f"{objects} objects in {images} images, {rate:.1f} images a second: {parts.folder}", args.quiet)
    if stopped:
        warn(f"sppnet: interrupted after {len(done) + images} of {len(paths)} images; --resume goes on")
        return INTERRUPTED
    return 1 if missing or any(one.errors for one in counts) else 0


def errors_on_cluster(
    args: argparse.Namespace,
    bundles: Sequence[Bundle],
    parts: Parts,
    paths: Sequence[Photograph],
    drawn: Mapping[Photograph, Path],
    counts: list[Done],
) -> Iterator[str]:
    """Detect in photographs on the cluster; yields the errors as they come, and appends what was done to ``counts``."""
    from ..data.decoding import current_limit
    from ..data.progress import track
    from ..detector.cluster.detect import Job, connected, detect_on_cluster

    if not paths:
        return
    models = tuple((parts.folder / f"_model-{number}.safetensors").absolute() for number in range(len(bundles)))
    for bundle, model in zip(bundles, models, strict=True):
        bundle.save(model)
    named = [(path, drawn[path].name if path in drawn else "") for path in paths]
    pictures = args.out / "images" if drawn else None
    try:
        with connected(args.ray):
            workers, device, resources = told_workers(args)
            job = Job(models, Path.cwd(), args.precision, args.threshold, parts, pictures, current_limit(), device)
            results = detect_on_cluster(job, named, workers, resources)
            for one in track(results, "detecting", len(paths), args.quiet, lambda done: done.photographs):
                counts.append(one)
                yield from one.errors
    finally:
        for model in models:
            model.unlink(missing_ok=True)


def told_workers(args: argparse.Namespace) -> tuple[int, str, dict[str, int]]:
    """:func:`.cluster.detect.workers_of` for the arguments, which is also said."""
    from ..data.progress import log
    from ..detector.cluster.detect import workers_of

    workers, device, resources = workers_of(args.device)
    share = ", ".join(f"{name} {number}" for name, number in resources.items())
    log(f"{workers} workers on {device}, each with {share}", args.quiet)
    return workers, device, resources


@contextmanager
def training_crew(args: argparse.Namespace) -> Iterator[RayCrew | None]:
    """In this block there are the workers of a training with ``--ray``; None without it."""
    if args.ray is None:
        yield None
        return
    from ..detector.cluster.crew import RayCrew
    from ..detector.cluster.detect import connected

    with connected(args.ray, store=None):
        yield RayCrew(*told_workers(args))


def refuse_options(args: argparse.Namespace) -> None:
    """Refuse what cannot be had from a cluster.

    Raises
    ------
    InputError
        When there can be no workers (:func:`check_ray`), or an option of ``sppnet detect`` needs all results in one
        place.
    """
    from ..data.errors import InputError

    check_ray(args)
    if args.report or args.draw_truth is not None:
        raise InputError("--ray: the workers write no page and draw no labels; leave --report and --draw-truth out")
    if {*args.format} - {"json", "parquet"}:
        raise InputError(f"--ray writes DIR/{PARTS}, a folder of Parquet files, alone; leave --format out")


def check_ray(args: argparse.Namespace) -> None:
    """Check that there can be workers.

    Raises
    ------
    InputError
        When Ray is not installed, or ``--device`` names one of several devices.
    """
    from ..data.errors import InputError

    if find_spec("ray") is None:
        raise InputError("--ray needs Ray: pip install 'sppnet[ray]'")
    if args.device not in ("auto", "cpu", "cuda"):
        raise InputError(
            f"--ray: each worker has a device of its own; expected --device auto, cpu or cuda, not {args.device}"
        )

"""Scores on photographs that a detector has not learnt from: AP, calibration, and what is shown by default."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...data.detections import Detections
from ...data.errors import InputError
from ...data.formats import ImageDetections, Results, read_detections_json, write_detections_json
from ...data.progress import track
from ...data.store import atomic_path, content_key, is_entry, read_json, write_json
from ...eval.reliability import Verdicts
from ...eval.voc_ap import Judged, VOCResult, judge_voc
from ..detection.bundle import Bundle
from ..detection.calibration import Calibration, cross_fitted, weight_of_wrong
from ..detection.detector import Detector, detect_each, detector_of
from .images import TrainingImages
from .split import Split
from .stages import Stages

#: Part of the key of the stored results; increase it when they change.
VERSION = 5

#: Probability from which detections are kept for people to look at.
LEAST = 0.01


def score_parts(
    stages: Stages, models: Sequence[Bundle], keep: Path | None = None
) -> tuple[dict[str, Any], Calibration]:
    """Score each model on the part of the split that it has not learnt from; stored on disk.

    Parameters
    ----------
    stages : Stages
    models : sequence of Bundle
        One for each part; uncalibrated.
    keep : Path, optional
        Where to write what was found, as a ``detections.json`` with the model's probabilities.

    Returns
    -------
    scores : dict
        JSON-like, over all parts together: VOC07 AP of each class, the standard deviation of the mean AP over the
        parts, thresholds and what they show, calibration error, weight of wrong detections in the calibration.
    calibration : Calibration
        Fitted to the detections on all parts.
    """
    key = stages.key(VERSION, [_key(model) for model in models])
    path, found_path = (stages.folder / f"{name}-{key}.json" for name in ("held-out", "found"))
    split, names = stages.split, models[0].class_names
    kept, whole = _kept(path, names), keep is None or _is_whole(found_path)
    if kept is not None and whole:
        if keep is not None:
            with atomic_path(keep) as temporary:
                shutil.copyfile(found_path, temporary)
        return kept
    (found,) = _found_in_parts(stages, split, [models], "held-out images")
    samples = [stages.images.samples[i] for i in split.scored]
    judged = judge_voc(found, samples, names)
    wrong_weight = weight_of_wrong(judged)
    calibration = Calibration.fit(judged, wrong_weight)
    measured = cross_fitted(judged, wrong_weight=wrong_weight)
    scores = {
        "images": len(split.scored),
        "folds": len(split.parts),
        "objects": {one.name: one.positives for one in judged},
        "metric": "voc07",
        **_average_precision(judged),
        "spread": _spread(in_parts(judged, split.sizes)),
        "thresholds": dict(zip(names, calibration.thresholds, strict=True)),
        "shown": {} if measured is None else _shown(judged, measured),
        # Probabilities that allow for other photographs than these cannot be compared with these.
        "calibration": None if measured is None or wrong_weight > 1 else Verdicts.joined(measured).to_dict(),
        "wrong_weight": wrong_weight,
    }
    if keep is not None:
        results = Results("held out", names, _with_probabilities(found, calibration, stages, split), failed={})
        for file in (found_path, keep):
            write_detections_json(file, results)
    write_json(path, {"scores": scores, "calibration": calibration.to_dict()})
    return scores, calibration


def _kept(path: Path, names: Sequence[str]) -> tuple[dict[str, Any], Calibration] | None:
    """Scores and calibration for these classes that an earlier run has stored; None if there are none."""
    try:
        kept = read_json(path)
        scores, calibration = kept["scores"], Calibration.from_dict(kept["calibration"])
        whole = set(scores["thresholds"]) == set(names) and len(calibration.slopes) == len(names)
        return (scores, calibration) if whole else None
    except (KeyError, TypeError, ValueError):
        return None


def _is_whole(path: Path) -> bool:
    """Whether a stored ``detections.json`` is there and undamaged."""
    try:
        return is_entry(path) and bool(read_detections_json(path))
    except InputError:
        return False


def _with_probabilities(
    found: Sequence[Detections], calibration: Calibration, stages: Stages, split: Split
) -> list[ImageDetections]:
    """Detections in the photographs of a split, without those that are most likely wrong."""
    images = []
    for i, one in zip(split.scored, found, strict=True):
        probabilities = calibration.probabilities(one.scores, one.labels)
        likely = probabilities >= LEAST
        known = one[likely].replace(probabilities=probabilities[likely])
        height, width = stages.images.sizes[i]
        images.append(ImageDetections(str(stages.images.samples[i].path), width, height, known))
    return images


def _key(model: Bundle) -> str:
    """Key of everything in a model."""
    return content_key(model.header(), *(value.float().numpy().tobytes() for value in model.tensors().values()))


def judge_parts(
    stages: Stages, split: Split, candidates: Sequence[Sequence[Bundle]], label: str = "held-out images"
) -> list[list[Judged]]:
    """Detect with each candidate, one model for each part of the split, and judge what is found in the parts.

    The windows of an image are pooled once for all candidates, whose features are the same.

    Returns
    -------
    list of list of Judged
        For each candidate one for each class, over the images of all parts, part after part.
    """
    found = _found_in_parts(stages, split, candidates, label)
    samples, names = [stages.images.samples[i] for i in split.scored], candidates[0][0].class_names
    return [judge_voc(of_candidate, samples, names) for of_candidate in found]


def _found_in_parts(
    stages: Stages, split: Split, candidates: Sequence[Sequence[Bundle]], label: str
) -> list[list[Detections]]:
    """For each candidate what its models find in the images of their parts, part after part."""
    part_of = {i: number for number, part in enumerate(split.parts) for i in part}
    visited = stages.images.each(_found_of, _Models(candidates), split.scored, part_of)
    found = dict(track(visited, label, len(split.scored), stages.quiet))
    return [list(of_candidate) for of_candidate in zip(*(found[i] for i in split.scored), strict=True)]


@dataclass(frozen=True, eq=False)
class _Models:
    """Candidates, each with a model for each part of the images; their detectors are built where they are used."""

    candidates: Sequence[Sequence[Bundle]]

    def detectors(self, device: torch.device) -> list[list[Detector]]:
        """A detector of each model, with the same convolutions."""
        if not self._built:
            first = detector_of(self.candidates[0][0], str(device))
            self._built.extend([first.sharing(model) for model in models] for models in self.candidates)
        return self._built

    @cached_property
    def _built(self) -> list[list[Detector]]:
        return []


def _found_of(
    images: TrainingImages, place: int, index: int, maps: Any, models: _Models, part: int
) -> list[Detections]:
    """What the model of each candidate finds in an image of a part."""
    detectors = models.detectors(images.features.device)
    complete = detectors[0][0].features.complete(maps, images.samples[place])
    return detect_each([own[part] for own in detectors], complete, images.proposals[place], threshold=-np.inf)


def _average_precision(judged: Sequence[Judged]) -> dict[str, Any]:
    """VOC07 AP of each class and their mean."""
    return VOCResult(tuple(of_class.curve() for of_class in judged)).to_dict("voc07")


def _shown(judged: Sequence[Judged], measured: Sequence[Verdicts]) -> dict[str, dict[str, int]]:
    """For each class the numbers of detections shown by default, of those that are right, and of objects.

    The thresholds are those of :func:`.calibration.cross_fitted`.
    """
    counts = {}
    for one, verdicts in zip(judged, measured, strict=True):
        assert verdicts.shown is not None
        right = int((verdicts.shown & verdicts.right).sum())
        counts[one.name] = {"shown": int(verdicts.shown.sum()), "right": right, "objects": one.positives}
    return counts


def mean_ap(judged: Sequence[Judged]) -> float:
    """Mean area AP over the classes."""
    return VOCResult(tuple(of_class.curve() for of_class in judged)).mean_ap("voc")


def in_parts(judged: Sequence[Judged], sizes: Sequence[int]) -> list[list[Judged]]:
    """What was judged on each part; the images of the parts come one after the other, ``sizes`` are their numbers."""
    part = np.repeat(np.arange(len(sizes)), sizes)
    return [[of_class.among(part == number) for of_class in judged] for number in range(len(sizes))]


def _spread(parts: Sequence[Sequence[Judged]]) -> float | None:
    """Standard deviation of the parts' mean AP; None for fewer than two parts in which every class has an object."""
    means = [_average_precision(one)["map"] for one in parts if all(of_class.positives for of_class in one)]
    return float(np.std(means, ddof=1)) if len(means) > 1 else None

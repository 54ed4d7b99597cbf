"""COCO's average precision, by COCO's own tool: the mean over IoU thresholds 0.5, 0.55, ..., 0.95.

Samples and detections are passed to pycocotools in memory. Difficult objects become
COCO's ``iscrowd``: one that is not found does not count as missed, and a detection on
it does not count as wrong. For these objects COCO divides the overlap by the area of
the detection, so several detections may match one.

Sizes (small < 32 x 32 <= medium <= 96 x 96 < large, in pixels) are those of the
boxes; COCO's own figures use the areas of masks, which are smaller.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..data.boxes import area
from ..data.detections import Detections
from ..data.sample import Sample

COCO_METRIC = "COCO AP@[.5:.95]"

# The order of pycocotools' COCOeval.stats.
SUMMARY_NAMES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")


@dataclass(frozen=True)
class COCOResult:
    """COCO's scores.

    Attributes
    ----------
    summary : dict of str to float
        The twelve numbers of COCO's table by the names in ``SUMMARY_NAMES``: AP over all
        thresholds, at 0.5, at 0.75, of small, medium, large objects; the recall (AR) with
        1, 10, 100 detections an image, and by size. NaN where there are no such objects.
    ap : dict of str to float
        AP over all thresholds of each class; NaN for a class without objects.
    """

    summary: dict[str, float]
    ap: dict[str, float]

    @property
    def unscored(self) -> tuple[str, ...]:
        """Classes without objects that count; they have no AP and are not in the mean."""
        return tuple(name for name, ap in self.ap.items() if np.isnan(ap))

    def to_dict(self) -> dict[str, Any]:
        """``{"map": ..., "ap": {class: ...}, "summary": {...}}`` for JSON, with None for NaN."""
        summary = {name: None if np.isnan(value) else value for name, value in self.summary.items()}
        ap = {name: None if np.isnan(value) else value for name, value in self.ap.items()}
        return {"map": summary["AP"], "ap": ap, "summary": summary}


def evaluate_coco(
    detections: Sequence[Detections],
    samples: Iterable[Sample],
    class_names: Sequence[str],
    classes: Sequence[str] | None = None,
) -> COCOResult:
    """Score detections on labelled images with pycocotools.

    Parameters
    ----------
    detections : sequence of Detections
        One per sample, in the same order; classes are matched by name.
    samples : iterable of Sample
        Only boxes, labels and difficult flags are used; images are not read.
    class_names : sequence of str
        The dataset's ``class_names``, which the samples' labels index.
    classes : sequence of str, optional
        Classes to score; by default all of ``class_names``.

    Raises
    ------
    ValueError
        When the numbers of detections and samples differ, or ``classes`` has an unknown name.
    """
    samples = list(samples)
    classes = tuple(class_names if classes is None else classes)
    if len(detections) != len(samples):
        raise ValueError(f"expected one Detections for each of {len(samples)} samples, got {len(detections)}")
    for name in classes:
        if name not in class_names:
            raise ValueError(f"cannot score class {name!r}: the samples have {', '.join(class_names)}")

    from pycocotools.cocoeval import COCOeval

    truths = [
        _annotation(image, category, box, iscrowd=int(hard))
        for image, sample in enumerate(samples, start=1)
        for category, box, hard in zip(
            _categories(sample.labels, class_names, classes), sample.boxes, sample.difficult, strict=True
        )
        if category
    ]
    found = [
        _annotation(image, category, box, score=float(score))
        for image, result in enumerate(detections, start=1)
        for category, box, score in zip(
            _categories(result.labels, result.class_names, classes), result.boxes, result.scores, strict=True
        )
        if category
    ]
    with redirect_stdout(io.StringIO()):  # pycocotools reports its progress with print
        evaluation = COCOeval(_index(truths, len(samples), classes), _index(found, len(samples), classes), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()

    # precision: (threshold, recall level, class, size range, detections an image); -1 where a class has no object.
    precision = evaluation.eval["precision"][:, :, :, 0, -1]
    ap = {name: _mean(precision[:, :, category]) for category, name in enumerate(classes)}
    summary = {
        name: float("nan") if value == -1 else float(value)
        for name, value in zip(SUMMARY_NAMES, evaluation.stats, strict=True)
    }
    return COCOResult(summary, ap)


def _categories(labels: Any, names: Sequence[str], classes: Sequence[str]) -> list[int]:
    """COCO category of each label, from 1 up; 0 for classes that are not scored."""
    category = {name: number for number, name in enumerate(classes, start=1)}
    return [category.get(names[label], 0) for label in labels]


def _annotation(image: int, category: int, box: Any, **more: float) -> dict[str, Any]:
    x1, y1, x2, y2 = (float(value) for value in box)
    size = float(area(np.array([[x1, y1, x2, y2]]))[0])
    # COCO boxes are x, y, width, height of the same half-open box.
    common = {"image_id": image, "category_id": category, "bbox": [x1, y1, x2 - x1, y2 - y1], "area": size}
    return {"iscrowd": 0, **common, **more}


def _index(annotations: list[dict[str, Any]], images: int, classes: Sequence[str]) -> Any:
    """Make a pycocotools ``COCO`` in memory; unlike its ``loadRes`` this accepts an empty list."""
    from pycocotools.coco import COCO

    coco = COCO()
    coco.dataset = {
        "images": [{"id": image} for image in range(1, images + 1)],
        "categories": [{"id": number, "name": name} for number, name in enumerate(classes, start=1)],
        "annotations": [{**annotation, "id": number} for number, annotation in enumerate(annotations, start=1)],
    }
    coco.createIndex()
    return coco


def _mean(precision: Any) -> float:
    counted = precision[precision > -1]
    return float(counted.mean()) if counted.size else float("nan")

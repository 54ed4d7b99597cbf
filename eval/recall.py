"""How well proposals cover the objects: recall and mean average best overlap (MABO)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..data.arrays import Array
from ..data.boxes import iou

THRESHOLDS = (0.5, 0.7, 0.8)


@dataclass(frozen=True)
class Coverage:
    """Coverage of the objects of a set of images by proposals.

    Attributes
    ----------
    recall : dict of float to float
        Share of the objects that some proposal overlaps by at least the key; NaN without objects.
    mabo : float
        Mean over the classes of the average best overlap of their objects (Uijlings et al.,
        IJCV 2013, section 5.1); classes without objects do not count. NaN without objects.
    average_best_overlap : dict of int to float
        By class label, for classes with objects.
    objects, proposals, images : int
        Counts; difficult objects are not counted.
    """

    recall: dict[float, float]
    mabo: float
    average_best_overlap: dict[int, float]
    objects: int
    proposals: int
    images: int

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as JSON-like values; NaN becomes None."""
        return {
            "recall": {f"{threshold:g}": _or_none(share) for threshold, share in self.recall.items()},
            "mabo": _or_none(self.mabo),
            "objects": self.objects,
            "proposals_per_image": self.proposals / self.images if self.images else None,
            "images": self.images,
        }


def recall_and_mabo(
    proposals: Sequence[Array],
    boxes: Sequence[Array],
    labels: Sequence[Array],
    difficult: Sequence[Array] | None = None,
    thresholds: Sequence[float] = THRESHOLDS,
) -> Coverage:
    """Recall at some IoU thresholds and MABO of the proposals of a set of images.

    Parameters
    ----------
    proposals : sequence of arrays (P_i, 4)
        Proposals of each image; x1, y1, x2, y2, half-open.
    boxes : sequence of arrays (N_i, 4)
        Objects of each image.
    labels : sequence of integer arrays (N_i,)
        Classes of the objects.
    difficult : sequence of bool arrays (N_i,), optional
        Objects that do not count.
    thresholds : sequence of float
        An object is found when a proposal overlaps it by at least this intersection over union.

    Raises
    ------
    ValueError
        When the sequences differ in length, or labels and boxes of an image do not match.
    """
    if difficult is None:
        difficult = [np.zeros(len(image_labels), bool) for image_labels in labels]
    if not len(proposals) == len(boxes) == len(labels) == len(difficult):
        lengths = f"{len(proposals)}, {len(boxes)}, {len(labels)} and {len(difficult)}"
        raise ValueError(f"proposals, boxes, labels and difficult must be of one length, not {lengths}")
    best = [np.zeros(0)]
    classes = [np.zeros(0, np.int64)]
    for found, objects, names, hard in zip(proposals, boxes, labels, difficult, strict=True):
        if not len(objects) == len(names) == len(hard):
            raise ValueError(f"an image has {len(objects)} boxes, {len(names)} labels and {len(hard)} difficult flags")
        counted = ~np.asarray(hard, bool)
        best.append(best_overlaps(found, objects[counted]))
        classes.append(np.asarray(names, np.int64)[counted])
    overlaps, which = np.concatenate(best), np.concatenate(classes)
    average = {int(label): float(overlaps[which == label].mean()) for label in np.unique(which)}
    return Coverage(
        recall={float(t): float((overlaps >= t).mean()) if overlaps.size else float("nan") for t in thresholds},
        mabo=float(np.mean(list(average.values()))) if average else float("nan"),
        average_best_overlap=average,
        objects=overlaps.size,
        proposals=sum(map(len, proposals)),
        images=len(proposals),
    )


def best_overlaps(proposals: Array, boxes: Array) -> Array:
    """Largest IoU of each box (N, 4) with any proposal (P, 4), float64 (N,); 0 without proposals."""
    overlaps = iou(np.asarray(boxes, np.float64), np.asarray(proposals, np.float64))
    return np.asarray(overlaps.max(axis=1, initial=0.0))


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else value

"""Data sets of the package supervision, which need not be installed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from .cleaning import Tally, readable_size, usable_boxes
from .errors import InputError
from .sample import Sample, SampleList, checked_classes, label_map


class SupervisionDataset(Protocol):
    """What is used of a ``supervision.DetectionDataset``."""

    @property
    def classes(self) -> Sequence[str]:
        """Names of the classes."""

    @property
    def annotations(self) -> Mapping[str, Any]:
        """Objects ``supervision.Detections`` by the paths of the photographs."""


def from_supervision(dataset: SupervisionDataset, classes: Sequence[str] | None = None) -> SampleList:
    """The photographs of a ``supervision.DetectionDataset``, with their labelled objects.

    Parameters
    ----------
    dataset : supervision.DetectionDataset
        Its photographs must be files. Masks are not read.
    classes : sequence of str, optional
        The classes to use, in this order; objects of other classes are left out. By default all.

    Raises
    ------
    InputError
        When the object is no such data set, or a photograph is no file.
    """
    try:
        names, annotations = [str(name) for name in dataset.classes], dataset.annotations
        items = list(annotations.items())
    except (AttributeError, TypeError):
        raise InputError(
            f"{type(dataset).__name__}: no data set; expected a path or a supervision.DetectionDataset"
        ) from None
    class_names = tuple(names) if classes is None else checked_classes(classes)
    new, tally, samples = label_map(names, class_names), Tally(), []
    for name, found in items:
        path = Path(name)
        if not path.is_file():
            raise InputError(f"{name}: no such file; expected the photographs of the data set as files")
        size = readable_size(path, tally)
        if size is None:
            continue
        labels = new[np.asarray(found.class_id if len(found.xyxy) else [], np.int64)]
        boxes, labels = np.asarray(found.xyxy, np.float64).reshape(-1, 4)[labels >= 0], labels[labels >= 0]
        boxes, usable = usable_boxes(boxes, labels, *size, tally, path.name)
        samples.append(Sample(str(name), path, boxes, labels[usable], np.zeros(int(usable.sum()), bool)))
    result = SampleList(samples, class_names, tally)
    result.layout = "labels of supervision"
    return result

"""From scored windows to detections on a GPU: :mod:`.postprocess` in torch, with one copy back for each image.

Boxes, scores and features stay on the device through suppression, box regression, scoring again and voting. What takes
its size from the numbers, such as a list of survivors, waits for the device; nothing else does. Suppression is
torchvision's, in double precision, which keeps the same boxes as ours (:mod:`sppnet.data.nms`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ...data.arrays import Array
from ...data.detections import Detections
from ..options import DetectOptions


@dataclass(frozen=True, eq=False)
class Found:
    """Detections on a device.

    Attributes
    ----------
    boxes : float32 tensor (M, 4)
    scores : float32 tensor (M,)
    labels : int64 tensor (M,)
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor

    def __getitem__(self, chosen: Tensor) -> Found:
        return Found(self.boxes[chosen], self.scores[chosen], self.labels[chosen])

    def solid(self) -> Found:
        """Those whose boxes have a positive area."""
        return self[(self.boxes[:, 2:] > self.boxes[:, :2]).all(dim=1)]

    def suppressed(self, most: float) -> Found:
        """Greedy suppression within each class (:func:`sppnet.data.nms.class_nms`); best first over all classes."""
        from torchvision.ops import batched_nms

        return self[batched_nms(self.boxes.double(), self.scores.double(), self.labels, most)]

    def best_of_each(self, cap: int) -> Found:
        """:func:`.postprocess.best_of_each`, class after class."""
        found = self[torch.sort(self.labels, stable=True).indices]
        place = torch.arange(len(found.labels), device=found.labels.device)
        return found[place - torch.searchsorted(found.labels, found.labels) < cap]

    def to_cpu(self, class_names: tuple[str, ...]) -> Detections:
        """One copy of everything."""
        every = torch.cat([self.boxes, self.scores[:, None], self.labels[:, None].float()], dim=1).cpu().numpy()
        return Detections(every[:, :4].copy(), every[:, 4].copy(), every[:, 5].astype("int64"), class_names, None)


#: Maps boxes (M, 4) to the deltas (M, classes, 4) and scores (M, classes) of all classes.
Look = Callable[[Tensor], tuple[Tensor, Tensor]]


def finish_on_device(
    windows: Array,
    scores: Tensor,
    image_size: tuple[int, int],
    class_names: tuple[str, ...],
    options: DetectOptions,
    look: Look | None = None,
) -> Detections:
    """:func:`.postprocess.finish` before anything is compared with the threshold; not yet in order.

    Parameters
    ----------
    windows : float32 array (N, 4)
    scores : float32 tensor (N, classes)
        On the device.
    image_size, class_names, options
        As there.
    look : callable, optional
        What regresses boxes and scores them again. Without it windows are suppressed once and stay as they are.
    """
    passes = 0 if look is None else options.regressions
    on_device = torch.from_numpy(windows).to(scores.device, torch.float32, non_blocking=True)
    label, row = (options.keep_above < scores.T).nonzero(as_tuple=True)
    found = Found(on_device[row], scores[row, label], label).suppressed(options.nms_before if passes else options.nms)
    found = found.best_of_each(options.max_per_class_before if passes else options.max_per_class)
    found = Found(_clip(found.boxes, image_size), found.scores, found.labels).solid()
    if not passes or look is None:
        return found.to_cpu(class_names)
    deltas, _ = look(found.boxes)
    for number in range(passes):
        moved = decode(found.boxes, _own(deltas, found.labels))
        found = Found(_clip(moved, image_size), found.scores, found.labels).solid()
        if options.rescored or number + 1 < passes:
            # The features of the moved boxes serve for their scores and for the next pass.
            deltas, again = look(found.boxes)
        if options.rescored:
            change = (_own(again, found.labels) - found.scores) / (number + 2)
            found = Found(found.boxes, found.scores + change, found.labels)
    kept = found.suppressed(options.nms).best_of_each(options.max_per_class)
    return vote(kept, found, options.voting).to_cpu(class_names)


def _own(values: Tensor, labels: Tensor) -> Tensor:
    """Of values (M, classes, ...) those (M, ...) of each box's own class."""
    return values[torch.arange(len(labels), device=labels.device), labels]


def _clip(boxes: Tensor, image_size: tuple[int, int]) -> Tensor:
    height, width = image_size
    return torch.stack([part.clamp(0, limit) for part, limit in zip(boxes.T, (width, height) * 2, strict=True)], dim=1)


def decode(boxes: Tensor, deltas: Tensor) -> Tensor:
    """:func:`sppnet.data.boxes.decode` of tensors (M, 4)."""
    size = boxes[:, 2:] - boxes[:, :2]
    centre = boxes[:, :2] + 0.5 * size + deltas[:, :2] * size
    half = 0.5 * size * torch.exp(deltas[:, 2:].clamp(max=4.0))
    return torch.cat([centre - half, centre + half], dim=1)


def vote(kept: Found, found: Found, least: float) -> Found:
    """:func:`.postprocess.vote`."""
    if least >= 1:
        return kept
    near = (iou(kept.boxes, found.boxes) >= least) & (kept.labels[:, None] == found.labels)
    weights = near * (found.scores + 1).clamp(min=1e-3).double()
    boxes = (weights @ found.boxes.double()) / weights.sum(dim=1, keepdim=True)
    return Found(boxes.float(), kept.scores, kept.labels)


def iou(a: Tensor, b: Tensor) -> Tensor:
    """:func:`sppnet.data.boxes.iou` of tensors: (N, M); two boxes without area have 0."""
    corner = torch.minimum(a[:, None, 2:], b[None, :, 2:]) - torch.maximum(a[:, None, :2], b[None, :, :2])
    overlap = corner.clamp(min=0).prod(dim=2)
    areas = [(boxes[:, 2:] - boxes[:, :2]).clamp(min=0).prod(dim=1) for boxes in (a, b)]
    union = areas[0][:, None] + areas[1] - overlap
    return torch.where(union > 0, overlap / union, torch.zeros_like(union))


def log_odds(logits: Tensor) -> Tensor:
    """:func:`.postprocess.log_odds` of logits (N, K + 1), background last."""
    values = logits.double()
    values = values - values.amax(dim=1, keepdim=True)
    likelihoods = torch.exp(values)
    classes = range(values.shape[1] - 1)
    others = torch.stack([likelihoods[:, :k].sum(dim=1) + likelihoods[:, k + 1 :].sum(dim=1) for k in classes], dim=1)
    return (values[:, :-1] - torch.log(others.clamp(min=torch.finfo(torch.float64).tiny))).float()

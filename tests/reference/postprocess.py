"""From scored windows to detections, one box at a time."""

import numpy as np
from sppnet.data.boxes import clip, decode, iou


def finish(windows, scores, image_size, options, regress, rescore):
    """Boxes, labels and scores, best first; ``regress`` and ``rescore`` are asked for one box at a time."""
    result = []
    moves = options.regressions > 0
    first = options.nms_before if moves else options.nms
    cap = options.max_per_class_before if moves else options.max_per_class
    for label in range(scores.shape[1]):
        boxes = [[window, float(score)] for window, score in zip(windows, scores[:, label], strict=True)]
        boxes = suppress([pair for pair in boxes if pair[1] > options.keep_above], first)
        boxes = [[clip(box[None], *image_size)[0], [score]] for box, score in boxes[:cap]]
        boxes = [pair for pair in boxes if solid(pair[0])]
        for _ in range(options.regressions):
            for pair in boxes:
                box = pair[0][None].astype(np.float32)
                moved = decode(box, regress(box, np.array([label]))).astype(np.float32)
                pair[0] = clip(moved, *image_size)[0]
            boxes = [pair for pair in boxes if solid(pair[0])]
            if options.rescored:
                for box, known in boxes:
                    known.append(float(rescore(box[None], np.array([label]))[0]))
        boxes = [(box, float(np.mean(known))) for box, known in boxes]
        for box, score in suppress(boxes, options.nms)[: options.max_per_class] if moves else boxes:
            if options.voting < 1 and moves:
                near = [(other, max(s + 1, 1e-3)) for other, s in boxes]
                near = [(other, weight) for other, weight in near if overlap(box, other) >= options.voting]
                box = sum(weight * other for other, weight in near) / sum(weight for _, weight in near)
            result.append((box, label, score))
    return sorted(result, key=lambda found: -found[2])


def suppress(boxes, most):
    """Pairs of a box and a score, the best first, none of which overlaps a better one by more than ``most``."""
    kept = []
    for box, score in sorted(boxes, key=lambda pair: -pair[1]):
        if all(overlap(box, other) <= most for other, _ in kept):
            kept.append((box, score))
    return kept


def overlap(a, b):
    return float(iou(a[None], b[None])[0, 0])


def solid(box):
    return box[2] > box[0] and box[3] > box[1]

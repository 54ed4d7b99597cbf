"""Reference of hard negatives of one image and class: loops over single windows."""

from .iou import iou


def hard_negatives(windows, scores, objects, hard_above, negative_iou, duplicate_iou):
    """Indices of the windows that score above ``hard_above``, overlap no object and no better negative too much."""
    kept = []
    for i in sorted(range(len(windows)), key=lambda i: (-scores[i], i)):
        if scores[i] <= hard_above:
            continue
        if any(iou(windows[i], box) >= negative_iou for box in objects):
            continue
        if any(iou(windows[i], windows[j]) > duplicate_iou for j in kept):
            continue
        kept.append(i)
    return kept

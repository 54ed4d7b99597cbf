"""Reference of greedy non-maximum suppression: keep the best box, drop those that overlap it, repeat."""

from reference.iou import iou


def nms(boxes, scores, threshold):
    """Indices of the kept boxes, best first; the lower index wins a tie."""
    left = sorted(range(len(boxes)), key=lambda i: (-float(scores[i]), i))
    kept = []
    while left:
        best = left.pop(0)
        kept.append(best)
        left = [i for i in left if not iou(boxes[best], boxes[i]) > threshold]
    return kept


def class_nms(boxes, scores, labels, threshold):
    """NMS within each class; best first over all classes."""
    kept = []
    for label in sorted(set(labels)):
        members = [i for i in range(len(boxes)) if labels[i] == label]
        kept += [members[k] for k in nms([boxes[i] for i in members], [scores[i] for i in members], threshold)]
    return sorted(kept, key=lambda i: (-float(scores[i]), i))

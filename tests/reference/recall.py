"""Reference of recall and MABO: one object and one proposal at a time."""

from statistics import mean


def overlap(a, b):
    """Intersection over union of two boxes x1, y1, x2, y2, half-open."""
    a, b = [float(x) for x in a], [float(x) for x in b]
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    both = width * height
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


def recall_and_mabo(proposals, boxes, labels, difficult, thresholds):
    """Recall at each threshold, and MABO; None without objects."""
    best = {}
    for found, objects, names, hard in zip(proposals, boxes, labels, difficult, strict=True):
        for box, name, ignored in zip(objects, names, hard, strict=True):
            if not ignored:
                best.setdefault(int(name), []).append(max([overlap(box, p) for p in found], default=0.0))
    everything = [value for values in best.values() for value in values]
    if not everything:
        return dict.fromkeys(thresholds), None
    recall = {t: sum(value >= t for value in everything) / len(everything) for t in thresholds}
    return recall, mean(mean(values) for values in best.values())

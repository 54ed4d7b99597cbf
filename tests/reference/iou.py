"""Intersection over union, one pair at a time."""


def area(box):
    x1, y1, x2, y2 = (float(value) for value in box)
    return max(x2 - x1, 0.0) * max(y2 - y1, 0.0)


def iou(a, b):
    """IoU of two boxes x1, y1, x2, y2; 0 if neither has an area."""
    width = min(float(a[2]), float(b[2])) - max(float(a[0]), float(b[0]))
    height = min(float(a[3]), float(b[3])) - max(float(a[1]), float(b[1]))
    intersection = max(width, 0.0) * max(height, 0.0)
    union = area(a) + area(b) - intersection
    return intersection / union if union > 0 else 0.0

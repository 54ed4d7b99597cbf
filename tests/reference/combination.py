"""Reference of model combination: join all lists, then keep boxes that overlap no better box of another list."""

from reference.iou import iou


def combine(lists, nms, max_per_class):
    """Kept (class name, score, box) tuples of several lists, best first; the earlier one wins a tie."""
    together = [(*item, number) for number, items in enumerate(lists) for item in items]
    together.sort(key=lambda item: -item[1])  # stable: ties keep their order
    kept = []
    for name, score, box, number in together:
        rivals = [other for other_name, _, other, of in kept if other_name == name and of != number]
        if all(iou(box, other) <= nms for other in rivals):
            kept.append((name, score, box, number))
    count = {}
    best = []
    for name, score, box, _ in kept:
        count[name] = count.get(name, 0) + 1
        if count[name] <= max_per_class:
            best.append((name, score, box))
    return best

"""Kinds of mistakes and their costs, one detection after the other, from TIDE's definitions."""

from fractions import Fraction

import numpy as np

from reference.voc_ap import best_precision, overlap


def average_precision_area(rights, positives):
    verdicts = ["right" if right else "wrong" for right in rights]
    return float(sum(best_precision(verdicts, number) for number in range(1, positives + 1)) / positives)


def explain(images, classes):
    """(score, class, kind, object) of each detection that counts, best first, objects being (image, index).

    ``images`` are pairs of lists: detections (score, class, box), and objects (class, box, difficult).
    """
    told = []
    for label in range(classes):
        detections = [
            (score, image, place, box)
            for image, (found, _) in enumerate(images)
            for place, (score, of_class, box) in enumerate(found)
            if of_class == label
        ]
        detections.sort(key=lambda one: -one[0])
        taken = set()
        for score, image, _, box in detections:
            objects = images[image][1]
            own = [(overlap(box, b), -i) for i, (c, b, _) in enumerate(objects) if c == label]
            others = [(overlap(box, b), -i) for i, (c, b, _) in enumerate(objects) if c != label]
            best, other = max(own, default=(0, 0)), max(others, default=(0, 0))
            # Fractions, as the overlaps are: the number 0.1 is a little more than a tenth.
            if best[0] >= Fraction(1, 2):
                about = (image, -best[1])
                if objects[about[1]][2]:
                    continue
                kind = "duplicate" if about in taken else "right"
                taken.add(about)
            elif best[0] >= Fraction(1, 10):
                kind, about = "wrong place", (image, -best[1])
            elif other[0] >= Fraction(1, 2):
                kind, about = "other class", (image, -other[1])
            elif other[0] >= Fraction(1, 10):
                kind, about = "other class, wrong place", (image, -other[1])
            else:
                kind, about = "background", None
            told.append((score, label, kind, about))
    return told


def mean_ap(right_of_class, positives):
    """Mean area AP of lists of (score, right), over the classes with objects."""
    aps = []
    for label, found in right_of_class.items():
        if positives[label]:
            found = sorted(found, key=lambda one: -one[0])
            aps.append(average_precision_area([right for _, right in found], positives[label]))
    return np.mean(aps)


def cost(images, classes, kind):
    """Mean AP gained without the mistakes of a kind."""
    told = explain(images, classes)
    objects = {(i, j): one for i, (_, all_of) in enumerate(images) for j, one in enumerate(all_of)}
    positives = {label: sum(c == label and not d for c, _, d in objects.values()) for label in range(classes)}
    before = {label: [(s, k == "right") for s, c, k, _ in told if c == label] for label in range(classes)}
    after = {label: [(s, k == "right") for s, c, k, _ in told if c == label and k != kind] for label in range(classes)}
    if kind in ("wrong place", "other class"):
        done = {about for _, _, k, about in told if k == "right"}
        for score, _, k, about in sorted(told, key=lambda one: -one[0]):
            if k == kind and about not in done and not objects[about][2]:
                done.add(about)
                after[objects[about][0]].append((score, True))
    if kind == "missed":
        known = {about for _, _, k, about in told if k in ("right", "wrong place", "other class")}
        left = {
            label: sum(c == label and not d and key in known for key, (c, _, d) in objects.items())
            for label in range(classes)
        }
        values = []
        for label, found in before.items():
            if positives[label] and left[label]:
                found = sorted(found, key=lambda one: -one[0])
                values.append(average_precision_area([right for _, right in found], left[label]))
        return (np.mean(values) if values else np.nan) - mean_ap(before, positives)
    return mean_ap(after, positives) - mean_ap(before, positives)

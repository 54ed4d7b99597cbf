"""Reference of VOC's average precision: its definition, in exact fractions, one class, boxes of whole pixels."""

from fractions import Fraction


def pixels(box):
    """The pixels of a half-open box, one by one."""
    x1, y1, x2, y2 = (int(value) for value in box)
    return {(x, y) for x in range(x1, x2) for y in range(y1, y2)}


def overlap(a, b):
    union = pixels(a) | pixels(b)
    return Fraction(len(pixels(a) & pixels(b)), len(union)) if union else Fraction(0)


def judge(boxes, scores, truths, difficult):
    """'right' or 'wrong' for each detection that counts, best score first; and the number of objects to find."""
    queue = [(-score, image, place) for image, in_image in enumerate(scores) for place, score in enumerate(in_image)]
    found = set()
    verdicts = []
    for _, image, place in sorted(queue):
        overlaps = [overlap(boxes[image][place], truth) for truth in truths[image]]
        best = max(overlaps, default=Fraction(0))
        if best < Fraction(1, 2):
            verdicts.append("wrong")
            continue
        nearest = overlaps.index(best)
        if difficult[image][nearest]:
            continue
        verdicts.append("wrong" if (image, nearest) in found else "right")
        found.add((image, nearest))
    return verdicts, sum(not flag for in_image in difficult for flag in in_image)


def best_precision(verdicts, least_found):
    """Best precision of any prefix of the list that finds at least ``least_found`` objects."""
    best = Fraction(0)
    for cut in range(1, len(verdicts) + 1):
        right = verdicts[:cut].count("right")
        if right >= least_found:
            best = max(best, Fraction(right, cut))
    return best


def voc_ap(boxes, scores, truths, difficult, metric):
    """AP as a fraction; None without objects to find."""
    verdicts, positives = judge(boxes, scores, truths, difficult)
    if positives == 0:
        return None
    if metric == "voc07":
        return sum(best_precision(verdicts, Fraction(level * positives, 10)) for level in range(11)) / 11
    return sum(best_precision(verdicts, number) for number in range(1, positives + 1)) / positives

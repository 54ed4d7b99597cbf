"""Reference of a classifier's accuracy and AP: the definitions, image by image, in exact fractions."""

from fractions import Fraction


def rank(row, label):
    """Rank of the true class, from 1; it comes last among equal scores."""
    return 1 + sum(1 for index, score in enumerate(row) if index != label and score >= row[label])


def top_k(scores, labels, k):
    right = [rank(row, label) <= k for row, label in zip(scores, labels, strict=True)]
    return Fraction(sum(right), len(right))


def mean_class(scores, labels):
    shares = []
    for name in set(labels):
        of_class = [row for row, label in zip(scores, labels, strict=True) if label == name]
        shares.append(top_k(of_class, [name] * len(of_class), 1))
    return sum(shares) / len(shares)


def taken_for(row, label):
    """Predicted class of a row of scores; the true class is the last choice among equal scores."""
    best = max(row)
    return next((index for index, score in enumerate(row) if score == best and index != label), label)


def ap(scores, targets, metric):
    """AP of one class, or None if no image shows it."""
    queue = sorted((-score, image) for image, score in enumerate(scores) if targets[image] != -1)
    positives = sum(1 for target in targets if target == 1)
    if not positives:
        return None
    found, points = 0, []
    for taken, (_, image) in enumerate(queue, start=1):
        found += targets[image] == 1
        points.append((Fraction(found, positives), Fraction(found, taken)))

    def best_from(recall):
        return max((precision for reached, precision in points if reached >= recall), default=Fraction(0))

    if metric == "voc07":
        return sum(best_from(Fraction(level, 10)) for level in range(11)) / 11
    return sum(best_from(Fraction(place, positives)) for place in range(1, positives + 1)) / positives

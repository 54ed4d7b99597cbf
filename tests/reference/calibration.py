"""Reference of calibration: the formulas, one detection at a time, in plain numbers."""

from math import exp


def sigmoid(x):
    return 1 / (1 + exp(-x)) if x >= 0 else exp(x) / (1 + exp(x))


def expected_calibration_error(probabilities, right, bins):
    """Sum over the bins of (their share of the detections) times |mean probability - share right|."""
    pairs = list(zip(probabilities, right, strict=True))
    total = 0.0
    for number in range(bins):
        low, high = number / bins, (number + 1) / bins
        here = [(p, hit) for p, hit in pairs if low <= p < high or (number == bins - 1 and p == 1)]
        if here:
            said = sum(p for p, _ in here) / len(here)
            true = sum(1 for _, hit in here if hit) / len(here)
            total += len(here) / len(pairs) * abs(said - true)
    return total


def platt_gradient(scores, right, slope, intercept):
    """Derivatives of the mean cross-entropy to Platt's targets by slope and intercept."""
    count = sum(1 for hit in right if hit)
    others = len(right) - count
    by_slope = by_intercept = 0.0
    for score, hit in zip(scores, right, strict=True):
        target = (count + 1) / (count + 2) if hit else 1 / (others + 2)
        off = sigmoid(slope * score + intercept) - target
        by_slope += off * score / len(right)
        by_intercept += off / len(right)
    return by_slope, by_intercept


def f1_above(threshold, values, right, positives):
    """F1 of the detections whose value is above a threshold."""
    taken = [hit for value, hit in zip(values, right, strict=True) if value > threshold]
    return 2 * sum(1 for hit in taken if hit) / (len(taken) + positives) if len(taken) + positives else 0.0


def best_expected_f1(probabilities, weights, objects):
    """Best expected F1 over all thresholds, one threshold at a time."""
    best = 0.0
    for threshold in probabilities:
        taken = [(p, weight) for p, weight in zip(probabilities, weights, strict=True) if p >= threshold]
        found = sum(p * weight for p, weight in taken)
        best = max(best, 2 * found / (sum(weight for _, weight in taken) + objects))
    return min(best, 1.0)

"""Reference of a linear SVM: the formulas, one row and one number at a time."""


def primal(rows, targets, weights, intercept, C, positive_weight, bias):
    """Half the squared norm, including the weight of the constant feature, plus the weighted hinge losses."""
    total = (sum(float(w) ** 2 for w in weights) + (intercept / bias) ** 2) / 2
    for row, target in zip(rows, targets, strict=True):
        if target < 0:
            continue
        score = sum(float(w) * float(x) for w, x in zip(weights, row, strict=True)) + intercept
        loss = max(0.0, 1 - score) if target else max(0.0, 1 + score)
        total += C * (positive_weight if target else 1) * loss
    return total


def descend(rows, targets, C, positive_weight, bias, epochs=3000):
    """Weights and intercept by dual coordinate descent, row by row in order."""
    rows = [[float(x) for x in row] + [bias] for row in rows]
    weights = [0.0] * len(rows[0])
    alpha = [0.0] * len(rows)
    for _ in range(epochs):
        for i, (row, target) in enumerate(zip(rows, targets, strict=True)):
            if target < 0:
                continue
            sign, limit = (1, C * positive_weight) if target else (-1, C)
            gradient = sign * sum(w * x for w, x in zip(weights, row, strict=True)) - 1
            new = min(max(alpha[i] - gradient / sum(x * x for x in row), 0.0), limit)
            weights = [w + (new - alpha[i]) * sign * x for w, x in zip(weights, row, strict=True)]
            alpha[i] = new
    return weights[:-1], weights[-1] * bias

"""Reference of the fc layers: one number at a time."""


def linear(row, weights, biases):
    """Output of a layer for one row; one list of weights per output."""
    return [
        sum(float(w) * float(x) for w, x in zip(line, row, strict=True)) + float(b)
        for line, b in zip(weights, biases, strict=True)
    ]


def rectified(row):
    return [max(value, 0.0) for value in row]


def embedded(fc6, channels, n, levels):
    """Weights for the rows of a pyramid: pretrained [out][channel * n * n + bin] at their places, zeros elsewhere."""
    width = sum(level * level for level in levels) * channels
    before = 0
    for level in levels:
        if level == n:
            break
        before += level * level * channels
    rows = []
    for line in fc6:
        row = [0.0] * width
        for channel in range(channels):
            for cell in range(n * n):
                row[before + cell * channels + channel] = float(line[channel * n * n + cell])
        rows.append(row)
    return rows

"""Reference of histograms and hierarchical grouping: one pixel and one pair at a time."""

from math import atan2, hypot, pi

import numpy as np

ONE = 1 << 15


def texture_bin(dx, dy):
    """Bins of direction (8) and magnitude (10) of Scharr derivatives; None near the border of two directions."""
    eighths = atan2(dy, dx) / (pi / 4)
    if abs(eighths % 1 - 0.5) < 1e-4:
        return None
    return round(eighths) % 8 * 10 + min(int(hypot(dx, dy) / 32 / 6.4), 9)


def histograms(labels, colours, textures):
    """Counts (R, 105 C): 25 colour bins of each channel, then 80 texture bins of each channel."""
    channels = colours.shape[2]
    counts = np.zeros((labels.max() + 1, 105 * channels), int)
    for (y, x), label in np.ndenumerate(labels):
        for c in range(channels):
            counts[label, 25 * c + colours[y, x, c]] += 1
            counts[label, 25 * channels + 80 * c + textures[y, x, c]] += 1
    return counts


def box_of(labels, label):
    """Half-open x1, y1, x2, y2 of a region."""
    ys, xs = np.nonzero(labels == label)
    return xs.min(), ys.min(), xs.max() + 1, ys.max() + 1


def neighbours(labels):
    """Sorted pairs of labels that occur together in a square of 2 x 2 pixels."""
    pairs = set()
    for y in range(labels.shape[0]):
        for x in range(labels.shape[1]):
            around = {int(label) for label in labels[y : y + 2, x : x + 2].ravel()}
            pairs |= {(a, b) for a in around for b in around if a < b}
    return sorted(pairs)


def enclosing(a, b):
    """Smallest box around two boxes."""
    return min(a[0], b[0]), min(a[1], b[1]), max(a[2], b[2]), max(a[3], b[3])


def similarity(a, b, split, channels, weights, pixels):
    """Uijlings et al., IJCV 2013, equations 2 to 6, for regions given as (size, box, counts)."""
    size = a[0] + b[0]
    x1, y1, x2, y2 = enclosing(a[1], b[1])
    total = weights[2] * (1 - size / pixels) + weights[3] * (1 - ((x2 - x1) * (y2 - y1) - size) / pixels)
    one, other = (
        (region[2].astype(np.float32) * np.float32(ONE / region[0])).astype(int).tolist() for region in (a, b)
    )
    for part, columns in enumerate((slice(0, split), slice(split, None))):
        common = sum(min(p, q) for p, q in zip(one[columns], other[columns], strict=True))
        total += weights[part] / (channels * ONE) * common
    return total


def group(sizes, boxes, counts, pairs, split, channels, weights):
    """Boxes of the segments and of the merged regions; every step searches all pairs."""
    regions = {i: (int(sizes[i]), tuple(map(int, boxes[i])), counts[i]) for i in range(len(sizes))}
    pixels = int(sum(sizes))
    found = [region[1] for region in regions.values()]
    alike = {}

    def compare(a, b):
        alike[min(a, b), max(a, b)] = similarity(regions[a], regions[b], split, channels, weights, pixels)

    for a, b in pairs:
        compare(int(a), int(b))
    while alike:
        a, b = min(alike, key=lambda pair: (-alike[pair], pair))
        new = len(found)
        regions[new] = (
            regions[a][0] + regions[b][0],
            enclosing(regions[a][1], regions[b][1]),
            regions[a][2] + regions[b][2],
        )
        found.append(regions[new][1])
        touched = {end for pair in alike if a in pair or b in pair for end in pair} - {a, b}
        alike = {pair: value for pair, value in alike.items() if not {a, b} & set(pair)}
        for other in touched:
            compare(other, new)
    return np.array(found)

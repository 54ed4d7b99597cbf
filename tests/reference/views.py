"""Reference of an image's views, one at a time: places, cells, and the network on each."""

from fractions import Fraction
from math import floor

import numpy as np
import torch

STEPS = (0, Fraction(1, 2), 1)


def windows(scaled_size, side, places):
    """Half-open windows x1, y1, x2, y2 as a set."""
    height, width = scaled_size
    if places == "full":
        return {(0, 0, width, height)}
    high, wide = min(side, height), min(side, width)
    found = set()
    for y in STEPS:
        for x in STEPS:
            in_middle = (x == Fraction(1, 2)) + (y == Fraction(1, 2))
            if in_middle == 2 or places == "grid" or (places == "corners" and in_middle == 0):
                left, top = floor((width - wide) * x), floor((height - high) * y)
                found.add((left, top, left + wide, top + high))
    return found


def cells(start, end, pixels, all_cells, stride, square):
    """First and last cell of a view along one axis, by trying every block of cells."""
    count = all_cells if end - start == pixels else min(square, all_cells)
    blocks = [(abs(first * stride - start), -first) for first in range(all_cells - count + 1)]
    first = -min(blocks)[1]
    return first, first + count - 1


def probabilities(classifier, scaled_images, views_at):
    """Mean probabilities; each view is cropped and run through convolutions, pooling and fc layers alone.

    ``scaled_images`` has one image per scale, ``views_at`` is a list of (scale index, places, mirror).
    """
    total, count = 0, 0
    for index, places, mirror in views_at:
        scaled = scaled_images[index]
        for x1, y1, x2, y2 in windows(scaled.shape[:2], classifier.size, places):
            for crop in [scaled[y1:y2, x1:x2], scaled[y1:y2, x1:x2][:, ::-1]][: 1 + mirror]:
                features = classifier.backbone(classifier.backbone.preprocess(np.ascontiguousarray(crop)))[0]
                row = []
                for n in classifier.levels:
                    block = torch.nn.functional.adaptive_max_pool2d(features, n)
                    row += [block[:, y, x] for y in range(n) for x in range(n)]
                total = total + classifier.probabilities(classifier.logits(torch.cat(row)[None]))[0]
                count += 1
    return (total / count).numpy()

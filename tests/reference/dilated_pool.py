"""Reference of pooling without stride whose window skips cells, one window and one cell at a time."""

from __future__ import annotations

import math

import numpy as np


def pool(features, average, kernel_size, padding, dilation, beyond=0):
    """Pool features (B, C, H, W); there are ``beyond`` cells of padding in addition at the right and at the bottom."""
    (height, width), (rows, columns) = features.shape[2:], kernel_size
    (top, left), (down, right) = padding, dilation
    last = [
        side + 2 * before + beyond - (count - 1) * apart
        for side, before, count, apart in zip((height, width), padding, kernel_size, dilation, strict=True)
    ]
    pooled = np.empty((*features.shape[:2], *(max(0, count) for count in last)), features.dtype)
    for batch, channel, y, x in np.ndindex(pooled.shape):
        seen = []
        for row, column in np.ndindex(rows, columns):
            at_y, at_x = y - top + row * down, x - left + column * right
            if 0 <= at_y < height and 0 <= at_x < width:
                seen.append(float(features[batch, channel, at_y, at_x]))
        if average:
            pooled[batch, channel, y, x] = sum(seen) / (rows * columns)
        else:
            pooled[batch, channel, y, x] = math.nan if any(map(math.isnan, seen)) else max(seen, default=-math.inf)
    return pooled

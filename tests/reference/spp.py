"""Reference of spatial pyramid pooling, as in the paper: one bin, one channel, one cell at a time."""

from __future__ import annotations

import math

import numpy as np


def spp_pool(features, windows, levels):
    """Pool features (C, H, W) in windows of inclusive cells to (N, M * C), ordered by level, bin row, bin, channel."""
    rows = []
    for x0, y0, x1, y1 in windows:
        crop = features[:, y0 : y1 + 1, x0 : x1 + 1]
        row = []
        for n in levels:
            for bin_row in range(n):
                for bin_column in range(n):
                    row.extend(_bin(crop, n, bin_row, bin_column))
        rows.append(row)
    width = sum(n * n for n in levels) * len(features)
    return np.array(rows, features.dtype).reshape(len(windows), width)


def _bin(crop, n, bin_row, bin_column):
    channels, height, width = crop.shape
    maxima = []
    for channel in range(channels):
        best = -math.inf
        for y in range(bin_row * height // n, math.ceil((bin_row + 1) * height / n)):
            for x in range(bin_column * width // n, math.ceil((bin_column + 1) * width / n)):
                value = crop[channel, y, x]
                if value > best or math.isnan(value):
                    best = value
                if math.isnan(best):
                    break
            if math.isnan(best):
                break
        maxima.append(best)
    return maxima


def sliding_windows(features, levels):
    """Pool one map (C, H, W) to (M * C,) as in section 2.3: windows of ceil(a / n) cells, floor(a / n) apart."""
    row = []
    for n in levels:
        height, width = (math.ceil(a / n) for a in features.shape[1:])
        step_y, step_x = (math.floor(a / n) for a in features.shape[1:])
        for bin_row in range(n):
            for bin_column in range(n):
                y, x = bin_row * step_y, bin_column * step_x
                row.extend(
                    max(channel[y + i][x + j] for i in range(height) for j in range(width)) for channel in features
                )
    return np.array(row, features.dtype)

"""Reference of corner projection: the printed (1-based) formulas, exact fractions, one corner at a time."""

from __future__ import annotations

import math
from fractions import Fraction


def _axis(first_pixel, last_pixel, cells, stride, offset0, offset, rule):
    left_x, right_x = Fraction(first_pixel), Fraction(last_pixel)
    offset0 = Fraction(offset0)
    if rule == "paper":
        # Appendix A centres cell i at S * i; other paddings shift x.
        shift = stride - offset0
        left = math.floor((left_x + shift) / stride) + 1
        right = math.ceil((right_x + shift) / stride) - 1
    else:
        offset = Fraction(offset)
        left = math.floor((left_x - offset0 + offset) / stride + Fraction(1, 2)) + 1
        right = math.ceil((right_x - offset0 - offset) / stride - Fraction(1, 2)) + 1
    if left > right:
        left = right = math.floor(Fraction(left + right, 2))
    return min(max(left, 1), cells), min(max(right, 1), cells)


def project(windows, map_size, stride, offset0, offset, rule):
    """Convert half-open 0-based windows to lists of 0-based inclusive cells x0, y0, x1, y1."""
    height, width = map_size
    cells = []
    for x1, y1, x2, y2 in windows:
        left, right = _axis(Fraction(float(x1)) + 1, float(x2), width, stride, offset0, offset, rule)
        top, bottom = _axis(Fraction(float(y1)) + 1, float(y2), height, stride, offset0, offset, rule)
        cells.append([left - 1, top - 1, right - 1, bottom - 1])
    return cells

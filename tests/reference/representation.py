"""Reference of a photograph's feature row: one bin and one number at a time."""

import math

from .spp import spp_pool


def normalised(values):
    norm = math.sqrt(sum(float(value) ** 2 for value in values))
    return [float(value) / norm if norm else 0.0 for value in values]


def whole_map(features, levels):
    """Pooled row of a whole map (C, h, w), with norm 1."""
    return normalised(spp_pool(features, [(0, 0, features.shape[2] - 1, features.shape[1] - 1)], levels)[0])

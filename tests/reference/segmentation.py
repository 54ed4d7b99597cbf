"""Felzenszwalb and Huttenlocher's segmentation on the pruned 8-connected grid, with lists and sets."""

from math import floor

import numpy as np

STEPS = 16
SIDES = {  # direction: the two ends, as offsets (y, x) from the pixel of the edge
    0: ((0, 0), (0, 1)),
    1: ((0, 0), (1, 0)),
    2: ((0, 0), (1, 1)),
    3: ((0, 1), (1, 0)),
}


def all_edges(planes):
    """(weight, row, direction, column, one end, other end) of every edge of the grid."""
    _, height, width = planes.shape
    edges = []
    for y in range(height):
        for x in range(width):
            for direction, (a, b) in SIDES.items():
                a, b = (y + a[0], x + a[1]), (y + b[0], x + b[1])
                if max(a[0], b[0]) < height and max(a[1], b[1]) < width:
                    squares = np.float32(0)
                    for plane in planes:
                        squares += (plane[a] - plane[b]) ** 2
                    weight = floor(np.sqrt(squares) * np.float32(STEPS) + np.float32(0.5))
                    edges.append((weight, y, direction, x, a, b))
    return edges


def needed_edges(planes):
    """Edges that are not the heaviest of any triangle, in order; among equals the later direction is heavier."""
    edges = all_edges(planes)
    key = {frozenset((a, b)): (weight, direction) for weight, _, direction, _, a, b in edges}
    pixels = {end for pair in key for end in pair}

    def heaviest_somewhere(a, b):
        own = key[frozenset((a, b))]
        for c in pixels:
            one, other = key.get(frozenset((a, c))), key.get(frozenset((b, c)))
            if one is not None and other is not None and own > one and own > other:
                return True
        return False

    return sorted(edge for edge in edges if not heaviest_somewhere(edge[4], edge[5]))


def segment(planes, k, min_size):
    """Labels (H, W), numbered in raster order of first pixels."""
    _, height, width = planes.shape
    component = {(y, x): frozenset([(y, x)]) for y in range(height) for x in range(width)}
    heaviest = dict.fromkeys(component.values(), 0)

    def join(a, b, weight):
        members = component[a] | component[b]
        heaviest[members] = weight
        for pixel in members:
            component[pixel] = members

    edges = needed_edges(planes)
    for weight, _, _, _, a, b in edges:
        one, other = component[a], component[b]
        if one != other and all((weight - heaviest[members]) * len(members) <= k * STEPS for members in (one, other)):
            join(a, b, weight)
    for weight, _, _, _, a, b in edges:
        if component[a] != component[b] and min(len(component[a]), len(component[b])) < min_size:
            join(a, b, weight)

    labels = np.zeros((height, width), int)
    numbers = {}
    for y in range(height):
        for x in range(width):
            labels[y, x] = numbers.setdefault(component[y, x], len(numbers))
    return labels

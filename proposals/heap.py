"""A heap of scored pairs in two arrays, compiled: the highest key is on top; of equal keys, the smallest pair."""

from __future__ import annotations

import numpy as np

from ..data.arrays import Array
from ..data.compiled import compiled


@compiled(nogil=True)
def room(array: Array, needed: int) -> Array:
    """The array itself if it has ``needed`` places, else a copy of twice the size."""
    if needed <= array.size:
        return array
    larger = np.empty(2 * needed, array.dtype)
    for i in range(array.size):  # a slice assignment takes two seconds to compile
        larger[i] = array[i]
    return larger


@compiled(nogil=True)
def push(keys: Array, pairs: Array, count: int, key: float, pair: int) -> None:
    """Add an entry to a heap of ``count`` entries."""
    place = count
    while place > 0:
        parent = (place - 1) >> 1
        if keys[parent] > key or (keys[parent] == key and pairs[parent] < pair):
            break
        keys[place] = keys[parent]
        pairs[place] = pairs[parent]
        place = parent
    keys[place] = key
    pairs[place] = pair


@compiled(nogil=True)
def pop(keys: Array, pairs: Array, count: int) -> int:
    """Remove the top entry from a heap of ``count`` entries and return its pair."""
    top = pairs[0]
    last = count - 1
    key = keys[last]
    pair = pairs[last]
    place = 0
    while True:
        child = 2 * place + 1
        if child >= last:
            break
        right = child + 1
        if right < last and (keys[right] > keys[child] or (keys[right] == keys[child] and pairs[right] < pairs[child])):
            child = right
        if key > keys[child] or (key == keys[child] and pair < pairs[child]):
            break
        keys[place] = keys[child]
        pairs[place] = pairs[child]
        place = child
    keys[place] = key
    pairs[place] = pair
    return int(top)

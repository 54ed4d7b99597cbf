"""Histograms, neighbours and the hierarchy against slow references, and known hierarchies."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import selective_search as reference
from sppnet.proposals.grouping import group
from sppnet.proposals.regions import (
    COLOUR_BINS,
    TEXTURE_BINS,
    colour_bins,
    histograms,
    neighbours,
    sizes_and_boxes,
    texture_bins,
)

SIMILARITIES = [(1, 1, 1, 1), (0, 1, 1, 1), (0, 0, 0, 1), (0, 0, 1, 0), (1, 0, 0, 0)]


def random_regions(seed, height, width, regions, channels):
    """Labels numbered in raster order, and a few colours and textures, so that ties are common."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, regions, (height, width))
    _, first, labels = np.unique(labels, return_index=True, return_inverse=True)
    labels = np.argsort(np.argsort(first))[labels].reshape(height, width).astype(np.int32)
    colours = rng.integers(0, 3, (height, width, channels)).astype(np.uint8)
    textures = rng.integers(0, 3, (height, width, channels)).astype(np.uint8)
    return labels, colours, textures


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    height=st.integers(1, 7),
    width=st.integers(1, 7),
    regions=st.integers(1, 12),
    channels=st.sampled_from([1, 3]),
    weights=st.sampled_from(SIMILARITIES),
)
def test_regions_and_hierarchy_are_those_of_the_slow_twin(seed, height, width, regions, channels, weights):
    labels, colours, textures = random_regions(seed, height, width, regions, channels)
    count = int(labels.max()) + 1

    sizes, boxes = sizes_and_boxes(labels, count)
    assert sizes.tolist() == [(labels == label).sum() for label in range(count)]
    assert boxes.tolist() == [list(reference.box_of(labels, label)) for label in range(count)]
    counts = histograms(labels, count, colours, textures)
    assert np.array_equal(counts, reference.histograms(labels, colours, textures))
    pairs = neighbours(labels, count)
    assert [tuple(pair) for pair in pairs.tolist()] == reference.neighbours(labels)

    arguments = (sizes, boxes, counts, pairs, COLOUR_BINS * channels, channels)
    found = group(*arguments, np.array(weights, np.float64))
    assert np.array_equal(found, reference.group(*arguments, weights))
    assert found.shape == (2 * count - 1, 4)
    assert found[-1].tolist() == [0, 0, width, height]


def test_alike_neighbours_merge_first():
    # Four stripes: red, red-ish, blue, blue-ish. By colour alone the halves are found first.
    labels = np.repeat(np.arange(4, dtype=np.int32), 5)[None].repeat(10, axis=0)
    shade = np.array([[0, 9], [0, 8], [9, 0], [8, 0]], np.uint8)
    colours = np.concatenate([shade, np.zeros((4, 1), np.uint8)], axis=1)[labels]
    counts = histograms(labels, 4, colours, np.zeros_like(colours))
    sizes, boxes = sizes_and_boxes(labels, 4)
    found = group(sizes, boxes, counts, neighbours(labels, 4), 3 * COLOUR_BINS, 3, np.array([1.0, 0, 0, 0]))
    assert found[4:].tolist() == [[0, 0, 10, 10], [10, 0, 20, 10], [0, 0, 20, 10]]


def test_regions_that_do_not_touch_stay_apart():
    boxes = np.array([[0, 0, 2, 2], [5, 5, 7, 7]], np.int32)
    counts = np.zeros((2, COLOUR_BINS + TEXTURE_BINS), np.int32)
    none = np.zeros((0, 2), np.int32)
    found = group(np.array([4, 4]), boxes, counts, none, COLOUR_BINS, 1, np.ones(4))
    assert np.array_equal(found, boxes)


def test_a_hub_with_many_leaves_outgrows_the_first_lists():
    # One region that touches all others: its list is rebuilt at every merge.
    leaves = 300
    labels = np.zeros((3, 2 * leaves + 1), np.int32)
    labels[1, 1::2] = np.arange(1, leaves + 1)
    sizes, boxes = sizes_and_boxes(labels, leaves + 1)
    counts = histograms(labels, leaves + 1, *[np.zeros((*labels.shape, 1), np.uint8)] * 2)
    found = group(sizes, boxes, counts, neighbours(labels, leaves + 1), COLOUR_BINS, 1, np.ones(4))
    assert found.shape == (2 * leaves + 1, 4)
    assert (found[leaves + 1 :] == [0, 0, 2 * leaves + 1, 3]).all()


@pytest.mark.parametrize("channels", [1, 3])
def test_texture_bins_are_direction_and_steepness(channels):
    image = np.random.default_rng(0).integers(0, 256, (30, 40, channels)).astype(np.uint8)
    image = cv2.GaussianBlur(image, (0, 0), 0.8).reshape(image.shape)
    dx, dy = (cv2.Scharr(image, cv2.CV_16S, *order).reshape(image.shape) for order in ((1, 0), (0, 1)))
    bins = texture_bins(image)
    assert bins.dtype == np.uint8
    assert len(np.unique(bins)) > 40
    for place, found in np.ndenumerate(bins):
        expected = reference.texture_bin(int(dx[place]), int(dy[place]))
        assert expected is None or found == expected


def test_colour_bins_divide_the_range_into_25():
    image = np.arange(256, dtype=np.uint8).reshape(16, 16, 1)
    assert colour_bins(image).ravel().tolist() == [value * 25 // 256 for value in range(256)]

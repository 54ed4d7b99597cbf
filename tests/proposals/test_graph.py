"""The compiled segmentation against its slow reference, and images with known segments."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import segmentation as reference
from sppnet.proposals.graph import segment, sort_edges


def segments(planes, k, min_size):
    edges, starts = sort_edges(planes)
    labels, count = segment(edges, starts, *planes.shape[1:], k, min_size)
    assert count == labels.max() + 1
    return labels


def random_planes(seed, channels, height, width, colours):
    rng = np.random.default_rng(seed)
    return rng.choice(np.linspace(0, 255, colours, dtype=np.float32), (channels, height, width))


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    channels=st.sampled_from([1, 3]),
    height=st.integers(1, 8),
    width=st.integers(1, 8),
    colours=st.sampled_from([1, 2, 3, 200]),
    k=st.sampled_from([1, 50, 500, 3000]),
    min_size=st.sampled_from([0, 1, 4, 30]),
)
def test_segments_are_those_of_the_slow_twin(seed, channels, height, width, colours, k, min_size):
    planes = random_planes(seed, channels, height, width, colours)
    assert np.array_equal(segments(planes, k, min_size), reference.segment(planes, k, min_size))


@pytest.mark.parametrize("shape", [(3, 6, 7), (1, 1, 5), (1, 5, 1), (3, 2, 2)])
def test_edges_are_those_of_the_slow_twin(shape):
    planes = random_planes(3, *shape, colours=4)
    edges, starts = sort_edges(planes)
    expected = reference.needed_edges(planes)
    assert edges.tolist() == [4 * (y * shape[2] + x) + direction for _, y, direction, x, _, _ in expected]
    weights = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
    assert weights.tolist() == [weight for weight, *_ in expected]


def test_a_single_pixel_has_no_edge_and_is_one_segment():
    edges, starts = sort_edges(np.zeros((3, 1, 1), np.float32))
    assert len(edges) == 0
    labels, count = segment(edges, starts, 1, 1, 50, 50)
    assert labels.tolist() == [[0]]
    assert count == 1


def test_flat_areas_are_the_segments():
    planes = np.zeros((3, 40, 60), np.float32)
    planes[:, 10:30, 20:50] = 200
    planes[0, 30:, :] = 90
    expected = np.zeros((40, 60), int)
    expected[10:30, 20:50] = 1
    expected[30:, :] = 2
    assert np.array_equal(segments(planes, 50, 50), expected)


def test_the_furthest_colours_have_a_place():
    planes = np.zeros((3, 1, 2), np.float32)
    planes[:, 0, 1] = 255
    edges, starts = sort_edges(planes)
    assert edges.tolist() == [0]
    assert starts[-1] == 1


def test_segments_below_the_smallest_size_join_a_neighbour():
    planes = random_planes(0, 3, 30, 30, colours=200)
    _, sizes = np.unique(segments(planes, 20, 25), return_counts=True)
    assert len(sizes) > 1
    assert sizes.min() >= 25

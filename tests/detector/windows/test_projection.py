"""Projection against exact fractions, the paper's examples and planted cells."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference.projection import project as slow_project
from sppnet.detector.windows.projection import default_offset, project

# Sixteenths of a pixel: every sum in the formulas is then exact in float64, also at exact halves.
coordinate = st.integers(-2000, 20000).map(lambda sixteenths: sixteenths / 16)


@given(
    windows=st.lists(st.tuples(coordinate, coordinate, coordinate, coordinate), max_size=8),
    map_size=st.tuples(st.integers(1, 70), st.integers(1, 70)),
    stride=st.sampled_from([1, 4, 8, 12, 16, 32]),
    offset0=st.sampled_from([0.5, 1.0, 8.5, 15, 16, 21]),
    offset=st.sampled_from([None, 0.0, 2.5, 6.5, 8.0]),
    rule=st.sampled_from(["reference", "paper"]),
)
def test_equals_the_printed_formulas(windows, map_size, stride, offset0, offset, rule):
    if rule == "paper":
        offset = None
    boxes = np.array(windows, np.float32).reshape(-1, 4)
    cells = project(boxes, map_size, stride, offset0, offset, rule)
    margin = default_offset(stride) if offset is None else offset
    expected = slow_project(boxes, map_size, stride, offset0, margin, rule)
    assert cells.dtype == np.int32
    np.testing.assert_array_equal(cells, np.array(expected, np.int32).reshape(-1, 4))


@pytest.mark.parametrize(("stride", "offset0"), [(16, 21), (16, 8.5), (8, 1), (32, 16)])
def test_papers_rule_is_the_reference_with_half_a_stride(stride, offset0):
    rng = np.random.default_rng(0)
    boxes = np.sort(rng.integers(0, 800, (500, 2, 2)), axis=1).reshape(-1, 4)
    np.testing.assert_array_equal(
        project(boxes, (40, 50), stride, offset0, rule="paper"),
        project(boxes, (40, 50), stride, offset0, offset=stride / 2),
    )


def test_papers_rule_takes_the_cells_with_centres_strictly_inside():
    centres = 21 + 16 * np.arange(13)  # 1-based pixels
    rng = np.random.default_rng(1)
    for first, last in np.sort(rng.integers(1, 225, (200, 2))):
        inside = np.flatnonzero((centres > first) & (centres < last))
        x0, y0, x1, y1 = project([[first - 1, first - 1, last, last]], (13, 13), 16, 21, rule="paper")[0]
        assert (x0, x1) == (y0, y1)
        if len(inside):
            assert (x0, x1) == (inside[0], inside[-1])
        else:
            assert x0 == x1


def test_the_whole_training_image_is_the_whole_map_of_zf5():
    assert project([[0, 0, 224, 224]], (13, 13), 16, 21).tolist() == [[0, 0, 12, 12]]


def test_margin_is_the_references_at_stride_16():
    assert default_offset(16) == 6.5
    assert default_offset(32) == 13


def test_a_window_between_centres_gets_one_cell():
    # 1-based pixels 38..44 round cell 1 (centre 37) and cell 2 (centre 53) away from each other.
    assert project([[37, 37, 44, 44]], (13, 13), 16, 21).tolist() == [[1, 1, 1, 1]]


def test_windows_outside_the_image_stay_on_the_map():
    cells = project([[-500, -500, -400, -400], [9000, 9000, 9500, 9100], [-1e9, -1e9, 1e9, 1e9]], (7, 9), 16, 21)
    assert cells.tolist() == [[0, 0, 0, 0], [8, 6, 8, 6], [0, 0, 8, 6]]


def test_moving_a_window_by_the_stride_moves_its_cells_by_one():
    rng = np.random.default_rng(2)
    boxes = np.sort(rng.uniform(100, 500, (300, 2, 2)), axis=1).reshape(-1, 4).astype(np.float32)
    boxes = np.round(boxes * 8) / 8
    for rule in ("reference", "paper"):
        np.testing.assert_array_equal(
            project(boxes + 16, (99, 99), 16, 21, rule=rule), project(boxes, (99, 99), 16, 21, rule=rule) + 1
        )


def test_no_windows():
    cells = project(np.zeros((0, 4), np.float32), (5, 5), 16, 21)
    assert cells.shape == (0, 4)
    assert cells.dtype == np.int32


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rule": "papers"}, "'reference' or 'paper', not 'papers'"),
        ({"rule": "paper", "offset": 3.0}, "offset must be None, not 3.0"),
        ({"stride": 0}, "stride must be at least 1, not 0"),
        ({"map_size": (0, 4)}, "not 0 x 4"),
        ({"windows": [[1, 2, 3]]}, r"\(N, 4\)"),
    ],
)
def test_refusals(arguments, message):
    good = {"windows": [[0, 0, 9, 9]], "map_size": (5, 5), "stride": 16, "offset0": 21}
    with pytest.raises(ValueError, match=message):
        project(**{**good, **arguments})

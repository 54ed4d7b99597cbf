"""Named views, their places in the image, and their cells of its map."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference import views as slow
from sppnet.data.errors import InputError
from sppnet.detector.classification.places import NAMES, Views, named_views, view_cells, view_windows
from sppnet.detector.windows.scales import scaled_size

PLACES = ["full", "centre", "corners", "grid"]


def count(views, shape, size=224):
    return sum(
        len(view_windows(scaled_size(shape, scale), size, one.places)) * (1 + one.mirror)
        for one in views
        for scale in one.scales
    )


@pytest.mark.parametrize(("name", "landscape", "square"), [
    ("one", 1, 1), ("ten", 10, 10), ("96", 96, 92), ("full", 2, 2), ("98", 98, 94), ("96+full", 98, 94),
])  # fmt: skip
def test_counts_are_the_papers(name, landscape, square):
    views = named_views(name, 224)
    assert count(views, (375, 500)) == count(views, (500, 375)) == landscape
    assert count(views, (400, 400)) == square
    half = named_views(name, 112)
    assert count(half, (375, 500), size=112) == landscape


def test_scales_are_the_papers_in_proportion():
    assert named_views("96", 224) == (Views((224, 256, 300, 360, 448, 560), "grid", mirror=True),)
    assert named_views("96", 112)[0].scales == (112, 128, 150, 180, 224, 280)
    assert named_views("one", 224) == (Views((256,), "centre", mirror=False),)
    assert named_views("ten", 448)[0].scales == (512,)
    assert named_views("full", 224) == (Views((224,), "full", mirror=True),)
    assert named_views("98", 224)[1] == Views((256,), "full", mirror=True)
    assert named_views("full", 224, scales=[300, 392]) == (Views((300, 392), "full", mirror=True),)
    assert named_views("one + full", 224) == named_views("one", 224) + named_views("full", 224)


def test_what_is_not_known_is_refused():
    for name in ("96x", "", "one+", "ONE"):
        with pytest.raises(InputError, match=", ".join(NAMES)):
            named_views(name, 224)
    with pytest.raises(InputError, match="at least 64 pixels, not 300,20"):
        named_views("full", 224, scales=(300, 20))
    with pytest.raises(InputError, match="at least 64 pixels"):
        named_views("full", 224, scales=())
    with pytest.raises(ValueError, match=r"at least 64 pixels, not \(\)"):
        Views((), "full", mirror=True)
    with pytest.raises(ValueError, match=r"not \(256, 63\)"):
        Views((256, 63), "full", mirror=True)
    with pytest.raises(ValueError, match="one of full, centre, corners, grid, not 'centres'"):
        Views((256,), "centres", mirror=True)
    with pytest.raises(ValueError, match="not 0 x 5 and 64"):
        view_windows((0, 5), 64, "grid")


@given(st.integers(1, 700), st.integers(1, 700), st.integers(1, 300), st.sampled_from(PLACES))
def test_windows_equal_the_slow_ones(height, width, side, places):
    windows = view_windows((height, width), side, places)
    assert {tuple(window) for window in windows.tolist()} == slow.windows((height, width), side, places)
    assert len(np.unique(windows, axis=0)) == len(windows)
    assert windows.min() >= 0
    assert windows[:, 2].max() <= width
    assert windows[:, 3].max() <= height


def test_the_centre_comes_first_and_the_corners_next():
    assert view_windows((256, 341), 224, "grid").tolist()[:5] == [
        [58, 16, 282, 240],
        [0, 0, 224, 224],
        [117, 0, 341, 224],
        [0, 32, 224, 256],
        [117, 32, 341, 256],
    ]


@given(
    st.integers(64, 400),
    st.integers(64, 400),
    st.integers(64, 300),
    st.sampled_from([1, 4, 8, 16]),
    st.sampled_from(PLACES),
    st.integers(-1, 1),
)
def test_cells_equal_the_slow_ones(height, width, side, stride, places, more):
    # Networks have a cell more or less, as they pad.
    map_size = height // stride + more, width // stride + more
    square = side // stride + more, side // stride + more
    windows = view_windows((height, width), side, places)
    cells = view_cells(windows, (height, width), map_size, stride, square)
    assert cells.dtype == np.int32
    for (x1, y1, x2, y2), (left, top, right, bottom) in zip(windows.tolist(), cells.tolist(), strict=True):
        assert (left, right) == slow.cells(x1, x2, width, map_size[1], stride, square[1])
        assert (top, bottom) == slow.cells(y1, y2, height, map_size[0], stride, square[0])

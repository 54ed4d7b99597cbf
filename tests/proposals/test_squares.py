"""Small squares: sizes, order, and coverage without gaps."""

import numpy as np
import pytest
from sppnet.data.boxes import iou
from sppnet.proposals.backends import make_proposer
from sppnet.proposals.selective_search import selective_search
from sppnet.proposals.squares import SIDES, STEP, small_squares


@pytest.mark.parametrize("shape", [(480, 640), (333, 500), (37, 1000), (5, 7), (1, 1), (1, 300)])
def test_squares_cover_the_image_and_stay_inside(shape):
    height, width = shape
    squares = small_squares(height, width)
    assert squares.dtype == np.float32
    assert (squares[:, :2] >= 0).all()
    assert (squares[:, 2:] <= [width, height]).all()
    sides = squares[:, 2:] - squares[:, :2]
    np.testing.assert_allclose(sides[:, 0], sides[:, 1], rtol=1e-4)
    wanted = [min(max(1.0, part * np.sqrt(height * width)), height, width) for part in SIDES]
    for side in wanted:
        own = squares[np.isclose(sides[:, 0], side, rtol=1e-3)]
        for axis, length in enumerate((width, height)):
            starts = np.unique(own[:, axis])
            assert starts[0] == 0
            assert np.unique(own[:, axis + 2])[-1] == pytest.approx(length)
            assert np.diff(starts).max(initial=0) <= STEP * side * 1.001


def test_every_small_object_has_a_square_that_fits():
    rng = np.random.default_rng(0)
    side = rng.uniform(33, 48, 500)
    corners = rng.uniform(0, [640, 480], (500, 2)) * (1 - side[:, None] / [640, 480])
    objects = np.concatenate([corners, corners + side[:, None]], axis=1).astype(np.float32)
    best = iou(objects, small_squares(480, 640)).max(axis=1)
    # Half a step aside in both directions, and a sixth too large: the worst there is.
    assert best.min() > 0.45
    assert best.mean() > 0.65


def test_order_is_random_but_the_seed_s():
    first, again, other = (small_squares(480, 640, seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    np.testing.assert_array_equal(np.unique(first, axis=0), np.unique(other, axis=0))
    # A part of them is spread over the whole image.
    assert np.ptp(first[:200, 0]) > 500


def test_dense_takes_turns_with_selective_search():
    image = np.random.default_rng(0).integers(0, 256, (120, 160, 3), np.uint8)
    dense = make_proposer("dense", max_boxes=41, seed=3)(image)
    searched, squares = selective_search(image, "fast", None, 3), small_squares(120, 160, 3)
    turns = [box.tolist() for pair in zip(searched, squares, strict=False) for box in pair]
    kept = [box for number, box in enumerate(turns) if box not in turns[:number]]
    assert dense.tolist() == kept[:41]
    assert len(np.unique(dense, axis=0)) == 41
    everything = make_proposer("dense", max_boxes=None, seed=3)(image)
    assert len(everything) == len(np.unique(np.concatenate([searched, squares]), axis=0))

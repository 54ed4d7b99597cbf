"""Pooling of windows and whole maps: against loops, against torch, and by symmetry."""

import multiprocessing
import os

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference.spp import sliding_windows
from reference.spp import spp_pool as slow_pool
from sppnet.detector.pooling.kernel import unique_windows
from sppnet.detector.pooling.levels import bins, edges, steps
from sppnet.detector.pooling.spp import (
    SlidingWindowPyramidPooling,
    SpatialPyramidPooling,
    pool_whole_maps,
    spp_pool,
)
from sppnet.detector.pooling.torch_pool import pool_with_torch

DTYPES = [torch.float32, torch.float16, torch.bfloat16, torch.float64]
PYRAMIDS = [(1, 2, 3, 6), (1, 2, 4), (6, 3, 2, 1), (3, 5), (4, 2, 4, 1), (1,), (7,), (2, 6, 4, 3)]


def random_windows(rng, count, height, width):
    x = np.sort(rng.integers(0, width, (count, 2)), axis=1)
    y = np.sort(rng.integers(0, height, (count, 2)), axis=1)
    return np.stack([x[:, 0], y[:, 0], x[:, 1], y[:, 1]], axis=1)


def random_map(rng, shape, dtype=torch.float32, rectified=False):
    values = torch.from_numpy(rng.standard_normal(shape)).to(dtype)
    return values.relu() if rectified else values


def adaptive(features, windows, levels):
    """AdaptiveMaxPool2d on each crop, in our order; through float64, which holds every format exactly."""
    rows = []
    for x0, y0, x1, y1 in np.asarray(windows).tolist():
        crop = features[None, :, y0 : y1 + 1, x0 : x1 + 1].double()
        blocks = [torch.nn.AdaptiveMaxPool2d(n)(crop) for n in levels]
        rows.append(torch.cat([block[0].permute(1, 2, 0).flatten() for block in blocks]))
    return torch.stack(rows).to(features.dtype)


def on_both_routes(features, windows, levels):
    fast = spp_pool(features, windows, levels)
    on_device = pool_with_torch(features, np.asarray(windows, np.int32), levels)
    assert fast.dtype == on_device.dtype == features.dtype
    torch.testing.assert_close(fast, on_device, rtol=0, atol=0, equal_nan=True)
    return fast


@pytest.mark.parametrize("height", range(1, 14))
def test_equals_the_loops_on_small_maps(height):
    rng = np.random.default_rng(height)
    for width in (1, 2, 5, 6, 7, 12, 13):
        features = random_map(rng, (2, height, width))
        windows = random_windows(rng, 6, height, width)
        windows[0] = 0, 0, width - 1, height - 1
        for levels in PYRAMIDS:
            expected = slow_pool(features.numpy(), windows, levels)
            np.testing.assert_array_equal(on_both_routes(features, windows, levels).numpy(), expected)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rectified", [True, False])
@pytest.mark.parametrize("layout", ["contiguous", "channels_last", "strided"])
def test_equals_adaptive_pooling_of_each_crop(dtype, rectified, layout):
    rng = np.random.default_rng(7)
    features = random_map(rng, (37, 21, 30), dtype, rectified)
    if layout == "channels_last":
        features = features[None].contiguous(memory_format=torch.channels_last)[0]
    elif layout == "strided":
        features = torch.stack([features, -features], dim=3)[..., 0]
    windows = random_windows(rng, 30, 21, 30)
    before = features.clone()
    for levels in [(1, 2, 3, 6), (3, 5)]:
        torch.testing.assert_close(
            on_both_routes(features, windows, levels), adaptive(features, windows, levels), rtol=0, atol=0
        )
    assert torch.equal(features, before)


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_equals_the_loops_on_nasty_values(data):
    height, width = data.draw(st.integers(1, 9)), data.draw(st.integers(1, 9))
    nasty = st.sampled_from([0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, -np.nan, 6e-8, -6e-8, 65504.0, -65504.0])
    values = data.draw(st.lists(nasty, min_size=2 * height * width, max_size=2 * height * width))
    dtype = data.draw(st.sampled_from([torch.float16, torch.float32]))
    features = torch.tensor(values, dtype=torch.float64).reshape(2, height, width).to(dtype)
    x0, y0 = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    window = [x0, y0, data.draw(st.integers(x0, width - 1)), data.draw(st.integers(y0, height - 1))]
    levels = data.draw(st.sampled_from(PYRAMIDS))
    pooled = on_both_routes(features, [window], levels)
    np.testing.assert_array_equal(pooled.numpy(), slow_pool(features.numpy(), [window], levels))


@pytest.mark.parametrize("dtype", DTYPES)
def test_nan_spreads_to_the_bins_that_hold_it_as_in_torch(dtype):
    features = random_map(np.random.default_rng(0), (3, 12, 12), dtype)
    features[1, 4, 7] = torch.nan
    pooled = on_both_routes(features, [[0, 0, 11, 11], [0, 0, 5, 3]], (6, 1))
    blocks = pooled[0, : 36 * 3].reshape(6, 6, 3)
    assert blocks.isnan().nonzero().tolist() == [[2, 3, 1]]
    assert pooled[0, 36 * 3 :].isnan().tolist() == [False, True, False]
    assert not pooled[1].isnan().any()


def test_order_is_levels_then_bins_then_channels():
    features = torch.arange(2 * 2 * 2, dtype=torch.float32).reshape(2, 2, 2)
    pooled = spp_pool(features, [[0, 0, 1, 1]], (2, 1))
    assert pooled.tolist() == [[0, 4, 1, 5, 2, 6, 3, 7, 3, 7]]
    assert spp_pool(features, [[0, 0, 1, 1]], (1, 2)).tolist() == [[3, 7, 0, 4, 1, 5, 2, 6, 3, 7]]


def test_mirrored_maps_give_mirrored_bins():
    rng = np.random.default_rng(3)
    features = random_map(rng, (5, 17, 23))
    windows = random_windows(rng, 40, 17, 23)
    mirrored = windows.copy()
    mirrored[:, 0], mirrored[:, 2] = 22 - windows[:, 2], 22 - windows[:, 0]
    for n in (3, 6):
        straight = spp_pool(features, windows, (n,)).reshape(-1, n, n, 5)
        other = spp_pool(features.flip(2), mirrored, (n,)).reshape(-1, n, n, 5)
        assert torch.equal(straight, other.flip(2))


def test_transposed_maps_give_transposed_bins():
    rng = np.random.default_rng(4)
    features = random_map(rng, (5, 17, 23))
    windows = random_windows(rng, 40, 17, 23)
    straight = spp_pool(features, windows, (6,)).reshape(-1, 6, 6, 5)
    other = spp_pool(features.transpose(1, 2), windows[:, [1, 0, 3, 2]], (6,)).reshape(-1, 6, 6, 5)
    assert torch.equal(straight, other.transpose(1, 2))


def test_one_level_is_its_block_of_a_pyramid():
    rng = np.random.default_rng(5)
    features, windows = random_map(rng, (4, 15, 15)), random_windows(rng, 30, 15, 15)
    whole = spp_pool(features, windows, (1, 2, 3, 6))
    parts = [spp_pool(features, windows, (n,)) for n in (1, 2, 3, 6)]
    assert torch.equal(whole, torch.cat(parts, dim=1))


@pytest.mark.parametrize("windows", [[], np.zeros((0, 4), np.int64), torch.zeros((0, 4), dtype=torch.int32)])
def test_no_windows(windows):
    features = torch.zeros(3, 4, 4, dtype=torch.float16)
    for pooled in (spp_pool(features, windows, (1, 2)), spp_pool(features.requires_grad_(), windows, (1, 2))):
        assert pooled.shape == (0, 15)
        assert pooled.dtype == torch.float16


@pytest.mark.parametrize("windows", [[[1, 1, 3, 2]], np.array([[1, 1, 3, 2]], np.int16), torch.tensor([[1, 1, 3, 2]])])
def test_windows_may_be_lists_arrays_and_tensors(windows):
    features = random_map(np.random.default_rng(0), (3, 5, 5))
    assert torch.equal(spp_pool(features, windows, (2,)), adaptive(features, windows, (2,)))


@pytest.mark.parametrize(
    ("windows", "message"),
    [
        ([[0, 0, 5, 3]], r"\[0, 0, 5, 3\]; expected 0 <= x0 <= x1 < 5 and 0 <= y0 <= y1 < 4"),
        ([[0, 0, 4, 4]], "y1 < 4"),
        ([[-1, 0, 4, 3]], r"window 0 is x0 y0 x1 y1 = \[-1, 0, 4, 3\]"),
        ([[0, 0, 1, 1], [3, 0, 2, 3]], "window 1"),
        ([[0, 3, 4, 2]], "y0 <= y1"),
        ([[0, 0, 4]], r"shape \(N, 4\), not \(1, 3\)"),
        ([[0.0, 0.0, 1.0, 1.0]], "integer cells, not float64"),
    ],
)
def test_refuses_windows_off_the_map(windows, message):
    for features in (torch.zeros(2, 4, 5), torch.zeros(2, 4, 5, requires_grad=True)):
        with pytest.raises(ValueError, match=message):
            spp_pool(features, windows)


@pytest.mark.parametrize("levels", [(), (0,), (2, -1), (1.5,)])
def test_refuses_levels_that_are_none(levels):
    with pytest.raises(ValueError, match="one or more positive integers"):
        spp_pool(torch.zeros(2, 4, 5), [[0, 0, 1, 1]], levels)
    with pytest.raises(ValueError, match="one or more positive integers"):
        SpatialPyramidPooling(levels)


def test_refuses_features_of_another_form():
    with pytest.raises(ValueError, match=r"\(C, H, W\) without empty axes, not \(1, 2, 3, 4\)"):
        spp_pool(torch.zeros(1, 2, 3, 4), [[0, 0, 1, 1]])
    with pytest.raises(ValueError, match=r"without empty axes, not \(2, 0, 4\)"):
        spp_pool(torch.zeros(2, 0, 4), [])
    with pytest.raises(ValueError, match=r"floating point, not torch\.int64"):
        spp_pool(torch.zeros(2, 3, 4, dtype=torch.int64), [[0, 0, 1, 1]])


def test_gradient_reaches_the_maxima():
    rng = np.random.default_rng(0)
    features = random_map(rng, (2, 7, 8), torch.float64).requires_grad_()
    windows = random_windows(rng, 5, 7, 8)
    assert torch.autograd.gradcheck(lambda x: spp_pool(x, windows, (1, 2, 3)), features)
    with torch.no_grad():
        assert not spp_pool(features, windows).requires_grad


# Rows that are there already


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_given_rows_are_filled_and_returned(dtype, layout):
    rng = np.random.default_rng(1)
    features = random_map(rng, (5, 9, 11), dtype)
    if layout == "channels_last":
        features = features[None].contiguous(memory_format=torch.channels_last)[0]
    out = torch.full((40, 50), torch.nan, dtype=dtype)
    for _ in range(2):  # nothing of the first windows is left
        windows = random_windows(rng, 40, 9, 11)
        assert spp_pool(features, windows, (1, 3), out) is out
        assert torch.equal(out, spp_pool(features, windows, (1, 3)))


def test_given_rows_may_be_a_part_of_others_and_none():
    features = random_map(np.random.default_rng(2), (2, 5, 5))
    rows = torch.full((3, 10), -7.0)
    spp_pool(features, [[1, 1, 3, 2]], (1, 2), rows[1:2])
    assert torch.equal(rows[1:2], spp_pool(features, [[1, 1, 3, 2]], (1, 2)))
    assert (rows[[0, 2]] == -7).all()
    none = rows[:0]
    assert spp_pool(features, [], (1, 2), none) is none


def test_given_rows_may_lie_beside_the_map_in_the_same_memory():
    memory = torch.arange(45, dtype=torch.float32) % 7
    features, out = memory[:25].reshape(1, 5, 5), memory[25:].reshape(4, 5)
    before, windows = features.clone(), random_windows(np.random.default_rng(0), 4, 5, 5)
    assert torch.equal(spp_pool(features, windows, (1, 2), out), spp_pool(before, windows, (1, 2)))
    assert torch.equal(features, before)


@pytest.mark.parametrize(
    ("out", "message"),
    [
        (torch.zeros(1, 9), r"torch\.float32 \(1, 10\) on cpu, not torch\.float32 \(1, 9\) on cpu"),
        (torch.zeros(2, 10), r"\(1, 10\) on cpu, not torch\.float32 \(2, 10\)"),
        (torch.zeros(10), r"\(1, 10\) on cpu, not torch\.float32 \(10,\)"),
        (torch.zeros(1, 10, dtype=torch.float16), r"torch\.float32 \(1, 10\) on cpu, not torch\.float16"),
        (torch.zeros(1, 20)[:, ::2], r"must be contiguous, .* with strides \(20, 2\)"),
        (torch.zeros(1, 10, device="meta"), r"on cpu, not torch\.float32 \(1, 10\) on meta"),
    ],
)
def test_refuses_rows_of_another_form(out, message):
    before = out.clone()
    with pytest.raises(ValueError, match=message):
        spp_pool(torch.ones(2, 3, 4), [[0, 0, 1, 1]], (1, 2), out)
    assert out.device.type == "meta" or torch.equal(out, before)


def test_refuses_rows_that_are_the_maps_own_memory():
    memory = torch.zeros(100)
    for features in (memory[:50].reshape(2, 5, 5), memory[:50].reshape(5, 5, 2).permute(2, 0, 1)):
        with pytest.raises(ValueError, match="out must not share memory with features"):
            spp_pool(features, [[0, 0, 1, 1]] * 6, (1, 2), memory[40:].reshape(6, 10))


def test_refuses_rows_where_a_gradient_is_asked_for_as_torch_does():
    features, out = random_map(np.random.default_rng(0), (2, 3, 4)), torch.zeros(1, 10)
    expected = spp_pool(features, [[0, 0, 1, 1]], (1, 2))
    for pair in ((features.clone().requires_grad_(), out), (features, out.clone().requires_grad_())):
        with pytest.raises(RuntimeError, match=r"out= does not support automatic differentiation"):
            spp_pool(pair[0], [[0, 0, 1, 1]], (1, 2), pair[1])
        with torch.no_grad():
            assert torch.equal(spp_pool(pair[0], [[0, 0, 1, 1]], (1, 2), pair[1]), expected)


def test_rows_that_a_gradient_needs_are_not_overwritten_unseen():
    features, weight = random_map(np.random.default_rng(0), (2, 3, 4)), torch.ones(10, requires_grad=True)
    out = spp_pool(features, [[0, 0, 1, 1]], (1, 2), torch.zeros(1, 10))
    loss = (out * weight).sum()
    spp_pool(features, [[1, 1, 2, 2]], (1, 2), out)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_rows_made_in_inference_mode_are_filled_too():
    features = random_map(np.random.default_rng(0), (2, 3, 4))
    with torch.inference_mode():
        out = torch.zeros(1, 10)
        assert torch.equal(spp_pool(features, [[0, 0, 1, 1]], (1, 2), out), spp_pool(features, [[0, 0, 1, 1]], (1, 2)))


def test_the_number_of_threads_does_not_matter(monkeypatch):
    rng = np.random.default_rng(0)
    features, windows = random_map(rng, (5, 9, 11)), random_windows(rng, 200, 9, 11)
    expected = adaptive(features, windows, (1, 3))
    for threads in (1, 2, 5):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        assert torch.equal(spp_pool(features, windows, (1, 3)), expected)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_process_pools_with_threads_of_its_own(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    features, windows = torch.rand(3, 9, 9), [[0, 0, 8, 8], [1, 2, 3, 4], [5, 5, 8, 7]]
    expected = spp_pool(features, windows)

    def work():
        # torch's own threads are the parent's, too: only numpy looks at the result.
        same = np.array_equal(spp_pool(features, windows).numpy(), expected.numpy())
        os._exit(0 if same else 1)

    child = multiprocessing.get_context("fork").Process(target=work, daemon=True)
    child.start()
    child.join(60)
    hangs = child.is_alive()
    child.kill()
    assert (hangs, child.exitcode) == (False, 0)


def test_unique_windows_rebuild_the_list():
    rng = np.random.default_rng(0)
    windows = random_windows(rng, 500, 4, 5).astype(np.int32)
    unique, inverse = unique_windows(windows)
    assert len(unique) == len(set(map(tuple, windows.tolist()))) < 500
    np.testing.assert_array_equal(unique[inverse], windows)
    assert unique.dtype == np.int32
    assert [row[1::-1] for row in unique.tolist()] == sorted(row[1::-1] for row in unique.tolist())


def test_unique_of_no_windows():
    unique, inverse = unique_windows(np.zeros((0, 4), np.int32))
    assert unique.shape == (0, 4)
    assert inverse.shape == (0,)


# Levels


def test_bins():
    assert bins((1, 2, 3, 6)) == 50
    assert bins((1, 2, 3, 4)) == 30
    assert bins((1, 2, 4)) == 21


@given(st.integers(1, 200), st.integers(1, 20))
def test_edges_are_the_fractions_rounded_outwards(extent, n):
    first, end = edges(extent, n)
    for i in range(n):
        assert first[i] <= i * extent / n < first[i] + 1
        assert end[i] - 1 < (i + 1) * extent / n + 1e-9 <= end[i] + 2e-9
    assert (first < end).all()


def test_steps_use_the_coarsest_level_that_nests():
    plan = {step.n: step.source for step in steps((1, 2, 3, 6))}
    assert plan == {6: None, 3: 3, 2: 3, 1: 1}
    assert {step.n: step.source for step in steps((3, 5))} == {3: None, 5: None}
    assert [(step.n, step.source) for step in steps((4, 4))] == [(4, None), (4, 0)]


# Whole maps


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (5, 9), (13, 13), (10, 10), (40, 60)])
def test_module_equals_pooling_the_window_of_the_whole_map(size):
    features = torch.from_numpy(np.random.default_rng(0).standard_normal((3, 4, *size)))
    for levels in PYRAMIDS:
        pooled = SpatialPyramidPooling(levels)(features)
        assert pooled.shape == (3, bins(levels) * 4)
        window = [[0, 0, size[1] - 1, size[0] - 1]]
        assert torch.equal(pooled, torch.cat([spp_pool(one, window, levels) for one in features]))
        assert torch.equal(pooled, pool_whole_maps(features, levels))
        last = features.contiguous(memory_format=torch.channels_last)
        out = torch.empty_like(pooled)
        assert pool_whole_maps(last, levels, out) is out
        assert torch.equal(pooled, out)


def test_modules_pass_gradcheck():
    features = torch.from_numpy(np.random.default_rng(0).standard_normal((2, 2, 6, 6))).requires_grad_()
    assert torch.autograd.gradcheck(SpatialPyramidPooling((1, 2, 4)), features)
    assert torch.autograd.gradcheck(SlidingWindowPyramidPooling((1, 2, 3)), features)


def test_sliding_windows_of_the_papers_example():
    # Figure 3: conv5 of 13 x 13 cells; pool3x3 has window 5, stride 4; pool2x2 7, 6; pool1x1 13, 13.
    features = random_map(np.random.default_rng(0), (1, 2, 13, 13))
    expected = [torch.nn.functional.max_pool2d(features, size, stride) for size, stride in [(5, 4), (7, 6), (13, 13)]]
    expected = torch.cat([block.permute(0, 2, 3, 1).flatten(1) for block in expected], dim=1)
    assert torch.equal(SlidingWindowPyramidPooling((3, 2, 1))(features), expected)


@pytest.mark.parametrize("size", [(13, 13), (11, 8), (8, 14), (6, 12), (3, 3)])
@pytest.mark.parametrize("levels", [(3, 2, 1), (1, 3), (2,)])
def test_sliding_windows_equal_the_loops(size, levels):
    maps = random_map(np.random.default_rng(1), (2, 3, *size))
    expected = np.stack([sliding_windows(one, levels) for one in maps.numpy()])
    np.testing.assert_array_equal(SlidingWindowPyramidPooling(levels)(maps).numpy(), expected)


def test_sliding_windows_leave_out_the_last_cells_where_they_do_not_fit():
    """At a = 11, n = 3: windows of 4 cells from 0, 3 and 6 on."""
    only_the_last = torch.zeros(1, 1, 11, 11)
    only_the_last[..., 10] = 1
    assert not SlidingWindowPyramidPooling((3,))(only_the_last).any()
    assert SpatialPyramidPooling((3,))(only_the_last).sum() == 3


def test_sliding_windows_are_the_pyramid_where_levels_divide():
    features = random_map(np.random.default_rng(0), (2, 3, 12, 18))
    levels = (1, 2, 3, 6)
    assert torch.equal(SlidingWindowPyramidPooling(levels)(features), SpatialPyramidPooling(levels)(features))


@pytest.mark.parametrize(("n", "size", "got"), [(6, (10, 10), 9), (6, (12, 10), 9), (4, (3, 8), 0), (4, (7, 7), 6)])
def test_sliding_windows_refuse_sizes_without_n_bins(n, size, got):
    with pytest.raises(ValueError, match=f"gives {got} bins along {min(size)} cells, not {n}"):
        SlidingWindowPyramidPooling((n,))(torch.zeros(1, 1, *size))


def test_sliding_windows_serve_exactly_the_sizes_they_say():
    for n in range(1, 8):
        for a in range(n, 30):
            natural = torch.nn.functional.max_pool2d(torch.zeros(1, 1, a, a), -(-a // n), a // n).shape[-1]
            module = SlidingWindowPyramidPooling((n,))
            if natural == n:
                assert module(torch.zeros(1, 1, a, a)).shape == (1, n * n)
            else:
                with pytest.raises(ValueError, match=f"gives {natural} bins"):
                    module(torch.zeros(1, 1, a, a))

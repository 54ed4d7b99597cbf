"""The GPU's kernel gives the bits of the CPU's: on a GPU, and without one by Triton's interpreter on the CPU."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from sppnet.detector.pooling import spp
from sppnet.detector.pooling.kernel import bits_of
from sppnet.detector.pooling.levels import bins
from sppnet.detector.pooling.spp import spp_pool

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"

# Without a GPU in the interpreter: that of 3.2 takes minutes, that of 3.6 refuses numpy 2.5.
pytest.importorskip("triton", minversion=None if DEVICE == "cuda" else "3.8")

from sppnet.detector.pooling import gpu  # noqa: E402

DTYPES = [torch.float16, torch.bfloat16, torch.float32]

#: Among them numbers that only their bits tell apart.
NASTY = [0.0, -0.0, np.inf, -np.inf, np.nan, 65504.0, -65504.0, 6e-8, -6e-8]


def pooled(features, windows, levels, first=0, more=0):
    """By the kernel, into the columns from ``first`` of rows that are longer by ``more``."""
    width = bins(levels) * len(features)
    rows = torch.full((len(windows), first + width + more), 7, dtype=features.dtype, device=DEVICE)
    cells = torch.from_numpy(np.asarray(windows, np.int32).reshape(-1, 4)).to(DEVICE)
    gpu.KeyMaps([features.to(DEVICE)]).pool_into(rows, cells, levels, first)
    rows = rows.cpu()
    assert (rows[:, :first] == 7).all()
    assert (rows[:, first + width :] == 7).all()
    return bits_of(rows[:, first : first + width])[0]


def expected(features, windows, levels):
    return bits_of(spp_pool(features, windows, levels))[0]


def windows_on(rng, count, height, width):
    x, y = (np.sort(rng.integers(0, size, (count, 2)), axis=1) for size in (width, height))
    return np.stack([x[:, 0], y[:, 0], x[:, 1], y[:, 1]], axis=1).astype(np.int32)


@pytest.mark.parametrize(
    ("dtype", "layout", "rectified"),
    [
        (torch.float32, "contiguous", False),
        (torch.float32, "channels_last", True),
        (torch.float16, "strided", False),
        (torch.bfloat16, "channels_last", False),
    ],
)
def test_equals_the_cpus_kernel_bit_by_bit(dtype, layout, rectified):
    rng = np.random.default_rng(1)
    features = torch.from_numpy(rng.standard_normal((19, 11, 13))).to(dtype)
    features = features.relu() if rectified else features
    if layout == "channels_last":
        features = features[None].contiguous(memory_format=torch.channels_last)[0]
    elif layout == "strided":
        features = torch.stack([features, features + 1], dim=3)[..., 0]
    windows = windows_on(rng, 3, 11, 13)
    windows[0] = 0, 0, 12, 10
    assert torch.equal(pooled(features, windows, (1, 2, 3, 6)), expected(features, windows, (1, 2, 3, 6)))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("levels", [(3, 1), (2, 5, 4), (1,)], ids=str)
def test_nasty_numbers_keep_their_bits(dtype, levels):
    """A bin with a NaN is NaN, and minus zero is below zero."""
    rng = np.random.default_rng(len(levels))
    features = torch.from_numpy(rng.choice(NASTY, (5, 4, 6))).to(dtype)
    bits, _ = bits_of(features)
    bits[0, 1] |= torch.iinfo(bits.dtype).min  # also NaNs below zero
    windows = np.concatenate([windows_on(rng, 1, 4, 6), [[2, 1, 2, 1], [0, 0, 5, 3]]])
    assert torch.equal(pooled(features, windows, levels), expected(features, windows, levels))


@pytest.mark.parametrize("channels", [1, 128, 129, 300])
def test_blocks_of_channels_meet(channels):
    """Each program has 128 of them."""
    rng = np.random.default_rng(channels)
    features = torch.from_numpy(rng.standard_normal((channels, 5, 6), np.float32))
    windows = windows_on(rng, 2, 5, 6)
    assert torch.equal(pooled(features, windows, (2, 1)), expected(features, windows, (2, 1)))


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 9), (17, 1), (9, 30)])
def test_bins_larger_than_what_is_read_at_once_and_maps_of_a_line(height, width):
    rng = np.random.default_rng(height)
    features = torch.from_numpy(rng.standard_normal((3, height, width), np.float32))
    windows = np.array([[0, 0, width - 1, height - 1]])
    assert torch.equal(pooled(features, windows, (1, 3)), expected(features, windows, (1, 3)))


#: Compiles both kernels for an H100, which needs none.
COMPILE = """
from triton import compile
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from sppnet.detector.pooling import gpu

for integer, wide, block in (("i16", "i32", 256), ("i32", "i32", 128), ("i64", "i64", 64)):
    map_ = f"*{integer}"
    order = dict(bits=map_, keys=map_, width="i32", channels="i32", stride_y="i32", stride_x="i32", stride_c="i32")
    pool = dict(keys=map_, places="*i32", plan="*i32", rows=map_, levels="i32", channels="i32")
    order |= dict(infinity=wide, top=wide, BLOCK="constexpr")
    pool |= dict(row_stride="i32", first="i32", top=wide, BLOCK="constexpr", TILE="constexpr")
    for kernel, types, constants in (
        (gpu._order, order, {"BLOCK": block}),
        (gpu._pool, pool, {"BLOCK": block, "TILE": gpu._TILE}),
    ):
        assert list(types) == kernel.arg_names
        source = ASTSource(kernel, types, constants)
        print(len(compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": 1}).asm["cubin"]))
"""


def test_the_kernels_compile_for_a_gpu():
    """The interpreter lets pass what the compiler refuses, as a sum whose type changes in a loop."""
    compiled = {**os.environ, "TRITON_INTERPRET": "0"}
    done = subprocess.run([sys.executable, "-c", COMPILE], env=compiled, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.split()) == 6


def test_columns_beside_its_own_are_left_alone():
    rng = np.random.default_rng(0)
    features = torch.from_numpy(rng.standard_normal((4, 6, 7), np.float32))
    windows = windows_on(rng, 3, 6, 7)
    assert torch.equal(pooled(features, windows, (2, 1), 5, 3), expected(features, windows, (2, 1)))
    assert pooled(features, windows[:0], (2, 1)).shape == (0, 20)


def test_windows_of_several_maps_in_one_call():
    rng = np.random.default_rng(3)
    maps = [torch.from_numpy(rng.standard_normal((5, *size), np.float32)) for size in ((4, 6), (7, 3), (9, 9))]
    which = np.array([2, 0, 1, 1, 2, 0])
    cells = np.concatenate([windows_on(rng, 1, *maps[number].shape[1:]) for number in which])
    rows = torch.empty(6, 5 * 5, device=DEVICE)
    on_device = [torch.from_numpy(part).to(DEVICE) for part in (cells, which)]
    gpu.KeyMaps([one.to(DEVICE) for one in maps]).pool_into(rows, on_device[0], (2, 1), which=on_device[1])
    slow = torch.cat([spp_pool(maps[number], cells[i : i + 1], (2, 1)) for i, number in enumerate(which)])
    assert torch.equal(rows.cpu(), slow)


def test_too_little_memory_says_nothing_of_triton(monkeypatch, messages, capsys):
    def fail(maps):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(gpu, "KeyMaps", fail)
    monkeypatch.setattr(torch, "zeros", lambda *size, device: torch.ones(size))
    with pytest.raises(torch.OutOfMemoryError):
        spp.gpu_kernels(torch.device("cuda", 6))
    monkeypatch.setattr(gpu, "KeyMaps", lambda maps: maps)
    assert spp.gpu_kernels(torch.device("cuda", 6)) is gpu
    spp.gpu_kernels.cache_clear()
    assert capsys.readouterr().err == ""


def test_without_triton_torch_pools_and_it_is_said_once(monkeypatch, messages, capsys):
    def fail(maps):
        raise RuntimeError("Failed to find C compiler.\nPlease specify via CC")

    monkeypatch.setattr(gpu, "KeyMaps", fail)
    monkeypatch.setattr(torch, "zeros", lambda *size, device: torch.ones(size))
    spp.gpu_kernels.cache_clear()
    for _ in range(2):
        assert spp.gpu_kernels(torch.device("cuda", 7)) is None
    spp.gpu_kernels.cache_clear()
    (line,) = capsys.readouterr().err.splitlines()
    reason = "Failed to find C compiler. Please specify via CC"
    assert line == f"warning: Triton does not work on cuda:7 ({reason}): windows are pooled by torch's operations"
    assert spp.gpu_kernels(torch.device("mps")) is None

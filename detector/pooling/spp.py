"""Spatial pyramid pooling (paper, section 2) of windows on a map, and as layers for whole maps.

The output order is always the same: level blocks in the order of ``levels``; in a
block the n x n bins row by row; in a bin the C channels. So a row has M * C numbers,
and number ``(bin_row * n + bin_column) * C + channel`` of a block is the maximum of
one bin and channel. Channels are innermost because channel-last maps are read and
written fastest this way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from subprocess import CalledProcessError
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn
from torch.autograd.graph import increment_version
from torch.nn import functional

from ...data.arrays import Array
from ...data.progress import warn
from ..options import check_levels
from .kernel import Sortable, bits_of, pool_bits, sortable
from .levels import bins, check_windows
from .torch_pool import pool_with_torch

if TYPE_CHECKING:
    from .gpu import KeyMaps

__all__ = ["SlidingWindowPyramidPooling", "SpatialPyramidPooling", "bins", "pool_whole_maps", "spp_pool"]


def spp_pool(
    features: Tensor,
    windows: ArrayLike | Tensor,
    levels: Sequence[int] = (1, 2, 3, 6),
    out: Tensor | None = None,
) -> Tensor:
    """Max-pool windows of a feature map into the bins of a spatial pyramid.

    The result is equal to :class:`torch.nn.AdaptiveMaxPool2d` on each window's cells,
    bit for bit: bin i of n covers the cells ``floor(i * extent / n)`` to
    ``ceil((i + 1) * extent / n) - 1``. A bin that contains a NaN is NaN.

    A compiled kernel pools maps on the CPU; it reads a channel-last map (also as a
    ``(C, H, W)`` view) without copying it. On CUDA devices a Triton kernel does,
    where there is Triton. Torch operations pool maps on other devices and maps that
    need a gradient.

    Parameters
    ----------
    features : tensor (C, H, W)
        float16, bfloat16, float32 or float64, any memory layout and device.
    windows : int tensor or array (N, 4)
        Cells x0, y0, x1, y1, inclusive, 0-based.
    levels : sequence of int
        Level n has n x n bins; any order, repeats allowed.
    out : tensor (N, M * C), optional
        If given, it is filled and returned: contiguous, of the dtype and on the device of ``features``, in separate
        memory. Reuse the same rows if possible: the system can need as long to allocate 100 MB for a new result as
        the pooling itself takes (``sppnet benchmark pooling`` times both).

    Returns
    -------
    tensor (N, M * C)
        On the device and of the dtype of ``features``, in the order of the module docstring.

    Raises
    ------
    ValueError
        For features, windows, levels or ``out`` of another form, or windows outside the map.
    RuntimeError
        For an ``out`` if a gradient is needed, which it does not support.

    Examples
    --------
    >>> import torch
    >>> spp_pool(torch.arange(9.0).reshape(1, 3, 3), [[0, 0, 2, 2]], levels=(2, 1))
    tensor([[4., 5., 7., 8., 8.]])
    """
    if features.ndim != 3 or 0 in features.shape:
        raise ValueError(f"features must have shape (C, H, W) without empty axes, not {tuple(features.shape)}")
    bits, _ = bits_of(features.detach())
    levels = check_levels(levels)
    channels, height, width = features.shape
    cells = windows.detach().cpu().numpy() if isinstance(windows, Tensor) else windows
    cells = check_windows(cells, height, width)
    shape = len(cells), bins(levels) * channels
    if out is not None:
        _check_out(out, features, shape)
        spp_pool_into(out.detach(), Poolable.of(features.detach()), cells, levels)
        if not out.is_inference():  # inference tensors have no version counter
            increment_version(out)
        return out
    if features.requires_grad and torch.is_grad_enabled():
        return pool_with_torch(features, cells, levels)
    if features.device.type != "cpu":
        rows = torch.empty(shape, dtype=features.dtype, device=features.device)
        return spp_pool_into(rows, Poolable.of(features.detach()), cells, levels)

    # numpy requests large memory pages, which is faster for a result of 100 MB.
    pooled = torch.from_numpy(np.empty(shape, bits.numpy().dtype)).view(features.dtype)
    return spp_pool_into(pooled, Poolable.of(features.detach()), cells, levels)


def _check_out(out: Tensor, features: Tensor, shape: tuple[int, int]) -> None:
    """Refuse an unsuitable ``out`` of :func:`spp_pool`."""
    if torch.is_grad_enabled() and (features.requires_grad or out.requires_grad):
        raise RuntimeError(
            "spp_pool(): out= does not support automatic differentiation, but features or out requires grad"
        )
    wanted, given = (features.dtype, features.device), (out.dtype, out.device)
    if out.shape != shape or given != wanted or not out.is_contiguous():
        raise ValueError(
            f"out must be contiguous, {wanted[0]} {shape} on {wanted[1]}, "
            f"not {given[0]} {tuple(out.shape)} on {given[1]} with strides {out.stride()}"
        )
    (first, end), (other, other_end) = _extent(out), _extent(features)
    if first < other_end and other < end:
        raise ValueError("out must not share memory with features, which would change while they are read")


def _extent(tensor: Tensor) -> tuple[int, int]:
    """Address of the first byte of a tensor, and the address after its last byte."""
    first = tensor.data_ptr()
    if tensor.numel() == 0:
        return first, first
    last = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return first, first + (last + 1) * tensor.element_size()


def pool_whole_maps(maps: Tensor, levels: Sequence[int], out: Tensor | None = None) -> Tensor:
    """Pool whole maps (B, C, H, W) to rows (B, M * C) with :func:`spp_pool`; same ``out`` and errors.

    The result equals that of :class:`SpatialPyramidPooling`, but the kernel is faster.
    """
    count, channels, height, width = maps.shape
    # Stack the maps vertically to a single map; each of them is a window of it.
    tall = maps.permute(0, 2, 3, 1).reshape(count * height, width, channels).permute(2, 0, 1)
    tops = np.arange(count) * height
    cells = np.stack([0 * tops, tops, 0 * tops + width - 1, tops + height - 1], axis=1)
    return spp_pool(tall, cells, levels, out)


@dataclass(frozen=True, eq=False)
class Poolable:
    """A feature map prepared for :func:`spp_pool_into`, once for all its windows; do not change the map after that.

    Attributes
    ----------
    features : tensor (C, H, W)
    prepared : Sortable, KeyMaps or None
        The map as the kernel of the CPU takes it, or that of a GPU; None on other devices.
    """

    features: Tensor
    prepared: Sortable | KeyMaps | None

    @classmethod
    def of(cls, features: Tensor) -> Poolable:
        """Prepare a map (C, H, W) of any floating-point dtype, memory layout and device."""
        if features.device.type != "cpu":
            gpu = gpu_kernels(features.device)
            return cls(features, None if gpu is None else gpu.KeyMaps([features]))
        bits, infinity = bits_of(features)
        return cls(features, sortable(np.ascontiguousarray(bits.permute(1, 2, 0).numpy()), infinity))


def spp_pool_into(rows: Tensor, on_map: Poolable, cells: Array, levels: Sequence[int], first: int = 0) -> Tensor:
    """:func:`spp_pool` into existing memory, which it returns.

    Parameters
    ----------
    rows : tensor (N, at least first + M * C)
        Contiguous, of the dtype and on the device of the map; other columns are left as they are.
    on_map : Poolable
    cells, levels
        As in :func:`spp_pool`.
    first : int
        First column to fill.
    """
    if isinstance(on_map.prepared, Sortable):
        pool_bits(on_map.prepared, cells, levels, bits_of(rows)[0].numpy(), first)
    elif on_map.prepared is not None:
        on_device = torch.from_numpy(np.ascontiguousarray(cells, np.int32)).to(rows.device, non_blocking=True)
        on_map.prepared.pool_into(rows, on_device, levels, first)
    else:
        pooled = pool_with_torch(on_map.features, cells, levels)
        rows[:, first : first + pooled.shape[1]] = pooled
    return rows


@cache
def gpu_kernels(device: torch.device) -> ModuleType | None:
    """The module :mod:`.gpu`; None on other devices, and, with a warning, where its kernels cannot be compiled."""
    if device.type != "cuda":
        return None
    try:
        from . import gpu

        gpu.KeyMaps([torch.zeros(1, 1, 1, device=device)])
    except torch.OutOfMemoryError:  # says nothing of the kernels, though it is a RuntimeError
        raise
    except (ImportError, OSError, RuntimeError, CalledProcessError) as error:
        reason = " ".join(str(error).split())[:200]
        warn(f"warning: Triton does not work on {device} ({reason}): windows are pooled by torch's operations")
        return None
    return gpu


class SpatialPyramidPooling(nn.Module):
    """Spatial pyramid pooling of whole maps of any size, as a layer (paper, section 2.2).

    Between the last convolution and the first fully-connected layer it makes a network accept images of any size: a
    row has M * C numbers for maps of every height and width.

    Parameters
    ----------
    levels : sequence of int
        Level n max-pools the map into n x n bins, as :class:`torch.nn.AdaptiveMaxPool2d` does; any order. The pyramid
        has M bins, the sum of n * n: 50 for (1, 2, 3, 6).

    Raises
    ------
    ValueError
        When ``levels`` are not one or more positive integers.

    See Also
    --------
    spp_pool : pools many windows of one map.
    SlidingWindowPyramidPooling : the form used for training in the paper.

    References
    ----------
    He, Zhang, Ren, Sun: "Spatial Pyramid Pooling in Deep Convolutional Networks for Visual Recognition", ECCV 2014.

    Examples
    --------
    >>> import torch
    >>> pool = SpatialPyramidPooling((1, 2, 3, 6))
    >>> pool(torch.zeros(8, 256, 13, 13)).shape, pool(torch.zeros(1, 256, 40, 27)).shape
    (torch.Size([8, 12800]), torch.Size([1, 12800]))
    """

    def __init__(self, levels: Sequence[int] = (1, 2, 3, 6)) -> None:
        super().__init__()
        self.levels = check_levels(levels)

    def forward(self, features: Tensor) -> Tensor:
        """Maps (B, C, H, W) to rows (B, M * C), in the order that this module's head describes."""
        return _rows([functional.adaptive_max_pool2d(features, n) for n in self.levels])

    def extra_repr(self) -> str:
        """What print shows between the brackets."""
        return f"levels={self.levels}"


class SlidingWindowPyramidPooling(nn.Module):
    """The pyramid as ordinary sliding-window pooling, for maps of one known size (paper, section 2.3).

    The paper trains at fixed image sizes with the pooling layers of its software. For a map of a x a cells, level n is
    max pooling with

        window size = ceil(a / n), stride = floor(a / n),

    the form quoted in most descriptions of SPP-net. On conv5 of the 224-pixel network, 13 x 13 cells, the paper's
    figure 3 has pool3x3 with window 5 and stride 4, pool2x2 with 7 and 6, pool1x1 with 13 and 13.

    Parameters
    ----------
    levels : sequence of int
        Level n has n x n bins; any order.

    Raises
    ------
    ValueError
        When ``levels`` are not one or more positive integers; in ``forward``, for a map whose height or width does
        not give n bins in this form.

    See Also
    --------
    SpatialPyramidPooling : the general form, for maps of any size.

    Notes
    -----
    Along an axis of a cells this form gives ``floor((a - ceil(a / n)) / floor(a / n)) + 1`` bins, which is n only
    for some sizes: for a = 10, the paper's 180-pixel network, level 6 would have 9 bins. Height and width may differ;
    each has its own window and stride.

    The bins equal those of :class:`SpatialPyramidPooling` if n divides a. Otherwise they differ, and at some sizes
    no bin covers the last cells: for a = 11, n = 3 the windows of 4 cells with stride 3 cover 10 cells. Use this form
    to compare with networks trained with it, and :class:`SpatialPyramidPooling` otherwise.

    References
    ----------
    He, Zhang, Ren, Sun: "Spatial Pyramid Pooling in Deep Convolutional Networks for Visual Recognition", ECCV 2014.

    Examples
    --------
    >>> import torch
    >>> conv5 = torch.arange(169.0).reshape(1, 1, 13, 13)
    >>> SlidingWindowPyramidPooling((3, 2, 1))(conv5).shape
    torch.Size([1, 14])
    >>> SlidingWindowPyramidPooling((2,))(conv5)
    tensor([[ 84.,  90., 162., 168.]])
    """

    def __init__(self, levels: Sequence[int] = (1, 2, 3, 6)) -> None:
        super().__init__()
        self.levels = check_levels(levels)

    def forward(self, features: Tensor) -> Tensor:
        """Maps (B, C, H, W) to rows (B, M * C), in the order that this module's head describes."""
        return _rows([self._pool(features, n) for n in self.levels])

    @staticmethod
    def _pool(features: Tensor, n: int) -> Tensor:
        sizes = features.shape[-2:]
        for a in sizes:
            got = (a - -(-a // n)) // (a // n) + 1 if a >= n else 0
            if got != n:
                raise ValueError(
                    f"window ceil({a}/{n}) with stride floor({a}/{n}) gives {got} bins along {a} cells, not {n}; "
                    f"use SpatialPyramidPooling for this size"
                )
        return functional.max_pool2d(features, [-(-a // n) for a in sizes], [a // n for a in sizes])

    def extra_repr(self) -> str:
        """What print shows between the brackets."""
        return f"levels={self.levels}"


def _rows(blocks: list[Tensor]) -> Tensor:
    """Convert blocks (B, C, n, n) to rows: bins first, channels innermost."""
    return torch.cat([block.permute(0, 2, 3, 1).flatten(1) for block in blocks], dim=1)

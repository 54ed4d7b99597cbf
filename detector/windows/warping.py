"""R-CNN's window features, for comparison with SPP-net: the network runs on every window.

Each window is cropped with some context, warped to a square and passed through all convolutions (Girshick et al.,
CVPR 2014, section 2.1 and appendix A). The same pyramid as in SPP-net pools the output, so everything after the
convolutions is equal in both methods.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ...data.arrays import Array
from ...data.boxes import as_boxes
from ...data.memory import after_image
from ...data.sample import Sample
from ..convolutions.backbone import Backbone
from ..head.head import Head
from ..options import FeatureOptions
from ..pooling.spp import pool_whole_maps
from .features import Cells, Features

#: Number of crops in a batch. On two cores 4 or 8 are fastest for SqueezeNet and MobileNetV2, and close to the best
#: for AlexNet, 32. With 64 MobileNetV2 takes three times as long for each crop: smaller batches stay in the cache. A
#: GPU needs many. ``sppnet benchmark rcnn`` tries other sizes before it measures.
BATCH = {"cpu": 8, "cuda": 128}


def frames(windows: Array, crop: int, context: int) -> Array:
    """Compute the pixels to warp for each window: the window and its context, also beyond the image's edges.

    Parameters
    ----------
    windows : float array (N, 4)
        x1, y1, x2, y2 in pixels, half-open.
    crop : int
        Side of the warped square in pixels.
    context : int
        Context around the window on each side, in pixels of the square (R-CNN's ``rcnn_im_crop``).

    Returns
    -------
    int32 array (N, 4)
        x0, y0, x1, y1, half-open, at least one pixel wide and high.
    """
    boxes = as_boxes(windows, np.float64)
    centre, half = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]) / 2
    half = half * (crop / (crop - 2 * context))
    low, high = np.floor(centre - half + 0.5), np.floor(centre + half + 0.5)
    return np.concatenate([low, np.maximum(high, low + 1)], axis=1).astype(np.int32)


def placements(frames: Array, image_size: tuple[int, int], crop: int) -> tuple[Array, Array]:
    """Compute which part of the image fills which part of each square.

    Parameters
    ----------
    frames : int array (N, 4)
        See :func:`frames`.
    image_size : (height, width)
    crop : int

    Returns
    -------
    source, target : int64 arrays (N, 4)
        x0, y0, x1, y1, half-open, in the image and in the square; empty if the frame is outside the image.
    """
    height, width = image_size
    limits = np.array([width, height, width, height])
    source = np.clip(frames.astype(np.int64), 0, limits)
    corner = np.tile(frames[:, :2], 2)
    scale = np.tile(crop / (frames[:, 2:] - frames[:, :2]), 2)
    low = np.floor((source - corner)[:, :2] * scale[:, :2] + 0.5)
    size = np.floor((source[:, 2:] - source[:, :2]) * scale[:, 2:] + 0.5)
    # A strip of the image thinner than a pixel of the square still gets one pixel.
    low, size = np.minimum(low, crop - 1), np.maximum(size, 1)
    target = np.concatenate([low, np.minimum(low + size, crop)], axis=1).astype(np.int64)
    outside = (source[:, 2:] <= source[:, :2]).any(axis=1)
    target[outside] = 0
    return source, target


def warp(pixels: Tensor, frames: Array, crop: int) -> Tensor:
    """Warp parts of an image to squares, bilinear.

    Parameters
    ----------
    pixels : float32 tensor (1, 3, H, W)
        A normalised image, channels last in memory.
    frames : int array (N, 4)
        x0, y0, x1, y1 in pixels, half-open; pixels outside the image become 0, the mean.
    crop : int
        Side of the squares.

    Returns
    -------
    tensor (N, 3, crop, crop), channels last in memory, on the device of ``pixels``
    """
    source, target = placements(frames, (pixels.shape[2], pixels.shape[3]), crop)
    if pixels.device.type != "cpu":
        return warp_at_once(pixels, source, target, crop)
    image, squares = pixels[0].permute(1, 2, 0).numpy(), np.empty((len(frames), crop, crop, 3), np.float32)
    # OpenCV's resize is five times as fast here as torch's.
    for square, (left, top, right, bottom), (x0, y0, x1, y1) in zip(squares, source, target, strict=True):
        width, height = int(x1 - x0), int(y1 - y0)
        if width == crop and height == crop:
            cv2.resize(image[top:bottom, left:right], (crop, crop), dst=square)
            continue
        square[:] = 0
        if width:
            square[y0:y1, x0:x1] = cv2.resize(image[top:bottom, left:right], (width, height))
    return torch.from_numpy(squares).permute(0, 3, 1, 2)


def warp_at_once(pixels: Tensor, source: Array, target: Array, crop: int) -> Tensor:
    """:func:`warp` of all frames in one call, for a GPU.

    Coordinates have single precision: on noise of 1200 x 800 pixels values, normalised, differ from OpenCV's by 5e-4 at
    most, and in proportion to the image's sides on others.

    Parameters
    ----------
    pixels, crop
        As in :func:`warp`.
    source, target : int arrays (N, 4)
        See :func:`placements`.
    """
    height, width = pixels.shape[2:]
    ends = torch.from_numpy(np.stack([source, target]).astype(np.float32)).to(pixels.device, non_blocking=True)
    (left, top, right, bottom), (x0, y0, x1, y1) = (part.T[:, :, None] for part in ends)
    x, y = _places(left, right, x0, x1, width, crop), _places(top, bottom, y0, y1, height, crop)
    size = (len(source), crop, crop)
    grid = torch.stack([x[:, None, :].expand(size), y[:, :, None].expand(size)], dim=3)
    squares = functional.grid_sample(pixels.expand(len(source), -1, -1, -1), grid, align_corners=False)
    return squares.contiguous(memory_format=torch.channels_last)


def _places(start: Tensor, end: Tensor, low: Tensor, high: Tensor, extent: int, crop: int) -> Tensor:
    """Where each of ``crop`` pixels of squares lies along an axis of the image, (N, crop): its ends are -1 and 1.

    A strip of the image from ``start`` to ``end`` (N, 1) fills the pixels from ``low`` to ``high``; others lie far
    outside of the image, where samples are zero.
    """
    pixel = torch.arange(crop, dtype=torch.float32, device=start.device)
    place = (pixel - low + 0.5) * ((end - start) / (high - low).clamp(min=1)) - 0.5
    # Beyond its ends a strip repeats its own last pixel, not the image's next one.
    place = place.clamp(min=0).minimum(end - start - 1) + start
    return (2 * place + 1) / extent - 1 + 4 * ((pixel < low) | (pixel >= high))


@dataclass(frozen=True, eq=False)
class WarpedWindows:
    """An image and the rows of windows that were already computed.

    Attributes
    ----------
    image_size : (height, width) of the image, pixels.
    pixels : tensor (1, 3, H, W) or None
        The normalised image; None if no other windows will be requested.
    rows : dict from frame (x0, y0, x1, y1) to tensor (pooled_width,)
    device, dtype : of the returned rows
    """

    image_size: tuple[int, int]
    pixels: Tensor | None
    device: torch.device
    dtype: torch.dtype = torch.float32
    rows: dict[tuple[int, ...], Tensor] = field(default_factory=dict)

    def to(self, dtype: torch.dtype) -> WarpedWindows:
        """Convert rows to another precision."""
        return replace(self, dtype=dtype)


class WarpFeatures(Features[WarpedWindows]):
    """Computes features of windows that are cropped, warped and passed through the network one by one.

    Parameters
    ----------
    backbone, options, head
        As in :class:`.features.Features`.
    batch : int, optional
        Number of windows in a batch; by default :data:`BATCH`.
    """

    def __init__(self, backbone: Backbone, options: FeatureOptions, head: Head | None = None, batch: int | None = None):
        super().__init__(backbone, options, head)
        self.crop = options.crop or backbone.input_size
        self.batch = batch or BATCH["cpu" if self.device.type == "cpu" else "cuda"]

    def smaller_chunks(self) -> bool:
        """Halve the batches, or else the chunks (see :meth:`.features.Features.smaller_chunks`)."""
        if self.batch <= BATCH["cpu"]:
            return super().smaller_chunks()
        self.batch //= 2
        return True

    def maps(self, image: Array) -> WarpedWindows:
        """Prepare an RGB uint8 image (H, W, 3); no window is computed yet."""
        after_image()
        height, width = image.shape[:2]
        return WarpedWindows((height, width), self.backbone.preprocess(image), self.device)

    def complete(self, maps: WarpedWindows, sample: Sample) -> WarpedWindows:
        """The same rows, and the pixels (see :meth:`.features.Features.complete`)."""
        return replace(maps, pixels=self.maps(sample.image).pixels)

    def locate(self, maps: WarpedWindows, windows: Array, chosen: Array | None = None) -> Cells:
        """The pixels of each window (see :meth:`.features.Features.locate`); there is only one scale."""
        wanted, inverse = np.unique(frames(windows, self.crop, self.options.context), axis=0, return_inverse=True)
        return Cells(np.zeros(len(wanted), np.int64), wanted, inverse.reshape(-1))

    def pooled_crops(self, pixels: Tensor, wanted: Array) -> Iterator[tuple[slice, Tensor]]:
        """Yield pooled rows (n, pooled_width) of warped frames (N, 4) of an image (1, 3, H, W), in batches."""
        for start in range(0, len(wanted), self.batch):
            part = slice(start, min(start + self.batch, len(wanted)))
            with torch.inference_mode():
                yield part, self.pool_maps(self.backbone.maps(warp(pixels, wanted[part], self.crop)))

    def pool_maps(self, maps: tuple[Tensor, ...]) -> Tensor:
        """Pool the maps (n, C, h, w) of warped frames to rows (n, pooled_width)."""
        return torch.cat([pool_whole_maps(found, self.options.levels) for found in maps], dim=1)

    def _pool_into(self, rows: Tensor, maps: WarpedWindows, cells: Cells) -> Tensor:
        """Fill ``rows`` from the known rows; first compute those of the other windows."""
        wanted = [tuple(frame) for frame in cells.cells.tolist()]
        unknown = [number for number, frame in enumerate(wanted) if frame not in maps.rows]
        if unknown:
            if maps.pixels is None:
                raise ValueError(f"{len(unknown)} windows were not among those whose features are kept")
            for part, pooled in self.pooled_crops(maps.pixels, cells.cells[unknown]):
                for number, row in zip(unknown[part], pooled, strict=True):
                    maps.rows[wanted[number]] = row
        if wanted:
            # Kept rows have half precision, new ones have not.
            rows.copy_(torch.stack([maps.rows[frame].to(rows.dtype) for frame in wanted]))
        return rows

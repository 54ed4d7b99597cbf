"""Open image files: how large they may be, and decoders that keep quiet.

A header of a few bytes can claim any size. An image is refused before it is decoded if it

- has more pixels than :func:`pixel_limit` allows, which keeps an image below about 2 GB of memory, or
- claims more pixels than its file could hold. What a byte holds at most follows from the format. There is no such
  bound for WebP and some compressions of TIFF, where an image of one colour takes a few bytes.
"""

from __future__ import annotations

import ctypes
import logging
import os
import stat
import struct
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from io import BytesIO
from math import ceil
from typing import IO, Any, NamedTuple

from PIL import Image, UnidentifiedImageError

from .addresses import Address
from .errors import ImageError

Source = str | os.PathLike[str] | Address | IO[bytes]

#: Most pixels of an image. Telephones take photographs of 200 megapixels.
MAX_PIXELS = 250_000_000

#: Most pixels of a side: Pillow keeps an address for each row.
LONGEST_SIDE = 1_000_000

# TIFF tags.
_BITS_PER_SAMPLE = 258
_TILE_WIDTH = 322
_TILE_HEIGHT = 323

# Samples that a byte of the file holds at most.
_DEFLATE = 1032  # 258 bytes in two codes of a bit
_LZW = 4096 / 1.5  # a string as long as the table in a code of 12 bits
_PACKBITS = 64  # 128 bytes in two
_HUFFMAN_JPEG = 1024  # a bit for a block of 64, with chroma that is sampled as sparsely as JPEG allows

_IN_TIFF = {
    "raw": 1, "packbits": _PACKBITS, "tiff_lzw": _LZW, "tiff_deflate": _DEFLATE, "tiff_adobe_deflate": _DEFLATE,
    "jpeg": _HUFFMAN_JPEG,
}  # fmt: skip

#: Samples of a pixel, by the colour type of a PNG.
_PNG_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}

#: Markers of the JPEGs with arithmetic coding, in which a block may take far less than a bit.
_ARITHMETIC_JPEG = (b"\xff\xc9", b"\xff\xca")

#: The limits in force, the innermost last; for all threads, since images are decoded in threads.
_LIMITS = [MAX_PIXELS]

# Pillow warns of metadata that it cannot read, and of palettes with transparency, but never says of which file. What
# matters for the pixels is an error.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
logging.getLogger("PIL").addHandler(logging.NullHandler())
# Pillow's libtiff prints its errors. It is a library of its own, except on Windows.
with suppress(AttributeError, OSError, TypeError):
    ctypes.CDLL(Image.core.__file__).TIFFSetErrorHandler(None)  # type: ignore[attr-defined]


@contextmanager
def pixel_limit(most: int) -> Iterator[None]:
    """In this block images of up to ``most`` pixels are read, in all threads.

    Raises
    ------
    ValueError
        When ``most`` is less than 1.
    """
    if most < 1:
        raise ValueError(f"the limit on pixels must be at least 1, not {most}")
    _LIMITS.append(most)
    try:
        yield
    finally:
        _LIMITS.pop()


def current_limit() -> int:
    """The most pixels of an image that is read now."""
    return _LIMITS[-1]


@contextmanager
def opened(source: Source, name: str) -> Iterator[IO[bytes]]:
    """The file at its start; a path is opened for the block.

    Raises
    ------
    ImageError
        When the file is missing, empty, not a regular file, or cannot be read.
    """
    try:
        if isinstance(source, str | os.PathLike):
            _must_be_regular(os.stat(source).st_mode, name)  # before it is opened: opening a pipe would wait
            file: IO[bytes] = open(source, "rb")  # noqa: SIM115
        elif isinstance(source, Address):
            file = BytesIO(source.fetched().content or b"")
        else:
            file = source
        file.seek(0)
        empty = not file.read(1)
        file.seek(0)
    except FileNotFoundError:
        raise ImageError(f"{name}: no such file") from None
    except OSError as error:
        raise ImageError(f"{name}: cannot be read ({error.strerror or error})") from error
    try:
        if empty:
            raise ImageError(f"{name}: empty file, expected an image")
        yield file
    finally:
        if file is not source:
            file.close()


def _must_be_regular(mode: int, name: str) -> None:
    if stat.S_ISDIR(mode):
        raise ImageError(f"{name}: is a folder, expected an image file")
    if not stat.S_ISREG(mode):
        raise ImageError(f"{name}: is a pipe, socket or device, expected an image file")


def open_image(file: IO[bytes], name: str, max_pixels: int | None = None) -> Image.Image:
    """Open an image with Pillow, without reading its pixels.

    Raises
    ------
    ImageError
        When it has more pixels than ``max_pixels`` (by default those of :func:`pixel_limit`), or than fit into its
        file.
    UnidentifiedImageError
        When it is none that Pillow knows; the message, if any, says what is wrong in its header.
    Exception
        Whatever Pillow's plugins raise for damaged files.
    """
    image = _identified(file)
    width, height = image.size
    check_size(width, height, name, max_pixels, image.format or "", _weight(image))
    if image.format == "TIFF":
        tags = tags_of(image)
        check_size(tags.get(_TILE_WIDTH, 1), tags.get(_TILE_HEIGHT, 1), name, max_pixels, "a TIFF's tile")
    at = file.tell()
    size = file.seek(0, os.SEEK_END)
    if size < _least_bytes(image, file):
        raise ImageError(f"{name}: cut short or damaged: {size} bytes cannot hold {width} x {height} pixels")
    file.seek(at)
    if image.format == "TIFF" and Image.MAX_IMAGE_PIXELS and width * height > Image.MAX_IMAGE_PIXELS:
        # Pillow applies its own limit where it makes the memory for a TIFF, unless it is there.
        stored = getattr(image, "_tile_size", image.size)
        image.im = Image.core.new(image.mode, stored)  # type: ignore[attr-defined]
    return image


def check_size(
    width: int, height: int, name: str, max_pixels: int | None = None, format: str = "", weight: float = 1
) -> None:
    """Refuse an image of too many pixels, each of which counts ``weight`` times.

    Raises
    ------
    ImageError
        The message says how to raise the limit.
    """
    if min(width, height) < 1 or max(width, height) > LONGEST_SIDE:
        raise ImageError(f"{name}: {width} x {height} pixels; expected 1 to {LONGEST_SIDE} a side")
    most = _LIMITS[-1] if max_pixels is None else max_pixels
    wanted = ceil(width * height * weight)
    if wanted > most:
        raise ImageError(
            f"{name}: {width} x {height} pixels; at most {int(most / weight)} are read{format and f' of {format}'}, "
            f"unless --max-pixels (in Python: max_pixels) is {wanted} or more"
        )


class Tile(NamedTuple):
    """What Pillow decodes of a file, and how."""

    decoder: str
    box: tuple[int, int, int, int]
    offset: int
    options: Any


def first_tile(image: Image.Image) -> Tile | None:
    """The first tile of an image whose pixels are not read; some formats have none."""
    tiles: Any = getattr(image, "tile", None)
    return Tile(*tiles[0]) if tiles else None


def tags_of(image: Image.Image) -> Mapping[int, Any]:
    """The tags of a TIFF."""
    return image.tag_v2  # type: ignore[attr-defined]


def bits_of(tags: Mapping[int, Any]) -> int:
    """Bits of a sample of a TIFF; the most, if they differ."""
    return max(tags.get(_BITS_PER_SAMPLE, (1,)))


def _weight(image: Image.Image) -> float:
    """How many times a pixel counts: more than once if decoding takes more memory than the 7 bytes of the result."""
    if image.format in ("JPEG", "MPO"):
        return 1.25 if "progressive" in image.info else 1  # all coefficients at once
    if image.format == "TIFF":
        return 1.5 if bits_of(tags_of(image)) > 8 else 1  # may be decoded in one piece
    return 1 if image.format in ("PNG", "BMP", "GIF") else 2.5  # up to four copies of the image


def _identified(file: IO[bytes]) -> Image.Image:
    """``Image.open`` without its limit on pixels, which has its own words and knows no file's name."""
    prefix = file.read(16)
    problem = ""
    tried: set[str] = set()
    for register in (Image.preinit, Image.init):
        register()
        for format in Image.ID:
            factory, accept = Image.OPEN[format]
            # EPS is a program, which another program would run.
            if format in tried or format == "EPS" or (accept and accept(prefix) is not True):
                continue
            tried.add(format)
            file.seek(0)
            try:
                return factory(file, "")
            except (SyntaxError, IndexError, TypeError, struct.error) as error:  # as in Pillow: not of this format
                problem = problem or (str(error) if accept else "")
    raise UnidentifiedImageError(problem)


def _least_bytes(image: Image.Image, file: IO[bytes]) -> float:
    """The least size of a file with as many pixels; 0 if not known."""
    width, height = image.size
    tile = first_tile(image)
    if image.format == "PNG":
        file.seek(24)
        depth, colour = file.read(2)
        return height * (1 + width * depth * _PNG_SAMPLES.get(colour, 1) // 8) / _DEFLATE
    if image.format in ("JPEG", "MPO"):
        least = width * height / _HUFFMAN_JPEG
        file.seek(0)
        start = file.read(ceil(least))
        return 0 if any(marker in start for marker in _ARITHMETIC_JPEG) else least
    if image.format == "GIF" and tile:
        left, top, right, bottom = tile.box  # of the frame, which may be smaller than the image
        return (right - left) * (bottom - top) / _LZW
    if image.format == "BMP" and tile and tile.decoder == "raw":
        return tile.offset + tile.options[1] * (height - 1)  # bytes of a row; the last may lack its padding
    if image.format == "TIFF":
        held = _IN_TIFF.get(image.info["compression"])
        return width * height * min(tags_of(image).get(_BITS_PER_SAMPLE, (1,))) / 8 / held if held else 0
    return 0

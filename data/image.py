"""Read and write images: every file becomes RGB uint8 (H, W, 3), as a viewer shows it.

Rules for the kinds of files:

- EXIF (and TIFF) orientation is applied, so boxes are those of the displayed image.
- Grey becomes three equal channels, a palette its colours, CMYK is converted.
- Transparent pixels are blended with white, as on most pages.
  An alpha channel of a BMP that is zero everywhere is none: programs leave it empty.
- 16 bit becomes 8 bit by keeping the high byte, which inverts both usual conversions to 16 bit (x 256 and x 257).
  If a file of 16 bits holds values of 10, 12 or 14, the image is nearly black, and a warning is given.
- An animation is reduced to its first frame.
- Damage outside the pixels (text, colour profile, EXIF numbers) does no harm. Damaged pixels are an error.
- Images of more pixels than the limit are refused (:mod:`.decoding`).
"""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from .addresses import Address
from .decoding import Source, bits_of, check_size, first_tile, open_image, opened, tags_of
from .errors import ImageError, InputError, MisuseWarning
from .repair import pixels_only
from .store import atomic_path

JPEG_SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif")

#: Suffixes of images that can be written, and of those that are read.
WRITTEN_SUFFIXES = (*JPEG_SUFFIXES, ".png", ".webp", ".bmp", ".tif", ".tiff")
IMAGE_SUFFIXES = (*WRITTEN_SUFFIXES, ".gif")

#: Suffixes of pictures that are not read: those of telephones, cameras and painting programs.
UNREAD_SUFFIXES = frozenset(
    [".heic", ".heif", ".avif", ".jxl", ".jp2", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".raw", ".psd", ".xcf", ".svg"]
)

# EXIF and TIFF tags.
_WIDTH = 256
_HEIGHT = 257
_PHOTOMETRIC = 262
_ORIENTATION = 274
_PLANAR_CONFIGURATION = 284

#: EXIF orientations that swap width and height.
TRANSPOSING = (5, 6, 7, 8)

#: JPEG comment of the files in which we have drawn detections.
DRAWING = b"Detections drawn by sppnet"

#: The longest side of a JPEG file: libjpeg's limit.
_LONGEST_JPEG = 65500

_TIFF_SIGNATURES = (b"II*\0", b"MM\0*")

#: Pixels that are converted at a time: what makes large photographs cost little more than their result.
_AT_ONCE = 1 << 24

#: How Pillow turns the stored image into the displayed one, by EXIF orientation.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

#: Held while OpenCV decodes: what it prints is switched off for the whole process.
_OPENCV = threading.Lock()


def read_image(source: Source, least: int | None = None, max_pixels: int | None = None) -> NDArray[np.uint8]:
    """Read an image file (JPEG, PNG, WebP, BMP, TIFF, GIF) as RGB uint8 (H, W, 3).

    Parameters
    ----------
    source : str, Path or binary file
        The file; prefer a path, since errors name it.
    least : int, optional
        If the image may be smaller: the least length in pixels of its sides. A JPEG is then decoded at a fraction of
        its size, in a millisecond; other files are not smaller.
    max_pixels : int, optional
        Images of more pixels are refused; by default 250 million, or what the command was told. A pixel of a
        progressive JPEG counts 1.25 times, one of a WebP 2.5 times: decoding them takes more memory.

    Raises
    ------
    ImageError
        When the file is missing, empty, not a regular file, truncated, not an image or too large; the message names it.

    Warns
    -----
    MisuseWarning
        When an image of 16 bits uses only the lower ones, and is nearly black in 8 bits.

    Notes
    -----
    The module docstring describes orientation, alpha, grey, CMYK and 16 bit.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Image.new("L", (40, 30)).save(f"{folder}/grey.png")
    ...     read_image(f"{folder}/grey.png").shape
    (30, 40, 3)
    """
    name = _name(source)
    with opened(source, name) as file:
        try:
            return _decoded(file, name, least, max_pixels)
        except ImageError:
            raise
        except Exception as error:  # Pillow's plugins raise anything on damaged files: SyntaxError, struct.error
            problem = error
        file.seek(0)
        whole = pixels_only(file.read())
    try:
        if whole is not None:
            return _decoded(BytesIO(whole), name, least, max_pixels)
    except ImageError:
        raise
    except Exception as error:
        problem = error
    if isinstance(problem, Image.DecompressionBombError):  # of some WebPs and GIFs, before their size is known here
        raise ImageError(f"{name}: more pixels than Pillow reads of such a file ({Image.MAX_IMAGE_PIXELS} x 2)")
    if isinstance(problem, UnidentifiedImageError) and not str(problem):
        raise ImageError(f"{name}: not an image; expected JPEG, PNG, WebP, BMP, TIFF or GIF") from None
    raise ImageError(f"{name}: cannot be decoded, perhaps damaged or cut short ({problem})") from problem


def image_size(source: Source) -> tuple[int, int]:
    """Height and width of the displayed image; reads only the file's header.

    Raises
    ------
    ImageError
        When the file is missing, not a regular file, not an image or too large.
    """
    name = _name(source)
    try:
        with opened(source, name) as file, open_image(file, name) as image:
            width, height = image.size
            if image.format == "TIFF":  # of which later Pillows turn the size
                width, height = tags_of(image)[_WIDTH], tags_of(image)[_HEIGHT]
            if _orientation(image) in TRANSPOSING:
                width, height = height, width
            return height, width
    except ImageError:
        raise
    except Exception:
        # Without a readable header the file is read as a whole, which raises the right error.
        height, width, _ = read_image(source).shape
        return height, width


def orientation_of(path: str | Path) -> int:
    """EXIF orientation of an image file, 1 to 8; 1 if it is not turned, declares none, or cannot be read."""
    try:
        with opened(path, str(path)) as file, open_image(file, str(path)) as image:
            # Pillow's TIFF reader has already turned the image.
            return 1 if image.format == "TIFF" else _orientation(image)
    except Exception:  # reading the image will report the error
        return 1


def displayed_boxes(boxes: NDArray[Any], orientation: int, size: tuple[int, int]) -> NDArray[Any]:
    """Boxes of the stored image on the displayed one.

    Parameters
    ----------
    boxes : (N, 4) array
        x1, y1, x2, y2 in pixels of the stored image, half-open.
    orientation : int
        As EXIF has it, 1 to 8: which sides of the displayed image the first row and column of the stored one are.
    size : (height, width)
        Of the displayed image.
    """
    x1, y1, x2, y2 = boxes.T
    if orientation in TRANSPOSING:
        x1, y1, x2, y2 = y1, x1, y2, x2
    height, width = size
    if orientation in (2, 3, 6, 7):
        x1, x2 = width - x2, width - x1
    if orientation in (3, 4, 7, 8):
        y1, y2 = height - y2, height - y1
    return np.stack([x1, y1, x2, y2], axis=1)


def as_image(image: Any) -> NDArray[np.uint8]:
    """Convert a path, PIL image or array to RGB uint8 (H, W, 3).

    Parameters
    ----------
    image : str, Path, Address, PIL image or uint8 array
        A file, an opened image, RGB of shape (H, W, 3) or grey of shape (H, W).
        A contiguous colour array is returned without a copy.

    Raises
    ------
    ImageError
        When a file cannot be read.
    ValueError
        When an array has another shape or dtype, or no pixels.
    """
    if isinstance(image, str | os.PathLike | Address):
        return read_image(image)
    if isinstance(image, Image.Image):
        return _rgb(image)
    if not isinstance(image, np.ndarray):
        raise ValueError(f"image must be a path, a PIL image or a uint8 array, not {type(image).__name__}")
    if image.dtype != np.uint8:
        raise ValueError(f"image must be uint8 (0 to 255), not {image.dtype}")
    if not (image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 3)):
        raise ValueError(f"image must have shape (H, W, 3), RGB, or (H, W), grey, not {image.shape}")
    if image.size == 0:
        raise ValueError(f"image must have at least one pixel, not shape {image.shape}")
    if image.ndim == 2:
        return np.repeat(image[:, :, None], 3, axis=2)
    return np.ascontiguousarray(image)


def write_image(path: str | Path, image: NDArray[np.uint8], quality: int = 92, comment: bytes = b"") -> None:
    """Write RGB uint8 (H, W, 3) in the format of the suffix, atomically.

    Parameters
    ----------
    path : str or Path
    image : uint8 array (H, W, 3)
    quality : int
        Quality of JPEG and WebP, 1 to 100.
    comment : bytes
        Comment of a JPEG file.

    Raises
    ------
    InputError
        When the suffix is not in ``WRITTEN_SUFFIXES``, or the image is too large for JPEG.
    ValueError
        When ``image`` is not an RGB uint8 array.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in WRITTEN_SUFFIXES:
        raise InputError(f"{path}: no image suffix; expected one of {', '.join(WRITTEN_SUFFIXES)}")
    if suffix in JPEG_SUFFIXES and max(image.shape[:2]) > _LONGEST_JPEG:
        height, width = image.shape[:2]
        raise InputError(f"{path}: {width} x {height} pixels; a JPEG file has at most {_LONGEST_JPEG} a side")
    options: dict[str, Any] = {"quality": quality} if suffix in (*JPEG_SUFFIXES, ".webp") else {}
    if comment:
        options["comment"] = comment
    with atomic_path(path, durable=False) as temporary:
        Image.fromarray(as_image(image)).save(temporary, **options)


def is_drawing(path: str | Path) -> bool:
    """Whether a file is a JPEG in which we have drawn detections; read from its first bytes."""
    if os.path.splitext(path)[1].lower() not in (".jpg", ".jpeg") or not os.path.isfile(path):
        return False
    try:
        with open(path, "rb") as file:
            return DRAWING in file.read(256)
    except OSError:  # reading the image will report the error
        return False


def _name(source: Source) -> str:
    return str(source) if isinstance(source, str | os.PathLike | Address) else str(getattr(source, "name", "image"))


def _decoded(file: IO[bytes], name: str, least: int | None, max_pixels: int | None) -> NDArray[np.uint8]:
    try:
        with open_image(file, name, max_pixels) as image:
            if _is_misread(image):
                return _read_with_opencv(file, name, max_pixels)
            if least is not None:
                image.draft(None, (least, least))
            deep = _has_sixteen_bits(image)
            pixels = _rgb(image)
    except UnidentifiedImageError:
        file.seek(0)
        if file.read(4) in _TIFF_SIGNATURES:
            return _read_with_opencv(file, name, max_pixels)
        raise
    if deep:
        _warn_if_dark(pixels, name)
    return pixels


def _rgb(image: Image.Image) -> NDArray[np.uint8]:
    """Convert a Pillow image of any mode to RGB uint8 (H, W, 3), turned by its EXIF orientation."""
    image.load()
    if image.format == "BMP" and image.mode == "RGBA" and image.getchannel("A").getextrema() == (0, 0):
        image = image.convert("RGB")
    orientation = _orientation(image)
    width, height = image.size
    # Of TIFFs with 12 bits Pillow makes 16 bits, of which the highest four are empty.
    bits = 12 if image.format == "TIFF" and bits_of(tags_of(image)) == 12 else 16
    sides = (width, height) if orientation in TRANSPOSING else (height, width)
    pixels = np.empty((*sides, 3), np.uint8)
    rows = max(1, _AT_ONCE // max(1, width))
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        part = image if bottom - top == height else image.crop((0, top, width, bottom))
        if orientation != 1:
            part = part.transpose(_TURNS[orientation])
        start, stop = (height - bottom, height - top) if orientation in (3, 4, 6, 7) else (top, bottom)
        place = np.s_[:, start:stop] if orientation in TRANSPOSING else np.s_[start:stop]
        pixels[place] = np.asarray(_plain(part, bits))
    return pixels


def _plain(image: Image.Image, bits: int) -> Image.Image:
    """Convert an image of any mode to mode RGB; in modes I, values have so many bits."""
    if image.mode.startswith("I"):
        image = _narrow(image, bits)
    if image.mode == "F":
        raise ValueError("floating-point pixels; expected 8 or 16 bit")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        image = Image.new("RGBA", rgba.size, "white")
        image.alpha_composite(rgba)
    return image if image.mode == "RGB" else image.convert("RGB")


def _narrow(image: Image.Image, bits: int) -> Image.Image:
    """Convert a 16-bit grey image (modes I;16, I;16B and, in older Pillows, I) to 8 bit."""
    values = np.asarray(image)
    if values.min() < 0 or values.max() > 0xFFFF:
        raise ValueError(f"pixels from {values.min()} to {values.max()}; expected 8 or 16 bit")
    return Image.fromarray((values >> bits - 8).astype(np.uint8))


def _orientation(image: Image.Image) -> int:
    """EXIF orientation, 1 to 8; 1 if there is none or it cannot be read."""
    try:
        found = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # Pillow raises anything on damaged EXIF data
        return 1
    return int(found) if found in range(1, 9) else 1


def _has_sixteen_bits(image: Image.Image) -> bool:
    """Whether a sample of the file has more than 8 bits; to be asked before the pixels are read."""
    if image.format == "TIFF":
        return bits_of(tags_of(image)) > 8
    tile = first_tile(image) if image.format == "PNG" else None
    return image.mode.startswith("I") or (tile is not None and "16" in str(tile.options))


def _warn_if_dark(pixels: NDArray[np.uint8], name: str) -> None:
    """Warn, once for a file, if the two highest of 16 bits are empty."""
    if pixels.max(initial=0) < 64:
        _warn_of_empty_bits(name)


@cache
def _warn_of_empty_bits(name: str) -> None:
    message = f"{name}: nearly black, since only the lower of its 16 bits are used; multiply pixels of 12 bits by 16"
    warnings.warn(message, MisuseWarning, stacklevel=2)


def _is_misread(image: Image.Image) -> bool:
    """Whether this is a TIFF of 16 bits that Pillow misreads.

    It reads colours in separate planes as 8-bit pixels, and grey as its negative where 0 is white.
    """
    if image.format != "TIFF" or bits_of(tags_of(image)) <= 8:
        return False
    negative = tags_of(image).get(_PHOTOMETRIC) == 0 and image.mode.startswith("I;16")
    return negative or tags_of(image).get(_PLANAR_CONFIGURATION) == 2


@contextmanager
def _quiet_opencv() -> Iterator[None]:
    import cv2

    messages = getattr(cv2.utils, "logging", None)
    if messages is None:  # builds before 4.9 have no switch
        yield
        return
    level = messages.getLogLevel()
    messages.setLogLevel(messages.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        messages.setLogLevel(level)


def _read_with_opencv(file: IO[bytes], name: str, max_pixels: int | None) -> NDArray[np.uint8]:
    """Read TIFFs that Pillow cannot read, or reads wrongly."""
    import cv2

    file.seek(0)
    data = file.read()
    tags: Any = ImageFileDirectory_v2(data[:8])
    start = BytesIO(data)
    start.seek(tags.next)
    tags.load(start)
    check_size(tags[_WIDTH], tags[_HEIGHT], name, max_pixels, "TIFF")
    with _OPENCV, _quiet_opencv():
        # Without IMREAD_ANYDEPTH: OpenCV also mixes up 16-bit planes, but libtiff itself converts them to 8 bit.
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if pixels is None:
        raise ImageError(f"{name}: a TIFF that cannot be decoded; expected 8 or 16 bit")
    image: NDArray[np.uint8] = np.ascontiguousarray(pixels[:, :, ::-1])
    if bits_of(tags) > 8:
        _warn_if_dark(image, name)
    return image

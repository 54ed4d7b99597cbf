"""Read and write images: every file becomes RGB uint8 (H, W, 3), as a viewer shows it.

Rules for the kinds of files:

- EXIF (and TIFF) orientation is applied, so boxes are those of the displayed image.
- Grey becomes three equal channels, a palette its colours, CMYK is converted.
- Transparent pixels are blended with white, as on most pages.
- 16 bit becomes 8 bit by keeping the high byte, which inverts both usual conversions to 16 bit (x 256 and x 257).
- An animation is reduced to its first frame.
"""

from __future__ import annotations

import os
from io import BytesIO
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from .errors import ImageError, InputError
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
_BITS_PER_SAMPLE = 258
_ORIENTATION = 274
_PLANAR_CONFIGURATION = 284

#: EXIF orientations that swap width and height.
TRANSPOSING = (5, 6, 7, 8)

#: JPEG comment of the files in which we have drawn detections.
DRAWING = b"Detections drawn by sppnet"

#: The longest side of a JPEG file: libjpeg's limit.
_LONGEST_JPEG = 65500

_TIFF_SIGNATURES = (b"II*\0", b"MM\0*")

Source = str | os.PathLike[str] | IO[bytes]


def read_image(source: Source, least: int | None = None) -> NDArray[np.uint8]:
    """Read an image file (JPEG, PNG, WebP, BMP, TIFF, GIF) as RGB uint8 (H, W, 3).

    Parameters
    ----------
    source : str, Path or binary file
        The file; prefer a path, since errors name it.
    least : int, optional
        If the image may be smaller: the least length in pixels of its sides. A JPEG is then decoded at a fraction of
        its size, in a millisecond; other files are not smaller.

    Raises
    ------
    ImageError
        When the file is missing, empty, truncated or not an image; the message names it.

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
    data = _bytes(source, name)
    try:
        with Image.open(BytesIO(data)) as image:
            if _is_misread(image):
                return _read_with_opencv(data, name)
            if least is not None:
                image.draft(None, (least, least))
            image.load()
            return _rgb(image)
    except UnidentifiedImageError:
        if data[:4] in _TIFF_SIGNATURES:
            return _read_with_opencv(data, name)
        raise ImageError(f"{name}: not an image; expected JPEG, PNG, WebP, BMP, TIFF or GIF") from None
    except Exception as error:  # Pillow's plugins raise anything on damaged files: OSError, SyntaxError, struct.error
        raise ImageError(f"{name}: cannot be decoded, perhaps damaged or cut short ({error})") from error


def image_size(source: Source) -> tuple[int, int]:
    """Height and width of the displayed image; reads only the file's header.

    Raises
    ------
    ImageError
        When the file is missing or not an image.
    """
    try:
        with Image.open(_seekable(source)) as image:
            width, height = image.size
            # Pillow's TIFF reader has already rotated the size.
            if image.format != "TIFF" and image.getexif().get(_ORIENTATION, 1) in TRANSPOSING:
                width, height = height, width
            return height, width
    except Exception:
        # Without a readable header the file is read as a whole, which raises the right error.
        height, width, _ = read_image(source).shape
        return height, width


def orientation_of(path: str | Path) -> int:
    """EXIF orientation of an image file, 1 to 8; 1 if it is not turned, declares none, or cannot be read."""
    try:
        with Image.open(path) as image:
            # Pillow's TIFF reader has already rotated the image.
            found = 1 if image.format == "TIFF" else image.getexif().get(_ORIENTATION, 1)
            return found if found in range(1, 9) else 1
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
    image : str, Path, PIL image or uint8 array
        A file, an opened image, RGB of shape (H, W, 3) or grey of shape (H, W).
        A contiguous colour array is returned without a copy.

    Raises
    ------
    ImageError
        When a file cannot be read.
    ValueError
        When an array has another shape or dtype, or no pixels.
    """
    if isinstance(image, str | os.PathLike):
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
    with atomic_path(path) as temporary:
        Image.fromarray(as_image(image)).save(temporary, **options)


def is_drawing(path: str | Path) -> bool:
    """Whether a file is a JPEG in which we have drawn detections; read from its first bytes."""
    if os.path.splitext(path)[1].lower() not in (".jpg", ".jpeg"):
        return False
    try:
        with open(path, "rb") as file:
            return DRAWING in file.read(256)
    except OSError:  # reading the image will report the error
        return False


def _name(source: Source) -> str:
    return str(source) if isinstance(source, str | os.PathLike) else str(getattr(source, "name", "image"))


def _seekable(source: Source) -> Source:
    """The source itself; a file object is rewound to its start."""
    if not isinstance(source, str | os.PathLike):
        source.seek(0)
    return source


def _bytes(source: Source, name: str) -> bytes:
    try:
        if isinstance(source, str | os.PathLike):
            data = Path(source).read_bytes()
        else:
            source.seek(0)
            data = source.read()
    except FileNotFoundError:
        raise ImageError(f"{name}: no such file") from None
    except IsADirectoryError:
        raise ImageError(f"{name}: is a folder, expected an image file") from None
    except OSError as error:
        raise ImageError(f"{name}: cannot be read ({error.strerror or error})") from error
    if not data:
        raise ImageError(f"{name}: empty file, expected an image")
    return data


def _rgb(image: Image.Image) -> NDArray[np.uint8]:
    """Convert a Pillow image of any mode to RGB uint8 (H, W, 3), rotated by its EXIF orientation."""
    if image.getexif().get(_ORIENTATION, 1) != 1:
        image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):
        image = _narrow(image)
    if image.mode == "F":
        raise ValueError("floating-point pixels; expected 8 or 16 bit")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        image = Image.new("RGBA", rgba.size, "white")
        image.alpha_composite(rgba)
    return np.array(image.convert("RGB"))


def _narrow(image: Image.Image) -> Image.Image:
    """Convert a 16-bit grey image (modes I;16, I;16B and, in older Pillows, I) to 8 bit."""
    values = np.asarray(image)
    if values.min() < 0 or values.max() > 0xFFFF:
        raise ValueError(f"pixels from {values.min()} to {values.max()}; expected 8 or 16 bit")
    return Image.fromarray((values >> 8).astype(np.uint8))


def _is_misread(image: Image.Image) -> bool:
    """Whether this is a TIFF of 16-bit colour in separate planes, which Pillow reads as 8-bit pixels."""
    if image.format != "TIFF":
        return False
    tags: Any = image.tag_v2  # type: ignore[attr-defined]
    return bool(tags.get(_PLANAR_CONFIGURATION) == 2 and max(tags.get(_BITS_PER_SAMPLE, (1,))) > 8)


def _read_with_opencv(data: bytes, name: str) -> NDArray[np.uint8]:
    """Read TIFFs that Pillow cannot read, or reads wrongly."""
    import cv2

    # Without IMREAD_ANYDEPTH: OpenCV also mixes up 16-bit planes, but libtiff itself converts them to 8 bit.
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if pixels is None:
        raise ImageError(f"{name}: a TIFF that cannot be decoded; expected 8 or 16 bit")
    return np.ascontiguousarray(pixels[:, :, ::-1])

"""Draw boxes on images."""

from __future__ import annotations

import colorsys
import unicodedata
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from .arrays import Array
from .image import as_image

# Each hue is this part of the colour circle after the last, so the first few colours differ clearly.
_GOLDEN = 0.618033988749895


def class_colour(label: int | np.integer[Any]) -> tuple[int, int, int]:
    """The RGB colour of a class: the same in every image, and distinct from those of the next classes."""
    label = int(label)
    hue = (0.02 + label * _GOLDEN) % 1.0
    # After one round of the circle the brightness changes as well.
    value = (1.0, 0.75, 0.9)[label // 12 % 3]
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.85, value)
    return round(255 * red), round(255 * green), round(255 * blue)


def draw_boxes(image: Any, boxes: Array, labels: Array, tags: Sequence[str]) -> NDArray[np.uint8]:
    """Draw boxes and their tags on a copy of the image.

    Parameters
    ----------
    image : path, PIL image or uint8 array
        As for :func:`sppnet.data.image.as_image`.
    boxes : float array (N, 4)
        x1, y1, x2, y2 in pixels of the displayed image, 0-based, half-open. The last is drawn on top.
    labels : int array (N,)
        The classes; they determine the colours.
    tags : sequence of N str

    Returns
    -------
    RGB uint8 array (H, W, 3)
        Line width and text scale with the image; tags stay inside it.
    """
    canvas = Image.fromarray(as_image(image))
    draw = ImageDraw.Draw(canvas)
    side = (canvas.width * canvas.height) ** 0.5
    line = max(2, round(side / 200))
    font = ImageFont.load_default(size=max(11, round(side / 36)))
    outlines = [_pixels(box, canvas.size) for box in boxes]
    for outline, label in zip(outlines, labels, strict=True):
        draw.rectangle(outline, outline=class_colour(label), width=line)
    # Draw tags after all boxes, so that no line crosses a word.
    for outline, label, tag in zip(outlines, labels, tags, strict=True):
        _draw_tag(draw, _plain(tag), outline, class_colour(label), font, canvas.size)
    return np.array(canvas)


def _pixels(box: NDArray[Any], size: tuple[int, int]) -> tuple[int, int, int, int]:
    """First and last column and row of a half-open box inside the image, as Pillow draws them."""
    width, height = size
    x1, y1 = np.clip(np.round(box[:2]), 0, (width - 1, height - 1))
    x2, y2 = np.clip(np.round(box[2:]) - 1, (x1, y1), (width - 1, height - 1))
    return int(x1), int(y1), int(x2), int(y2)


def _plain(text: str) -> str:
    """Reduce text to the letters of Pillow's font: drop accents; other scripts become question marks."""
    letters = unicodedata.normalize("NFKD", text)
    return (
        "".join(letter for letter in letters if not unicodedata.combining(letter)).encode("ascii", "replace").decode()
    )


def _draw_tag(
    draw: ImageDraw.ImageDraw,
    text: str,
    box: tuple[int, int, int, int],
    colour: tuple[int, int, int],
    font: Any,
    size: tuple[int, int],
) -> None:
    """Draw text on a filled strip: above the box if there is room, otherwise inside its top edge."""
    margin = max(2, round(font.size / 5))
    # The strip has the same height for "ace" and "High", so tags line up.
    ascent, descent = font.getmetrics()
    width, height = round(draw.textlength(text, font=font)) + 2 * margin, ascent + descent + margin
    x = max(0, min(box[0], size[0] - width))
    y = box[1] - height if box[1] >= height else box[1]
    y = max(0, min(y, size[1] - height))
    draw.rectangle((x, y, x + width - 1, y + height - 1), fill=colour)
    red, green, blue = colour
    ink = "black" if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else "white"
    draw.text((x + margin, y + margin // 2), text, fill=ink, font=font)

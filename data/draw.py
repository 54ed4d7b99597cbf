"""Draw boxes on images."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageColor, ImageDraw, ImageFont

from .arrays import Array
from .image import as_image

#: First column and row of a tag's strip, and those after its last: half-open.
Strip = tuple[int, int, int, int]

#: Colours of classes: those of Okabe and Ito, which colour-blind readers can tell apart, then those of Tol.
PALETTE = (
    *("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442", "#332288", "#88ccee", "#44aa99"),
    *("#117733", "#999933", "#ddcc77", "#cc6677", "#882255", "#aa4499", "#77aadd", "#ee8866", "#bbcc33", "#ffaabb"),
)


#: Colours of ranks, from the first to the last: those of matplotlib's viridis, light to dark.
RANKS = ("#fde725", "#5ec962", "#21918c", "#3b528b", "#440154")


def class_colour(label: int | np.integer[Any]) -> tuple[int, int, int]:
    """The RGB colour of a class: the same in every image, and distinct from those of the next classes."""
    rounds, place = divmod(int(label), len(PALETTE))
    # After one round the colours come again, darker.
    red, green, blue = (round(value * 0.75**rounds) for value in ImageColor.getrgb(PALETTE[place])[:3])
    return red, green, blue


def ink_on(colour: tuple[int, int, int]) -> str:
    """The colour of text on an RGB colour: black on light ones, otherwise white."""
    red, green, blue = colour
    return "black" if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else "white"


def draw_boxes(
    image: Any, boxes: Array, labels: Array, tags: Sequence[str], dashed: Array | None = None
) -> NDArray[np.uint8]:
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
        An empty one is left out.
    dashed : bool array (N,), optional
        Boxes whose lines are dashed; by default none.

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
    broken = np.zeros(len(outlines), bool) if dashed is None else dashed
    for outline, label, dashes in zip(outlines, labels, broken, strict=True):
        if dashes:
            _draw_dashed(draw, outline, class_colour(label), line)
        else:
            draw.rectangle(outline, outline=class_colour(label), width=line)
    texts = [_plain(tag) for tag in tags]
    strips: list[Strip] = []
    # The last one has the choice.
    for outline, text in zip(reversed(outlines), reversed(texts), strict=True):
        size = _strip_size(draw, text, font) if text else (0, 0)
        strips.append(_strip(size, outline, strips, canvas.size))
    # Draw tags after all boxes, so that no line crosses a word.
    for strip, label, text in zip(reversed(strips), labels, texts, strict=True):
        if text:
            _draw_tag(draw, text, strip, class_colour(label), font)
    return np.array(canvas)


def draw_ranked(image: Any, boxes: Array) -> NDArray[np.uint8]:
    """Draw boxes (N, 4) on a copy of the image: from yellow for the first, which is on top, to violet for the last."""
    canvas = Image.fromarray(as_image(image))
    draw = ImageDraw.Draw(canvas)
    line = max(1, round((canvas.width * canvas.height) ** 0.5 / 300))
    stops = np.array([ImageColor.getrgb(colour)[:3] for colour in RANKS])
    for rank in reversed(range(len(boxes))):
        place = rank / max(1, len(boxes) - 1) * (len(stops) - 1)
        colour = [round(float(np.interp(place, range(len(stops)), stops[:, channel]))) for channel in range(3)]
        draw.rectangle(_pixels(boxes[rank], canvas.size), outline=(colour[0], colour[1], colour[2]), width=line)
    return np.array(canvas)


def _draw_dashed(
    draw: ImageDraw.ImageDraw, outline: tuple[int, int, int, int], colour: tuple[int, int, int], line: int
) -> None:
    """Draw a rectangle whose sides are dashed, four line widths drawn and three not."""
    x1, y1, x2, y2 = outline
    for start in range(x1, x2 + 1, 7 * line):
        end = min(start + 4 * line - 1, x2)
        draw.rectangle((start, y1, end, min(y1 + line - 1, y2)), fill=colour)
        draw.rectangle((start, max(y2 - line + 1, y1), end, y2), fill=colour)
    for start in range(y1, y2 + 1, 7 * line):
        end = min(start + 4 * line - 1, y2)
        draw.rectangle((x1, start, min(x1 + line - 1, x2), end), fill=colour)
        draw.rectangle((max(x2 - line + 1, x1), start, x2, end), fill=colour)


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


def _margin(font: Any) -> int:
    """Space between a tag's text and the edge of its strip, pixels."""
    return max(2, round(font.size / 5))


def _strip_size(draw: ImageDraw.ImageDraw, text: str, font: Any) -> tuple[int, int]:
    """Width and height of the filled strip of a tag."""
    # The same height for "ace" and "High", so tags line up.
    ascent, descent = font.getmetrics()
    return round(draw.textlength(text, font=font)) + 2 * _margin(font), ascent + descent + _margin(font)


def _strip(
    strip: tuple[int, int], box: tuple[int, int, int, int], others: Sequence[Strip], size: tuple[int, int]
) -> Strip:
    """Place a strip (width, height) at its box and inside the image: where it covers least of the other strips.

    Above the box if possible, then below it, then inside; at its left side, then at its right.
    """
    width, height = strip
    x1, y1, x2, y2 = box
    best, least = (0, 0, width, height), float("inf")
    for y in (y1 - height, y2 + 1, y1, y2 + 1 - height):
        if not 0 <= y <= size[1] - height and y != y1:
            continue
        y = max(0, min(y, size[1] - height))
        for x in (x1, x2 + 1 - width):
            x = max(0, min(x, size[0] - width))
            place = (x, y, x + width, y + height)
            covered = sum(_overlap(place, other) for other in others)
            if covered < least:
                best, least = place, covered
    return best


def _overlap(one: Strip, other: Strip) -> int:
    """Pixels that two strips share."""
    across = min(one[2], other[2]) - max(one[0], other[0])
    down = min(one[3], other[3]) - max(one[1], other[1])
    return max(0, across) * max(0, down)


def _draw_tag(draw: ImageDraw.ImageDraw, text: str, strip: Strip, colour: tuple[int, int, int], font: Any) -> None:
    """Draw text on a filled strip."""
    x1, y1, x2, y2 = strip
    draw.rectangle((x1, y1, x2 - 1, y2 - 1), fill=colour)
    draw.text((x1 + _margin(font), y1 + _margin(font) // 2), text, fill=ink_on(colour), font=font)

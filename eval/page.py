"""Pages for a browser: one HTML file each, which loads nothing from the network and runs no script but ours."""

from __future__ import annotations

import hashlib
import json
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .. import __version__
from ..data.detections import Detections
from ..data.draw import class_colour, ink_on
from ..data.image import DRAWING, write_image
from ..data.store import write_text

if TYPE_CHECKING:
    from jinja2 import Environment

#: Longest side of the small copies of photographs on pages, pixels.
PREVIEW = 800


@dataclass(frozen=True)
class Picture:
    """A photograph on a page.

    Attributes
    ----------
    file : str
        What it is called.
    source : str
        Address of the picture, relative to the page.
    width, height : int
        Size of the photograph that boxes refer to, pixels.
    boxes : list of [class, level, x1, y1, x2, y2]
        What was found: index of the class, probability or score, box.
    truth : list of [class, x1, y1, x2, y2]
        What was labelled.
    group : int
        Index of its kind among those of the page.
    note : str
        What is to be said of it.
    """

    file: str
    source: str
    width: int
    height: int
    boxes: list[list[float]] = field(default_factory=list)
    truth: list[list[float]] = field(default_factory=list)
    group: int = 0
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        """As the page's script reads it."""
        return {
            "file": self.file,
            "src": self.source,
            "width": self.width,
            "height": self.height,
            "boxes": self.boxes,
            "truth": self.truth,
            "group": self.group,
            "note": self.note,
        }


@dataclass(frozen=True)
class Gallery:
    """Photographs of a page, with what chooses among their boxes.

    Attributes
    ----------
    class_names : tuple of str
    thresholds : tuple of float or None
        For each class, above which level a box is shown at first; None for any level.
    range : (least, most, step)
        Of the levels on the slider.
    pictures : sequence of Picture
    groups : tuple of str
        Kinds of photographs.
    """

    class_names: tuple[str, ...]
    thresholds: tuple[float | None, ...]
    range: tuple[float, float, float]
    pictures: Sequence[Picture]
    groups: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """As the page's script reads it."""
        classes = [
            {"name": name, "threshold": threshold, **_colours(label)}
            for label, (name, threshold) in enumerate(zip(self.class_names, self.thresholds, strict=True))
        ]
        return {
            "classes": classes,
            "range": self.range,
            "groups": self.groups,
            "images": [picture.to_dict() for picture in self.pictures],
        }


def found_boxes(found: Detections) -> list[list[float]]:
    """Detections as boxes of a :class:`Picture`."""
    levels = found.probabilities if found.calibrated else found.scores
    return [
        [int(label), round(float(level), 3), *(round(float(side)) for side in box)]
        for label, level, box in zip(found.labels, levels, found.boxes, strict=True)
    ]


def _colours(label: int) -> dict[str, str]:
    colour = class_colour(label)
    return {"colour": "#{:02x}{:02x}{:02x}".format(*colour), "ink": ink_on(colour)}


def preview(image: NDArray[np.uint8], longest: int = PREVIEW) -> NDArray[np.uint8]:
    """A copy of an RGB uint8 image (H, W, 3) whose longest side is at most ``longest`` pixels."""
    from PIL import Image

    small = Image.fromarray(image)
    small.thumbnail((longest, longest), Image.Resampling.BICUBIC, reducing_gap=2.0)
    return np.array(small)


def write_preview(path: Path, image: NDArray[np.uint8]) -> None:
    """Write :func:`preview` as JPEG; searches for photographs pass it over, as they do drawings."""
    write_image(path, preview(image), quality=80, comment=DRAWING)


def write_page(
    path: Path, template: str, title: str, summary: Sequence[str], gallery: Gallery | None = None, **values: Any
) -> None:
    """Render a page and write it, atomically.

    Parameters
    ----------
    path : Path
    template : str
        Name of a file in ``eval/pages``.
    title : str
    summary : sequence of str
        Lines below the title.
    gallery : Gallery, optional
    **values
        What the template uses besides. All text is escaped.
    """
    from markupsafe import Markup

    css, script = _part("page.css"), _part("page.js")
    data = None
    if gallery is not None:
        # In a script element only "<" can end it or begin a comment.
        data = Markup(json.dumps(gallery.to_dict(), separators=(",", ":")).replace("<", "\\u003c"))
    policy = (
        f"default-src 'none'; img-src 'self' data: file:; style-src {_hash(css)}; script-src {_hash(script)}; "
        "base-uri 'none'; form-action 'none'"
    )
    html = (
        _environment()
        .get_template(template)
        .render(
            **values,
            title=title,
            summary=summary,
            version=__version__,
            css=Markup(css),
            script=Markup(script),
            policy=policy,
            data=data,
        )
    )
    write_text(path, html)


@cache
def _environment() -> Environment:
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    return Environment(loader=FunctionLoader(_part), autoescape=True, undefined=StrictUndefined)


def _part(name: str) -> str:
    return (files(__package__) / "pages" / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """Source of a content security policy that allows this text alone."""
    return f"'sha256-{b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

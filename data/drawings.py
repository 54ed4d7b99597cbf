"""Draw what was found into files."""

from __future__ import annotations

from pathlib import Path

from .addresses import Photograph
from .arrays import Array
from .detections import Detections
from .errors import InputError
from .image import DRAWING, write_image


def draw_found(
    file: Path, photograph: Photograph, image: Array, found: Detections, truth: Detections | None = None
) -> str | None:
    """Write a photograph with its detections drawn, and what is labelled there; returns the error, if there is one.

    Nothing is raised, even on a full disk: the detections matter more than the pictures, and there may be space again
    at the end.
    """
    try:
        write_image(file, found.draw(image, truth), comment=DRAWING)
    except (InputError, OSError, MemoryError) as error:
        return f"{photograph}: cannot be drawn ({error or type(error).__name__}); what was found is kept"
    return None

"""The page of ``sppnet detect --report``: all photographs with what was found, for a browser."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from ...data.addresses import is_address, photograph_of
from ...detector.detection.detector import Detector
from ...eval.page import Gallery, Picture, found_boxes, write_page, write_preview

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ...data.addresses import Photograph
    from ...data.arrays import Array
    from ...data.detections import Detections
    from ...data.formats import ImageDetections
    from ...detector.detection.combination import CombinedDetector

#: Folder of the small copies of photographs, beside a page.
PREVIEWS = "previews"

#: Lowest probability on the slider. Below it nearly nothing is right.
LEAST = 0.05


def common_folder(files: Sequence[str]) -> str:
    """The folder that all files are in, at any depth; empty if there is none, or for addresses."""
    if any(map(is_address, files)):
        return ""
    try:
        found = os.path.commonpath([os.path.dirname(file) for file in files]) if files else ""
    except ValueError:  # absolute and relative paths, or several drives
        found = ""
    return found


class DetectionPage:
    """Collects photographs and what was found in them, down to a lower threshold than is shown at first.

    Parameters
    ----------
    folder : Path
        Of the page.
    names : mapping of Path or Address to str
        File name ``NAME.jpg`` for the small copy of each photograph.
    detector : Detector or CombinedDetector
    threshold : float or None
        Above which detections are shown at first; None for the default of each class.
    truth : mapping of Path or Address to Detections
        What is labelled in photographs; its classes begin with the detector's.

    Attributes
    ----------
    least : float or None
        Threshold with which to detect.
    """

    def __init__(
        self,
        folder: Path,
        names: Mapping[Photograph, str],
        detector: Detector | CombinedDetector,
        threshold: float | None,
        truth: Mapping[Photograph, Detections],
    ) -> None:
        self._folder, self._names = folder, names
        self._detector, self._threshold, self._truth = detector, threshold, truth
        self._failed: set[str] = set()
        lowest = self._defaults()
        # Scores have no level below which nothing is right, and the models of a combination have one each.
        self.least = threshold if lowest is None or not detector.calibrated else min(LEAST, *lowest)

    def _defaults(self) -> tuple[float, ...] | None:
        """Threshold of each class; None where the default belongs to each model of a combination."""
        if self._threshold is not None:
            return (self._threshold,) * len(self._detector.class_names)
        if not isinstance(self._detector, Detector):
            return None
        calibration = self._detector.bundle.calibration
        if calibration is not None:
            return calibration.thresholds
        return (self._detector.bundle.detection.show_above,) * len(self._detector.class_names)

    def shown(self, found: Detections) -> Detections:
        """Those of the detections with :attr:`least` that are shown at first."""
        if not isinstance(self._detector, Detector) or self.least == self._threshold:
            return found
        return self._detector.above(found, self._threshold)

    def add(self, path: Photograph, image: Array, found: Detections) -> None:
        """Write the small copy of a photograph; one that cannot be written is missing on the page."""
        try:
            write_preview(self.file(path), image)
        except (OSError, MemoryError):
            self._failed.add(str(path))

    def file(self, path: Photograph) -> Path:
        """The file of a photograph's small copy."""
        return self._folder / PREVIEWS / self._names[path]

    def write(self, model: str, images: Sequence[ImageDetections], failed: Mapping[str, str]) -> Path:
        """Write the page; returns its path.

        Parameters
        ----------
        model : str
            Name of the model.
        images : sequence of ImageDetections
            Found with :attr:`least`.
        failed : mapping of str to str
            Errors of other files.
        """
        place = common_folder([image.file for image in images])
        pictures = [
            Picture(
                os.path.relpath(image.file, place) if place else image.file,
                f"{PREVIEWS}/{quote(self._names[path])}",
                image.width,
                image.height,
                found_boxes(image.detections),
                [[box[0], *box[2:]] for box in found_boxes(self._truth[path])] if path in self._truth else [],
            )
            for image in images
            for path in [photograph_of(image.file)]
            if image.file not in self._failed
        ]
        levels = [box[1] for picture in pictures for box in picture.boxes]
        defaults = self._defaults()
        ends = (0.0, 1.0) if self._detector.calibrated else (min(levels, default=0.0), max(levels, default=1.0))
        classes = next((one.class_names for one in self._truth.values()), self._detector.class_names)
        # Classes that are labelled alone have no threshold.
        thresholds = [*(defaults or ()), *[None] * len(classes)][: len(classes)]
        gallery = Gallery(classes, tuple(thresholds), (*ends, 0.01), pictures)
        total = sum(len(self.shown(image.detections)) for image in images)
        summary = [
            f"{total:,} objects in {len(images):,} photographs{f' of {place}' * bool(place)}, found by {model}.",
            "The slider shows less, or more than the detector shows by itself."
            if self.least != self._threshold
            else "The slider shows less.",
        ]
        path = self._folder / "report.html"
        write_page(path, "detections.html", "What was found", summary, gallery, failed=list(failed.values()))
        return path

"""Reference of detection in many files: one after the other."""

from sppnet.data.errors import ImageError
from sppnet.data.formats import ImageDetections
from sppnet.data.image import read_image


def detect_files(detector, paths, threshold=None, finish=None):
    """List of the detections in each file, or its error."""
    results = []
    for path in paths:
        try:
            image = read_image(path)
        except ImageError as error:
            results.append(error)
            continue
        found = detector.detect(image, threshold)
        if finish is not None:
            finish(path, image, found)
        results.append(ImageDetections(str(path), image.shape[1], image.shape[0], found))
    return results

"""Detection in many files, one after the other."""

from sppnet.data.errors import ImageError
from sppnet.data.formats import ImageDetections
from sppnet.data.image import read_image


def detect_files(detector, paths, threshold=None, finish=None):
    """A list of what is found in each file, or of the error it met."""
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

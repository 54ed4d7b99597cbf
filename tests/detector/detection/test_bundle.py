"""Reading model files: what earlier versions did not write means what they did."""

from sppnet.detector.detection import bundle as module
from sppnet.detector.options import RCNN_DETECTION, DetectOptions


def test_models_of_earlier_versions_detect_as_they_did():
    earlier = {"proposals": "fast", "max_windows": 9, "keep_above": -1.5, "nms": 0.4, "max_per_class": 9}
    found = module._detection(earlier)
    assert (found.nms, found.nms_before, found.regressions, found.rescored, found.voting) == (0.4, 0.4, 1, False, 1.0)
    assert (found.max_per_class_before, found.max_per_class) == (9, 9)
    assert module._detection(found.to_dict()) == found
    assert module._detection({"nms": 0.3}) == RCNN_DETECTION
    assert module._detection(DetectOptions().to_dict()) == DetectOptions()

"""A small labelled set and fast options, shared by the tests of training and detection."""

import pytest
from detector_options import SMALL
from sppnet.data.scenes import make_scenes
from sppnet.data.voc import VOCDataset
from sppnet.detector.backbone import Backbone
from sppnet.detector.config import FeatureOptions
from sppnet.detector.features import WindowFeatures


@pytest.fixture(scope="session")
def scenes(tmp_path_factory):
    """Twelve scenes in VOC layout."""
    root = tmp_path_factory.mktemp("scenes")
    make_scenes(root, {"train": 12, "val": 2}, seed=3, size=(96, 128))
    return VOCDataset(root, "train")


@pytest.fixture(scope="session")
def features():
    return WindowFeatures(Backbone("squeezenet1_1"), SMALL["features"])


@pytest.fixture(scope="session")
def far_scales():
    """Features whose two scales both serve some windows of a small image."""
    return WindowFeatures(Backbone("squeezenet1_1"), FeatureOptions(scales=(128, 400), levels=(1, 2, 4)))

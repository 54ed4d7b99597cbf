"""``load`` returns the right kind of model for each model file."""

from dataclasses import replace

import numpy as np
import pytest
import sppnet
import torch
from random_models import random_model
from sppnet import InputError, SPPClassifier, SPPDetector, WarpDetector
from sppnet.detector.modelfile import write_model
from sppnet.detector.options import FeatureOptions

IMAGE = np.random.default_rng(0).integers(0, 256, (80, 120, 3), np.uint8)


@pytest.fixture
def bundle(features):
    return random_model("ab", features, windows=10)


def test_a_detector_of_either_method(bundle, features, tmp_path):
    warp = FeatureOptions(levels=features.options.levels, method="warp", crop=64)
    for kind, options in ((SPPDetector, features.options), (WarpDetector, warp)):
        path = tmp_path / f"{kind.__name__}.safetensors"
        saved = kind(replace(bundle, features=options))
        saved.save(path)
        loaded = sppnet.load(path)
        assert type(loaded) is kind
        windows = [[5, 5, 60, 50], [30, 10, 110, 79]]
        found, expected = (one.detect(IMAGE, -10, windows).to_records() for one in (loaded, saved))
        assert found == expected
    with pytest.raises(InputError, match=r"the method warp, not spp; sppnet.load\(\) gives the right detector"):
        SPPDetector.load(path)


def test_a_classification_network(settled, tmp_path):
    network = settled()
    network.save(tmp_path / "network.safetensors")
    loaded = sppnet.load(str(tmp_path / "network.safetensors"))
    assert isinstance(loaded, SPPClassifier)
    assert loaded.predict(IMAGE) == network.predict(IMAGE)


def test_a_model_of_the_package_by_its_name():
    assert sppnet.load("cells").class_names == sppnet.load("cells", device="cpu").class_names
    assert isinstance(sppnet.load(), SPPDetector)


def test_convolutions_alone_are_refused_and_explained(tmp_path):
    path = tmp_path / "student.safetensors"
    header = {"kind": "backbone", "backbone": "sppnet_student", "layer": "x", "card": {}}
    write_model(path, header, {"backbone.a": torch.zeros(1)})
    wanted = f"{path}: only a backbone .*'sppnet train DATASET --backbone sppnet_student --weights {path}'"
    with pytest.raises(InputError, match=wanted):
        sppnet.load(path)


def test_what_is_no_model_or_no_device_is_refused(bundle, settled, tmp_path):
    with pytest.raises(InputError, match=r"nope: no such model file.*animals"):
        sppnet.load("nope")
    (tmp_path / "text.safetensors").write_text("no model")
    with pytest.raises(InputError, match=r"text\.safetensors: not an sppnet model file"):
        sppnet.load(tmp_path / "text.safetensors")
    for model in (bundle, settled()):
        model.save(tmp_path / "model.safetensors")
        with pytest.raises(InputError, match="there is no device 'gpu' here"):
            sppnet.load(tmp_path / "model.safetensors", "gpu")

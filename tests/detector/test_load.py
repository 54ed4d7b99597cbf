"""``load`` returns the right kind of model for each model file."""

from dataclasses import replace

import numpy as np
import pytest
import sppnet
import torch
from random_models import random_model
from sppnet import InputError, SPPClassifier, SPPDetector, WarpDetector
from sppnet.detector.classification.options import ClassifierOptions
from sppnet.detector.convolutions.backbone import Backbone
from sppnet.detector.detection.bundle import Bundle
from sppnet.detector.modelfile import read_model, write_model
from sppnet.detector.options import FeatureOptions
from sppnet.detector.windows.features import WindowFeatures

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


def test_a_precision_for_detectors_of_either_method(bundle, features, settled, tmp_path):
    warp = FeatureOptions(levels=features.options.levels, method="warp", crop=64)
    path, windows = tmp_path / "m.safetensors", [[5, 5, 60, 50], [30, 10, 110, 79]]
    for options in (features.options, warp):
        replace(bundle, features=options).save(path)
        found = []
        for loaded in (sppnet.load(path), sppnet.load(path, precision="bfloat16")):
            loaded.set_image(IMAGE)
            found.append(loaded.score_windows(windows))
        assert not np.array_equal(*found)
        np.testing.assert_allclose(*found, atol=0.05 * np.abs(found).max())
    settled().save(path)
    with pytest.raises(InputError, match=r"m\.safetensors: a classification network computes in float32, not bfloat16"):
        sppnet.load(path, precision="bfloat16")


@pytest.mark.parametrize("stride", [None, 8])
def test_the_stride_of_the_map_is_kept(tmp_path, stride):
    features = WindowFeatures(Backbone("shufflenet_v2_x0_5", stride=stride), FeatureOptions(scales=(128,), levels=(1,)))
    bundle = random_model("ab", features, windows=10)
    assert bundle.stride == (stride or 32)
    header = bundle.header()
    if stride is None:  # older files do not name the stride, and hold the network as it is
        del header["stride"]
    write_model(tmp_path / "m.safetensors", header, bundle.tensors())
    loaded, saved = sppnet.load(tmp_path / "m.safetensors"), SPPDetector(bundle)
    assert loaded.features.backbone.stride == bundle.stride
    windows = [[5, 5, 60, 50], [30, 10, 110, 79]]
    assert loaded.detect(IMAGE, -10, windows).to_records() == saved.detect(IMAGE, -10, windows).to_records()
    loaded.save(tmp_path / "again.safetensors")
    assert Bundle.load(tmp_path / "again.safetensors").stride == stride


@pytest.mark.parametrize("stride", [None, 8])
def test_a_classification_network_keeps_its_stride(tmp_path, stride):
    options = ClassifierOptions(levels=(1, 2), width=8, size=64)
    network = SPPClassifier(["a", "b"], "shufflenet_v2_x0_5", options=options, stride=stride).eval()
    network.save(tmp_path / "m.safetensors")
    if stride is None:
        header, tensors = read_model(tmp_path / "m.safetensors", "classifier")
        assert header.pop("stride") == 32
        write_model(tmp_path / "m.safetensors", header, tensors)
    loaded = sppnet.load(tmp_path / "m.safetensors")
    assert loaded.stride == network.stride == (stride or 32)
    assert loaded.predict(IMAGE) == network.predict(IMAGE)
    assert loaded.backbone.stride == network.stride


@pytest.mark.parametrize("stride", [0, "16", 16.0])
def test_a_stride_that_is_none_is_refused(bundle, tmp_path, stride):
    write_model(tmp_path / "m.safetensors", {**bundle.header(), "stride": stride}, bundle.tensors())
    with pytest.raises(InputError, match=r"m\.safetensors: not a valid sppnet model: the stride of a map must be"):
        sppnet.load(tmp_path / "m.safetensors")


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

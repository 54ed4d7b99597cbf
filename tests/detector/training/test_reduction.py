"""Training on several reduced maps: the reduction is learnt once, kept, and part of the model."""

import numpy as np
import pytest
import torch
from detector_options import SMALL
from sppnet.data.errors import InputError
from sppnet.data.store import file_key
from sppnet.detector.convolutions.backbone import Backbone
from sppnet.detector.convolutions.reduction import reduced_channels
from sppnet.detector.load import load
from sppnet.detector.training import reduction as module
from sppnet.detector.training.plan import TrainPlan
from sppnet.detector.training.reduction import reduce_maps
from sppnet.detector.training.train import train

OPTIONS = {**SMALL, "backbone": "mobilenet_v2", "layer": None}


def reduced(samples, folder, channels=(6, 10), seed=0):
    backbone = Backbone("mobilenet_v2", layer="features.7,features.14.conv.0")
    keys = [file_key(sample.path) for sample in samples]
    reduce_maps(backbone, channels, samples, keys, 64, folder, seed, quiet=True)
    return backbone


def equal(one, other):
    first, second = one.state(), other.state()
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def test_detector_on_reduced_default_maps(scenes, tmp_path):
    made = train(scenes, out=tmp_path / "m.safetensors", work=tmp_path / "work", channels=(6, 10), **OPTIONS)
    read = load(tmp_path / "m.safetensors")
    assert read.bundle.layer == "features.14.conv.0,features.18"
    assert read.features.backbone.channels == 16
    image = scenes[0].image
    windows = made.propose(image)
    made.set_image(image)
    read.set_image(image)
    np.testing.assert_array_equal(made.score_windows(windows), read.score_windows(windows))
    before = (tmp_path / "m.safetensors").read_bytes()
    train(scenes, out=tmp_path / "again.safetensors", work=tmp_path / "work", channels=(6, 10), **OPTIONS)
    assert (tmp_path / "again.safetensors").read_bytes() == before
    train(scenes, out=tmp_path / "anew.safetensors", work=tmp_path / "other", channels=(6, 10), **OPTIONS)
    assert (tmp_path / "anew.safetensors").read_bytes() == before


def test_more_photographs_keep_the_reduction_and_fewer_do_not(scenes, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MOST_IMAGES", 3)
    samples = list(scenes)
    first = reduced(samples[:4], tmp_path)
    assert first.channels == 16
    assert equal(reduced(samples, tmp_path), first)
    assert not equal(reduced(samples, tmp_path / "other"), first)
    assert not equal(reduced(samples[4:], tmp_path), first)
    assert equal(reduced(samples[4:], tmp_path), reduced(samples[4:], tmp_path / "another"))


@pytest.mark.parametrize(
    ("channels", "expected"), [((0,), [None, None]), ((20,), [20, 20]), ((0, 30), [None, 30]), (None, [None, 320])]
)
def test_channels_of_each_layer(channels, expected):
    backbone = Backbone("mobilenet_v2", layer="features.7,features.14.conv.0")
    assert reduced_channels(backbone, channels) == expected


def test_few_photographs_have_fewer_channels():
    backbone = Backbone("mobilenet_v2", layer="features.14.conv.0,features.18")
    assert reduced_channels(backbone, None, 1001) == reduced_channels(backbone, None) == [160, 320]
    assert reduced_channels(backbone, None, 1000) == [54, 106]
    assert reduced_channels(backbone, (20,), 10) == [20, 20]


def test_one_small_map_is_left_as_it_is(scenes, tmp_path):
    backbone = Backbone("squeezenet1_1")
    before = set(backbone.state())
    reduce_maps(backbone, None, list(scenes), [], 64, tmp_path, 0, quiet=True)
    assert set(backbone.state()) == before
    assert not any(tmp_path.iterdir())


def test_numbers_that_do_not_fit_the_layers_are_refused(scenes, tmp_path):
    with pytest.raises(InputError, match="2 numbers of channels do not fit the 1 layers"):
        train(scenes, out=tmp_path / "m", work=tmp_path / "work", channels=(6, 10), **SMALL)
    with pytest.raises(InputError, match="from 0 up"):
        TrainPlan(channels=(-1,))

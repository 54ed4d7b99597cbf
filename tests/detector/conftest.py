"""A small labelled set and fast options, shared by the tests of training and detection."""

import functools

import numpy as np
import pytest
import torch
from detector_options import SMALL
from sppnet.data.image import image_size, write_image
from sppnet.data.labelled import LabelledImage, LabelledImages
from sppnet.data.scenes import make_scenes
from sppnet.data.store import file_key
from sppnet.data.voc import VOCDataset
from sppnet.detector.classification.network import SPPClassifier
from sppnet.detector.classification.options import ClassifierOptions
from sppnet.detector.convolutions.backbone import Backbone
from sppnet.detector.descent.photographs import Photographs
from sppnet.detector.options import FeatureOptions
from sppnet.detector.training.cache import MapCache, mirrored
from sppnet.detector.training.images import TrainingImages
from sppnet.detector.windows.features import WindowFeatures
from sppnet.proposals.backends import make_proposer
from torch import nn


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
def training_images(scenes, features, tmp_path_factory):
    """Makes training images of so many scenes: with 150 proposals each, their maps, and those of mirror images."""

    @functools.cache
    def make(count):
        samples = list(scenes)[:count]
        cache = MapCache(tmp_path_factory.mktemp("maps"), features)
        keys = [file_key(sample.path) for sample in samples]
        for key, sample in zip(keys, samples, strict=True):
            cache.fill(key, sample.image, sample.boxes)
            cache.fill(mirrored(key), np.ascontiguousarray(sample.image[:, ::-1]), sample.boxes)
        proposals = [make_proposer("fast", 150, 0)(sample.image) for sample in samples]
        return TrainingImages(samples, keys, [image_size(sample.path) for sample in samples], proposals, cache)

    return make


@pytest.fixture(scope="session")
def far_scales():
    """Features whose two scales both serve some windows of a small image."""
    return WindowFeatures(Backbone("squeezenet1_1"), FeatureOptions(scales=(128, 400), levels=(1, 2, 4)))


#: A class each.
COLOURS = {"red": (220, 40, 40), "green": (40, 200, 60), "blue": (50, 60, 230)}


def photograph(rng, labels):
    """Grey noise of some size with a rectangle in the colour of each label."""
    height, width = rng.integers(64, 97, 2)
    image = np.repeat(rng.integers(60, 190, (height, width, 1), np.uint8), 3, axis=2)
    colours = list(COLOURS.values())
    for place, label in enumerate(labels):
        # Side by side, so that none covers another.
        left, right = place * width // len(labels), (place + 1) * width // len(labels)
        top = int(rng.integers(0, height // 3))
        image[top : top + height // 2, left + 2 : right - 2] = colours[label]
    return image


@pytest.fixture(scope="session")
def labelled(tmp_path_factory):
    """Makes a set of so many photographs; with several labels each shows none, some or all of the classes."""

    @functools.cache
    def make(count, seed=0, multi_label=False):
        folder, rng = tmp_path_factory.mktemp("photographs"), np.random.default_rng(seed)
        images = []
        for index in range(count):
            shown = np.flatnonzero(rng.random(3) < 0.5) if multi_label else np.array([index % 3])
            path = folder / f"{index}.png"
            write_image(path, photograph(rng, shown))
            images.append(LabelledImage(path, shown))
        return LabelledImages(images, tuple(COLOURS), multi_label)

    return make


@pytest.fixture(scope="session")
def photographs(labelled):
    """Makes a set as :func:`labelled` does and reads it, for crops of ``side`` pixels."""

    def make(count, seed=0, multi_label=False, side=64):
        return Photographs(labelled(count, seed, multi_label), side, "reading", quiet=True)

    return make


@pytest.fixture(scope="session")
def settled():
    """Makes a small network, in eval mode, whose batch norms have seen something; fresh ones would hide a lot."""

    def make(backbone="sppnet_small", seed=0, **options):
        options = ClassifierOptions(**{"levels": (1, 2, 3), "width": 24, "size": 64} | options)
        network = SPPClassifier(tuple(COLOURS), backbone, options=options, seed=seed)
        generator = torch.Generator().manual_seed(seed)
        for part in network.modules():
            if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d):
                part.running_mean.normal_(0, 0.3, generator=generator)
                part.running_var.uniform_(0.5, 2, generator=generator)
                if part.affine:
                    nn.init.uniform_(part.weight, 0.5, 1.5, generator=generator)
                    nn.init.normal_(part.bias, 0, 0.3, generator=generator)
        return network.eval()

    return make

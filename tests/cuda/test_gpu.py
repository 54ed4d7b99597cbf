"""The same results on a GPU as on the CPU: maps, their reduction, training, detection, distillation."""

import numpy as np
import pytest
import torch
from detector_options import SMALL, SMALL_FC, SMALL_WARP
from sppnet.data.example_photographs import sample_photographs
from sppnet.data.image import read_image
from sppnet.data.scenes import make_scenes
from sppnet.data.voc import VOCDataset
from sppnet.detector.convolutions.backbone import Backbone
from sppnet.detector.convolutions.reduction import learn_reduction
from sppnet.detector.convolutions.truncation import default_layers
from sppnet.detector.descent.options import LearnOptions
from sppnet.detector.distillation import distil
from sppnet.detector.load import load
from sppnet.detector.training.train import train

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gpu")
    make_scenes(folder, {"train": 12, "val": 3}, seed=0, size=(96, 128))
    return {name: VOCDataset(folder, name) for name in ("train", "val")}


@pytest.mark.parametrize("name", ["efficientnet_lite0", "mobilenet_v2", "resnet18", "sppnet_student_480"])
def test_maps_and_their_reduction(name, scenes):
    images = [sample.image for sample in scenes["train"]][:3]
    here, there = (Backbone(name, layer=default_layers(name)).to(device) for device in ("cpu", "cuda"))
    pixels = here.preprocess(images[0])
    for expected, found in zip(here.layer_maps(pixels), there.layer_maps(pixels.cuda()), strict=True):
        assert found.is_cuda
        torch.testing.assert_close(found.cpu(), expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))
    wanted = [8] * len(here.layer_channels)
    reductions = (learn_reduction(one, images, wanted) for one in (here, there))
    for expected, found in zip(*reductions, strict=True):
        # An eigenvector's sign means nothing, and neither do directions of nearly equal variance.
        here_space, there_space = (torch.linalg.qr(values[:, :2])[0] for values in (expected, found))
        torch.testing.assert_close(torch.linalg.svdvals(here_space.T @ there_space), torch.ones(2), atol=1e-2, rtol=0)


@pytest.mark.parametrize(
    "options",
    [
        SMALL | {"backbone": "mobilenet_v2", "channels": (6, 10)},
        SMALL_FC | {"backbone": "efficientnet_lite0", "channels": (6, 10)},
        SMALL_WARP,
    ],
    ids=["two maps", "two maps and fc layers", "warping"],
)
def test_a_model_that_a_gpu_trained_finds_the_same_on_a_cpu(options, scenes, tmp_path):
    model = train(scenes["train"], out=tmp_path / "m.safetensors", work=tmp_path / "work", device="cuda", **options)
    assert model.device.type == "cuda"
    here = load(tmp_path / "m.safetensors", device="cpu")
    for sample in scenes["val"]:
        windows = here.propose(sample.image)
        scores = [one.score_on(one.maps(sample.image), windows) for one in (here, model)]
        np.testing.assert_allclose(scores[1], scores[0], rtol=0, atol=1e-2 * np.abs(scores[0]).max())


def fifty_photographs():
    """The sample photographs, and parts of them."""
    rng, photographs = np.random.default_rng(0), [read_image(path) for path in sample_photographs()]
    for number in range(50):
        image = photographs[number % len(photographs)]
        if number >= len(photographs):
            sides = np.array(image.shape[:2])
            low, high = rng.integers(0, sides // 4), sides - rng.integers(0, sides // 4)
            image = np.ascontiguousarray(image[low[0] : high[0], low[1] : high[1]])
        yield image


def without_partner(found, others):
    """Detections, none of the others being the same within half a pixel and a thousandth of the score."""
    boxes = np.abs(found.boxes[:, None] - others.boxes[None]).max(axis=2, initial=0) <= 0.5
    scores = np.abs(found.scores[:, None] - others.scores[None]) <= 1e-3
    labels = found.labels[:, None] == others.labels[None]
    return found[~(boxes & scores & labels).any(axis=1)]


@pytest.mark.parametrize("name", ["animals", "cells"])
def test_bundled_models_find_the_same_in_fifty_photographs(name):
    here, there = (load(name, device=device) for device in ("cpu", "cuda"))
    total = 0
    for image in fifty_photographs():
        # Lower on one side, so that none is missing there that is hardly above the threshold on the other.
        for one, other in ((here, there), (there, here)):
            found = one.detect(image, threshold=0.05)
            assert len(without_partner(found, other.detect(image, threshold=0.045))) == 0
            total += len(found)
    assert total > 50


def test_distillation(scenes, tmp_path):
    learn = LearnOptions(epochs=4, batch=4, sizes=(96, 64), held_out=0.25, optimizer="adamw", average=0.5)
    paths, out = [sample.path for sample in scenes["train"]], tmp_path / "student.safetensors"
    distil(paths, out, teacher_weights="none", learn=learn, device="cuda", quiet=True)
    history = (tmp_path / "student.safetensors.work" / "history.csv").read_text().splitlines()[1:]
    losses = [float(line.split(",")[3]) for line in history]
    assert losses[-1] < losses[0]
    assert torch.isfinite(Backbone("sppnet_student_480", out).feature_map(scenes["val"][0].image)).all()

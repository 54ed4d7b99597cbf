"""What a GPU does with scored windows equals what the CPU does; tested on tensors of the CPU."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from random_models import random_model
from sppnet.data.boxes import decode, iou
from sppnet.detector.convolutions.backbone import Backbone
from sppnet.detector.detection import on_device
from sppnet.detector.detection.detector import SPPDetector
from sppnet.detector.detection.on_device import finish_on_device
from sppnet.detector.detection.postprocess import finish, log_odds, ranked
from sppnet.detector.options import RCNN_DETECTION, DetectOptions, FeatureOptions
from sppnet.detector.windows.features import WindowFeatures
from sppnet.detector.windows.on_device import distinct, locate

SIZE, CLASSES = (90, 140), ("a", "b", "c")


def boxes_of(rng, count, whole=False):
    corners = np.sort(rng.uniform(0, 1, (count, 2, 2)), axis=1).reshape(count, 4) * np.tile(SIZE[::-1], 2)
    return (np.round(corners) if whole else corners).astype(np.float32)


def looks(seed):
    """Deltas and scores that depend on the box, for both ways."""
    rng = np.random.default_rng(seed)
    weights = torch.from_numpy(rng.normal(size=(4, 5 * len(CLASSES)), scale=0.02))

    def look(boxes):
        every = torch.sin(boxes.double() @ weights).float().reshape(-1, len(CLASSES), 5)
        return 0.2 * every[..., :4], every[..., 4]

    def own(boxes, labels, scored):
        return tuple(values.numpy()[np.arange(len(labels)), labels] for values in look(torch.from_numpy(boxes)))

    return look, own


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    "options",
    [
        DetectOptions(keep_above=-0.5),
        DetectOptions(keep_above=-0.5, regressions=3, max_per_class=7, max_per_class_before=11),
        DetectOptions(keep_above=-0.5, rescored=False, voting=1.0),
        DetectOptions(keep_above=-0.5, regressions=0, nms=0.5),
        RCNN_DETECTION,
        DetectOptions(keep_above=5.0),
    ],
    ids=["default", "three passes, few", "neither scored again nor voted", "no passes", "R-CNN", "nothing left"],
)
def test_same_detections_as_on_the_cpu(options, seed):
    rng = np.random.default_rng(seed)
    windows, scores = boxes_of(rng, 120, seed % 2 == 0), rng.normal(size=(120, 3)).astype(np.float32)
    scores[:10] = scores[10:20]
    look, own = looks(seed)
    expected = finish(windows, scores, SIZE, CLASSES, options, -np.inf, own)
    found = ranked(finish_on_device(windows, torch.from_numpy(scores), SIZE, CLASSES, options, look))
    assert found.labels.tolist() == expected.labels.tolist()
    np.testing.assert_allclose(found.boxes, expected.boxes, rtol=0, atol=2e-3)
    np.testing.assert_allclose(found.scores, expected.scores, rtol=0, atol=1e-4)
    assert (len(found) > 3) == (options.keep_above < 5)


def test_without_regressors_windows_stay_as_they_are():
    rng = np.random.default_rng(0)
    windows, scores = boxes_of(rng, 50), rng.normal(size=(50, 3)).astype(np.float32)
    expected = finish(windows, scores, SIZE, CLASSES, DetectOptions(), -np.inf)
    found = ranked(finish_on_device(windows, torch.from_numpy(scores), SIZE, CLASSES, DetectOptions()))
    assert found == expected


def test_no_windows_give_no_detections():
    empty = finish_on_device(
        np.zeros((0, 4), np.float32), torch.zeros(0, 3), SIZE, CLASSES, DetectOptions(), looks(0)[0]
    )
    assert (len(empty), empty.boxes.shape) == (0, (0, 4))


def test_formulas_are_those_of_arrays():
    rng = np.random.default_rng(0)
    one, other, deltas = boxes_of(rng, 20), boxes_of(rng, 9), rng.normal(size=(20, 4), scale=3).astype(np.float32)
    one[3] = one[4] = 7
    tensors = [torch.from_numpy(part) for part in (one, other, deltas)]
    np.testing.assert_allclose(on_device.iou(*tensors[:2]), iou(one, other), rtol=1e-6)
    np.testing.assert_allclose(on_device.iou(tensors[0], tensors[0]), iou(one, one), rtol=1e-6)
    np.testing.assert_allclose(on_device.decode(tensors[0], tensors[2]), decode(one, deltas), rtol=1e-5, atol=1e-3)
    logits = rng.normal(size=(30, 4), scale=20).astype(np.float32)
    logits[0] = [2000, 0, 0, 0]
    np.testing.assert_allclose(on_device.log_odds(torch.from_numpy(logits)), log_odds(logits), rtol=1e-6)


@pytest.mark.parametrize("scale_rule", ["area", "reference"])
@pytest.mark.parametrize("projection_rule", ["reference", "paper"])
@pytest.mark.parametrize("layer", [None, "features.14.conv.0,features.18"])
def test_windows_have_the_same_cells(scale_rule, projection_rule, layer):
    backbone = Backbone("squeezenet1_1") if layer is None else Backbone("mobilenet_v2", layer=layer)
    options = FeatureOptions(scales=(64, 96, 200), levels=(1,), scale_rule=scale_rule, projection_rule=projection_rule)
    features = WindowFeatures(backbone, options)
    maps = features.maps(np.zeros((*SIZE, 3), np.uint8))
    rng = np.random.default_rng(1)
    boxes = np.concatenate([boxes_of(rng, 400), boxes_of(rng, 400, whole=True), [[5, 5, 5, 9], [0, 0, *SIZE[::-1]]]])
    expected = features.locate(maps, boxes)
    scale, cells = locate(features, maps, torch.from_numpy(boxes.astype(np.float32)))
    assert scale.tolist() == expected.scale[expected.inverse].tolist()
    np.testing.assert_array_equal(cells, expected.cells[expected.inverse])
    joined = distinct(scale, cells)
    assert (joined[0].dtype, joined[1].dtype) == (torch.int64, torch.int32)
    assert len(joined[0]) == len(joined[1]) == len(expected) < len(boxes)
    assert joined[0].tolist() == sorted(joined[0].tolist())
    for whole, part in zip((scale, cells), joined, strict=False):
        assert torch.equal(part[joined[2]], whole)


@pytest.mark.parametrize("scorer", ["svm", "softmax"])
def test_a_detector_finds_the_same(scorer, monkeypatch):
    """With the GPU's kernel, which Triton interprets here."""
    pytest.importorskip("triton", minversion="3.8")
    options = FeatureOptions(scales=(64, 100), levels=(2, 1))
    features = WindowFeatures(Backbone("squeezenet1_1"), options)
    model = random_model(CLASSES, features, boxes=1e-3, detection=DetectOptions(max_per_class=4, regressions=2))
    if scorer == "softmax":  # whose last class is the background
        own = {"box_weights": model.box_weights[:2], "box_intercepts": model.box_intercepts[:2]}
        model = replace(model, scorer="softmax", class_names=CLASSES[:2], **own)
    detector = SPPDetector(model)
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (*SIZE, 3), np.uint8)
    windows = boxes_of(rng, 30)
    expected = detector.detect(image, -10, windows)
    for module in ("detection.detector", "windows.features"):
        monkeypatch.setattr(f"sppnet.detector.{module}.gpu_kernels", lambda device: True)
    found = detector.detect(image, -10, windows)
    assert found.labels.tolist() == expected.labels.tolist()
    np.testing.assert_allclose(found.boxes, expected.boxes, rtol=0, atol=1e-2)
    np.testing.assert_allclose(found.scores, expected.scores, rtol=0, atol=1e-4)
    assert len(found) > 3

"""The detector: given and proposed windows, scores, files, calls in the wrong order."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from random_models import random_model
from safetensors.torch import save_file
from sppnet import SPPDetector
from sppnet.data.boxes import flip
from sppnet.data.errors import InputError
from sppnet.detector.detection.bundle import Bundle
from sppnet.detector.detection.calibration import Calibration
from sppnet.detector.detection.detector import detect_each
from sppnet.detector.head.compression import compress
from sppnet.detector.head.head import Head
from sppnet.detector.modelfile import FORMAT, read_header, write_model
from sppnet.detector.options import Compression
from sppnet.detector.windows.features import WindowFeatures


@pytest.fixture(scope="module")
def bundle(features):
    """A model with random SVMs whose scores spread around 0, and without regressors."""
    intercepts = torch.tensor([0.0, 0.1, -0.1])
    return random_model("abc", features, windows=100, score_intercepts=intercepts, card={"images": 1})


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(0).integers(0, 256, (80, 120, 3), np.uint8)


WINDOWS = np.array([[5, 5, 60, 50], [30, 10, 110, 79], [0, 0, 120, 80], [5, 5, 60, 50]], np.float32)


def test_scores_are_features_times_weights(bundle, features, image):
    detector = SPPDetector(bundle)
    detector.set_image(image)
    scores = detector.score_windows(WINDOWS)
    maps = features.maps(image)
    cells = features.locate(maps, WINDOWS)
    rows = features.pool(maps, cells).double()[cells.inverse]
    expected = rows @ bundle.score_weights.double().T + bundle.score_intercepts.double()
    np.testing.assert_allclose(scores, expected.numpy(), atol=1e-4)
    assert scores.dtype == np.float32
    np.testing.assert_array_equal(scores[0], scores[3])
    assert detector.score_windows(np.zeros((0, 4))).shape == (0, 3)


@pytest.mark.parametrize("kind", ["pool5", "fc7"])
def test_boxes_are_regressed_and_scored_as_each_alone(features, image, kind):
    """From pooled features in single precision, also if the fc layers have another."""
    width, head = features.pooled_width, {}
    if kind == "fc7":
        layers = compress(Head(width, 8, 3), Compression(bfloat16=True))
        features = WindowFeatures(features.backbone, replace(features.options, kind=kind), layers)
        head = layers.state(upto=kind)
    rng, generator = np.random.default_rng(0), torch.Generator().manual_seed(0)
    regressors = {
        "box_weights": 1e-3 * torch.randn(3, width, 4, generator=generator),
        "box_intercepts": torch.randn(3, 4, generator=generator),
    }
    detector = SPPDetector(random_model("abc", features, head=head, **regressors))
    corners = rng.uniform(0, (110, 70), (900, 2))
    # More than a chunk, some of them twice and of several classes.
    boxes = np.hstack([corners, corners + rng.uniform(5, 60, (900, 2))]).astype(np.float32)[rng.integers(0, 900, 1200)]
    labels, maps = rng.integers(0, 3, 1200), detector.maps(image)
    deltas, scores = detector._look(maps, boxes, labels, True)
    cells = features.locate(maps, boxes)
    assert len(list(detector.features.pooled_chunks(maps, cells))) > 1
    rows = features.pool(maps, cells)[cells.inverse].double()
    expected = torch.einsum("nk,nkc->nc", rows, regressors["box_weights"].double()[labels])
    np.testing.assert_allclose(deltas, expected + regressors["box_intercepts"][labels], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(scores, detector.score_on(maps, boxes)[np.arange(1200), labels], rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(detector._look(maps, boxes, labels, False)[0], deltas)


def test_asking_before_an_image_is_set_raises(bundle):
    with pytest.raises(RuntimeError, match="set_image"):
        SPPDetector(bundle).score_windows(WINDOWS)


def test_detection_leaves_the_image_that_was_set(bundle, image):
    detector = SPPDetector(bundle)
    detector.set_image(image)
    scores = detector.score_windows(WINDOWS)
    other = 255 - image[:40]
    assert len(detector.detect(other, -10))
    assert len(list(detector.detect_many([other, other], -10))) == 2
    np.testing.assert_array_equal(detector.score_windows(WINDOWS), scores)
    detector.reset_image()
    detector.detect(other)
    with pytest.raises(RuntimeError, match="set_image"):
        detector.score_windows(WINDOWS)


def test_a_detector_says_and_changes_where_it_computes(bundle, image):
    detector = SPPDetector(bundle)
    expected = detector.detect(image, -10).to_records()
    detector.set_image(image)
    assert detector.device == torch.device("cpu")
    assert detector.to("cpu") is detector
    assert detector.to(torch.device("cpu")).detect(image, -10).to_records() == expected
    with pytest.raises(RuntimeError, match="set_image"):
        detector.score_windows(WINDOWS)


@pytest.mark.parametrize("kind", ["pool5", "fc7"])
def test_convolutions_in_bfloat16_move_scores_a_little(bundle, features, image, kind, tmp_path):
    if kind == "fc7":
        wide = Head(features.width, 8, 3)
        options = replace(features.options, kind="fc7")
        scores = {"score_weights": torch.eye(3, 8), "score_intercepts": torch.zeros(3)}
        bundle = replace(bundle, features=options, head=wide.state(upto="fc7"), **scores)
    exact, half = SPPDetector(bundle), SPPDetector(bundle, precision="bfloat16")
    expected = exact.detect(image, -10, WINDOWS)
    for detector in (exact, half):
        detector.set_image(image)
    scores, found = exact.score_windows(WINDOWS), half.score_windows(WINDOWS)
    assert not np.array_equal(found, scores)
    np.testing.assert_allclose(found, scores, atol=0.05 * np.abs(scores).max())
    # It moves to a device in its precision, of which the model file knows nothing.
    half.to("cpu").set_image(image)
    np.testing.assert_array_equal(half.score_windows(WINDOWS), found)
    half.save(tmp_path / "half.safetensors")
    exact.save(tmp_path / "exact.safetensors")
    assert (tmp_path / "half.safetensors").read_bytes() == (tmp_path / "exact.safetensors").read_bytes()
    assert SPPDetector.load(tmp_path / "half.safetensors").detect(image, -10, WINDOWS) == expected


def test_a_precision_that_is_none_is_refused(bundle):
    with pytest.raises(InputError, match="the precision must be one of float32, bfloat16, tf32, not 'float16'"):
        SPPDetector(bundle, precision="float16")


@pytest.mark.parametrize("device", ["gpu", "mps", "cuda:99", "meta"])
def test_a_device_that_is_not_there_is_refused(bundle, image, device):
    detector = SPPDetector(bundle)
    detector.set_image(image)
    with pytest.raises(InputError, match=f"there is no device '{device}' here; expected one of cpu"):
        detector.to(device)
    detector.score_windows(WINDOWS)  # nothing has changed
    with pytest.raises(InputError, match=f"there is no device '{device}' here"):
        SPPDetector(bundle, device)


def test_all_parts_move_to_another_device(bundle, features, image, monkeypatch):
    """torch's device without numbers stands for one that this machine may not have."""
    monkeypatch.setattr("sppnet.detector.detection.detector.usable_device", torch.device)
    boxes = {"box_weights": torch.zeros(3, features.width, 4), "box_intercepts": torch.zeros(3, 4)}
    head = Head(features.width, 8, 3).state()
    moved = SPPDetector(replace(bundle, head=head, **boxes)).to("meta")
    parts = [moved._weights, moved._intercepts, moved._box_weights, moved._box_intercepts]
    parts += [*moved.features.backbone.parameters(), *moved.features.head.parameters()]
    assert {part.device for part in parts} == {moved.device} == {torch.device("meta")}
    assert moved.bundle.score_weights.device == torch.device("cpu")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_on_another_device_and_back_it_finds_the_same(bundle, image):
    detector = SPPDetector(bundle)
    expected = detector.detect(image, -10, WINDOWS)
    there = detector.to("cuda").detect(image, -10, WINDOWS)
    assert detector.device.type == "cuda"
    np.testing.assert_allclose(there.scores, expected.scores, atol=1e-3)
    back = detector.to("cpu").detect(image, -10, WINDOWS)
    assert back.to_records() == expected.to_records()


def test_detections_come_from_the_windows_given(bundle, image):
    found = SPPDetector(bundle).detect(image, threshold=-10, windows=WINDOWS)
    assert len(found)
    assert {tuple(box) for box in found.boxes.tolist()} <= {tuple(box) for box in WINDOWS.tolist()}
    assert (np.diff(found.scores) <= 0).all()


def test_windows_are_cut_to_the_image(bundle, image):
    detector = SPPDetector(bundle)
    wide = detector.detect(image, threshold=-10, windows=[[-50, -50, 500, 500]])
    whole = detector.detect(image, threshold=-10, windows=[[0, 0, 120, 80]])
    np.testing.assert_array_equal(wide.boxes, whole.boxes)
    np.testing.assert_array_equal(wide.scores, whole.scores)


def test_no_windows_and_impossible_threshold_give_empty_detections(bundle, image):
    detector = SPPDetector(bundle)
    assert len(detector.detect(image, windows=np.zeros((0, 4)))) == 0
    assert len(detector.detect(image, threshold=1e9)) == 0


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 400, 3), (300, 2, 3), (40, 50)])
def test_any_image_can_be_looked_at(bundle, shape):
    pixels = np.random.default_rng(1).integers(0, 256, shape, np.uint8)
    found = SPPDetector(bundle).detect(pixels, threshold=-100)
    assert (found.boxes[:, 2:] <= np.array(shape[1::-1])).all()


def test_regressors_move_boxes(bundle, features, image):
    # Zero weights: every box is moved by the intercept, half its width to the right.
    moving = replace(
        bundle,
        detection=replace(bundle.detection, regressions=1),
        box_weights=torch.zeros(3, features.width, 4),
        box_intercepts=torch.tensor([[0.5, 0, 0, 0]]).repeat(3, 1),
    )
    found = SPPDetector(moving).detect(image, threshold=-10, windows=[[10, 10, 50, 40]])
    assert len(found)
    np.testing.assert_allclose(found.boxes, np.tile([[30, 10, 70, 40]], (len(found), 1)), atol=1e-4)


def test_saved_and_loaded_detector_finds_the_same(bundle, image, tmp_path):
    detector = SPPDetector(bundle)
    detector.save(tmp_path / "model.safetensors")
    again = SPPDetector.load(tmp_path / "model.safetensors")
    ours, theirs = detector.detect(image, threshold=-10), again.detect(image, threshold=-10)
    np.testing.assert_array_equal(ours.boxes, theirs.boxes)
    np.testing.assert_array_equal(ours.scores, theirs.scores)
    assert again.class_names == bundle.class_names
    assert again.card == bundle.card
    assert read_header(tmp_path / "model.safetensors")["classes"] == ["a", "b", "c"]


def test_files_that_are_no_model_are_refused(bundle, tmp_path):
    path = tmp_path / "model.safetensors"
    with pytest.raises(InputError, match="no such model file"):
        Bundle.load(path)
    path.write_bytes(b"not a model at all")
    with pytest.raises(InputError, match="not an sppnet model file"):
        Bundle.load(path)
    save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(InputError, match="a safetensors file, but not an sppnet model"):
        Bundle.load(path)
    save_file({"a": torch.zeros(1)}, path, metadata={"sppnet": json.dumps({"format": 99})})
    with pytest.raises(InputError, match="model format 99"):
        Bundle.load(path)
    save_file({"a": torch.zeros(1)}, path, metadata={"sppnet": json.dumps({"format": FORMAT})})
    with pytest.raises(InputError, match="'backbone' is missing"):
        Bundle.load(path)
    bundle.save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="not an sppnet model file"):
        Bundle.load(path)


def test_mirrored_image_has_mirrored_windows(bundle, image):
    """A window's scale and cells mirror up to the rounding of the grid: widths in cells agree within one."""
    detector = SPPDetector(bundle)
    maps = detector.features.maps(image)
    straight = detector.features.locate(maps, WINDOWS)
    mirrored = detector.features.locate(maps, flip(WINDOWS, 120))
    ours = straight.cells[straight.inverse]
    theirs = mirrored.cells[mirrored.inverse]
    np.testing.assert_array_equal(straight.scale[straight.inverse], mirrored.scale[mirrored.inverse])
    np.testing.assert_allclose(ours[:, 2] - ours[:, 0], theirs[:, 2] - theirs[:, 0], atol=1)
    np.testing.assert_array_equal(ours[:, [1, 3]], theirs[:, [1, 3]])


CALIBRATION = Calibration((2.0, 1.0, 3.0), (0.0, -1.0, 0.5), (0.5, 0.3, 0.7))


@pytest.fixture(scope="module")
def calibrated(bundle):
    return SPPDetector(replace(bundle, calibration=CALIBRATION))


def test_a_calibrated_detector_says_how_probable_its_detections_are(bundle, calibrated, image):
    plain, found = SPPDetector(bundle).detect(image, -np.inf), calibrated.detect(image, -np.inf)
    assert (SPPDetector(bundle).calibrated, calibrated.calibrated) == (False, True)
    assert not plain.calibrated
    np.testing.assert_array_equal(found.scores, plain.scores)
    np.testing.assert_array_equal(found.boxes, plain.boxes)
    np.testing.assert_array_equal(found.probabilities, CALIBRATION.probabilities(plain.scores, plain.labels))
    assert len(found) > 10
    for threshold, above in ((0.6, 0.6), (0, 0), (1, 1), (None, np.float32(CALIBRATION.thresholds)[found.labels])):
        shown = calibrated.detect(image, threshold)
        assert shown.to_records() == found[found.probabilities > np.float32(above)].to_records()
    own = calibrated.detect(image)
    assert 0 < len(own) < len(found)


@pytest.mark.parametrize("threshold", [-0.5, 1.01, np.inf, np.nan, -10])
def test_a_threshold_that_is_no_probability_is_refused_by_a_calibrated_detector(calibrated, image, threshold):
    with pytest.raises(ValueError, match=f"the threshold must be from 0 to 1, not {threshold:g}"):
        calibrated.detect(image, threshold)


def test_a_calibration_is_saved_and_models_of_before_have_none(bundle, calibrated, image, tmp_path):
    path = tmp_path / "model.safetensors"
    calibrated.save(path)
    again = SPPDetector.load(path)
    assert again.bundle.calibration == CALIBRATION
    assert again.detect(image).to_records() == calibrated.detect(image).to_records()
    older = {key: value for key, value in bundle.header().items() if key != "calibration"}
    write_model(path, older, bundle.tensors())
    assert Bundle.load(path).calibration is None
    assert SPPDetector.load(path).detect(image).to_records() == SPPDetector(bundle).detect(image).to_records()


@pytest.mark.parametrize(
    ("calibration", "message"),
    [
        ({"slopes": [1.0]}, "not a valid sppnet model: .*missing"),
        ({"slopes": [1], "intercepts": [0], "thresholds": [0.5]}, "calibration has 1 classes, the model has 3"),
        ({"slopes": [-1] * 3, "intercepts": [0] * 3, "thresholds": [0.5] * 3}, "positive slopes"),
        ({"slopes": ["x"] * 3, "intercepts": [0] * 3, "thresholds": [0.5] * 3}, "not a valid sppnet model"),
        ({"slops": [1] * 3}, "did you mean 'slopes'"),
        ([1.0], "not a valid sppnet model"),
    ],
)
def test_a_calibration_that_is_none_is_refused(bundle, tmp_path, calibration, message):
    path = tmp_path / "model.safetensors"
    write_model(path, {**bundle.header(), "calibration": calibration}, bundle.tensors())
    with pytest.raises(InputError, match=f"model.safetensors: .*{message}"):
        Bundle.load(path)


def test_detectors_that_share_pooled_windows_find_what_each_finds_alone(features, image):
    """Up to the last bits, which depend on the number of planes that are scored at a time."""
    bundles = [random_model("abc", features, windows=100, seed=seed, boxes=0.01 * seed) for seed in (1, 2)]
    bundles.append(replace(bundles[0], score_intercepts=torch.tensor([0.3, 0.0, -0.2]), box_weights=None))
    detectors = [SPPDetector(one) for one in bundles]
    maps, windows = detectors[0].maps(image), detectors[0].propose(image)
    together = detect_each(detectors, maps, windows, -np.inf)
    for found, detector in zip(together, detectors, strict=True):
        alone = detector.detect_on(maps, windows, -np.inf)
        assert len(found) == len(alone) > 5
        np.testing.assert_array_equal(found.labels, alone.labels)
        np.testing.assert_allclose(found.boxes, alone.boxes, atol=1e-2)
        np.testing.assert_allclose(found.scores, alone.scores, atol=1e-4)
    assert not np.array_equal(together[0].scores[:5], together[1].scores[:5])


def test_too_little_memory_on_a_gpu_means_smaller_parts_and_then_the_cpu(bundle, image, monkeypatch, messages, capsys):
    """The device is one by name alone: its memory is never large enough."""
    expected = SPPDetector(bundle).detect(image, -10)
    detector = SPPDetector(bundle)
    detect_on, chunks, moved = detector.detect_on, [], []
    monkeypatch.setattr(SPPDetector, "device", property(lambda self: torch.device("cpu" if moved else "cuda")))
    monkeypatch.setattr(SPPDetector, "_move", lambda self, device: moved.append(device))

    def tight(maps, windows, threshold):
        if not moved:
            chunks.append(detector.features.chunk)
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return detect_on(maps, windows, threshold)

    monkeypatch.setattr(detector, "detect_on", tight)
    assert detector.detect(image, -10) == expected
    assert (chunks, moved) == ([256, 128, 64], ["cpu"])
    parts, cpu = capsys.readouterr().err.splitlines()
    assert parts == "warning: the memory of cuda is too small: windows are pooled in smaller parts from now on"
    assert cpu == "warning: the memory of cuda is too small: the CPU does the work from now on"


def test_several_images_at_a_time_are_one_after_the_other_where_memory_is_short(
    bundle, image, monkeypatch, messages, capsys
):
    detector = SPPDetector(bundle)
    images = [image, image[:, ::-1].copy(), image[10:]]
    windows = [detector.propose(one) for one in images]
    expected = [detector.detect(one, -10) for one in images]
    together = detector.detect_batch(images, -10, windows)
    for found, alone in zip(together, expected, strict=True):
        assert len(found) > 5
        np.testing.assert_allclose(found.scores, alone.scores, atol=1e-4)
        np.testing.assert_allclose(found.boxes, alone.boxes, atol=1e-2)
    tried = []

    def tight(images):
        tried.append(len(images))
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(detector, "maps_of", tight)
    for _ in range(2):
        assert detector.detect_batch(images, -10, windows) == expected
    assert tried == [3]
    assert capsys.readouterr().err == (
        "warning: the memory of cpu is too small: it has one photograph at a time from now on\n"
    )


def test_too_little_memory_of_the_cpu_is_an_error(bundle, image, monkeypatch):
    detector = SPPDetector(bundle)

    def tight(maps, windows, threshold):
        raise torch.OutOfMemoryError("no more")

    monkeypatch.setattr(detector, "detect_on", tight)
    with pytest.raises(torch.OutOfMemoryError, match="no more"):
        detector.detect(image)

"""Detection in many files with overlapping stages: the same as one by one, with few images in memory."""

import threading
from contextlib import closing

import numpy as np
import pytest
import torch
from reference.stream import detect_files as one_by_one
from sppnet import SPPDetector
from sppnet.data.detections import Detections
from sppnet.data.errors import ImageError
from sppnet.data.formats import ImageDetections
from sppnet.data.image import write_image
from sppnet.detector.detection import stream
from sppnet.detector.detection.bundle import Bundle
from sppnet.detector.detection.combination import CombinedDetector
from sppnet.detector.detection.stream import AHEAD, BEHIND, detect_files
from sppnet.detector.options import DetectOptions

PATIENCE = 30  # seconds until a test that waits for another thread gives up


@pytest.fixture(scope="module")
def detectors(features):
    """One detector, with box regression, and a combination of two."""

    def detector(seed):
        generator = torch.Generator().manual_seed(seed)
        return SPPDetector(
            Bundle(
                backbone=features.backbone.name,
                layer=features.backbone.layer,
                class_names=("a", "b"),
                features=features.options,
                detection=DetectOptions(max_windows=60),
                convolutions=features.backbone.state(),
                score_weights=torch.randn(2, features.width, generator=generator) / features.width**0.5,
                score_intercepts=torch.zeros(2),
                box_weights=torch.randn(2, features.width, 4, generator=generator) / features.width,
                box_intercepts=torch.zeros(2, 4),
            )
        )

    return {"one": detector(0), "combination": CombinedDetector([detector(1), detector(2)])}


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    """Images of many shapes between files that are none."""
    folder = tmp_path_factory.mktemp("files")
    random = np.random.default_rng(0)
    sizes = [(90, 120), (61, 47), (1, 1), (600, 640), (3, 200), (70, 70)]
    files = []
    for number, size in enumerate(sizes):
        files.append(folder / f"{number}.png")
        # Blocks, so that there are segments to find in them.
        blocks = random.integers(0, 256, (-(-size[0] // 20), -(-size[1] // 20), 3), np.uint8)
        write_image(files[-1], blocks.repeat(20, axis=0).repeat(20, axis=1)[: size[0], : size[1]])
    (folder / "broken.png").write_bytes(files[0].read_bytes()[:200])
    (folder / "text.png").write_text("no picture")
    files[2:2] = [folder / "broken.png"]
    files[4:4] = [folder / "text.png", folder / "missing.png"]
    return files


def facts(result):
    """All that a result says, as something that can be compared."""
    if isinstance(result, ImageError):
        return str(result)
    found = result.detections
    arrays = [(part.dtype, part.shape, part.tobytes()) for part in (found.boxes, found.scores, found.labels)]
    return result.file, result.id, result.width, result.height, found.class_names, arrays


@pytest.mark.parametrize("kind", ["one", "combination"])
@pytest.mark.parametrize("threshold", [None, -10.0])
def test_same_as_one_by_one_to_the_last_bit(detectors, paths, kind, threshold):
    finished = {"ours": [], "theirs": []}

    def finish(whose):
        return lambda path, image, found: finished[whose].append((path, image.tobytes(), found.to_records()))

    ours = list(detect_files(detectors[kind], paths, threshold, finish("ours")))
    theirs = one_by_one(detectors[kind], paths, threshold, finish("theirs"))
    assert list(map(facts, ours)) == list(map(facts, theirs))
    assert finished["ours"] == finished["theirs"]
    assert [isinstance(result, ImageError) for result in ours] == [0, 0, 1, 0, 1, 1, 0, 0, 0]
    assert threshold is None or all(len(result.detections) for result in ours if isinstance(result, ImageDetections))


@pytest.mark.parametrize("kind", ["one", "combination"])
def test_proposals_given_back_are_the_proposals(detectors, kind):
    """Windows that are given are cut to the image; proposals lie inside it, exactly."""
    detector = detectors[kind]
    # Larger than selective search's working image, by factors that are no whole numbers.
    image = np.random.default_rng(1).integers(0, 256, (31, 67, 3), np.uint8).repeat(17, axis=0).repeat(23, axis=1)
    own, given = detector.detect(image, -10), detector.detect(image, -10, detector.propose(image))
    assert len(own)
    for name in ("boxes", "scores", "labels"):
        np.testing.assert_array_equal(getattr(own, name), getattr(given, name))


def test_no_files():
    assert list(detect_files(None, [])) == []


class Planted:
    """A detector that finds nothing and calls what a test has planted for its stages, with the image's number."""

    def __init__(self, **stages):
        self.stages = stages

    def call(self, stage, image):
        self.stages.get(stage, lambda number: None)(int(image[0, 0, 0]))

    def propose(self, image):
        self.call("propose", image)
        return np.zeros((0, 4), np.float32)

    def detect(self, image, threshold, windows):
        self.call("detect", image)
        return Detections.empty(("a",))


@pytest.fixture
def read(monkeypatch):
    """The numbers of the images read so far; the "file" of an image is its number."""
    numbers = []

    def read_image(number):
        numbers.append(number)
        return np.full((1, 1, 3), number, np.uint8)

    monkeypatch.setattr(stream, "read_image", read_image)
    return numbers


def test_stages_of_different_files_are_at_work_at_once(read):
    """The network waits for the next image to be proposed, and the finishing of an image for the network's next."""
    proposed, detected = ([threading.Event() for _ in range(6)] for _ in range(2))

    def detect(number):
        assert proposed[min(number + AHEAD, 5)].wait(PATIENCE)
        detected[number].set()

    def finish(number, image, found):
        assert detected[min(number + BEHIND, 5)].wait(PATIENCE)

    detector = Planted(propose=lambda number: proposed[number].set(), detect=detect)
    assert [int(result.file) for result in detect_files(detector, range(6), finish=finish)] == list(range(6))


def test_few_images_are_in_memory(read):
    finished, beyond_the_network, unfinished = [], [], []

    def detect(number):
        beyond_the_network.append(len(read) - 1 - number)
        unfinished.append(number - len(finished))

    with closing(
        detect_files(Planted(detect=detect), range(40), finish=lambda number, *_: finished.append(number))
    ) as results:
        for taken, _ in enumerate(results, start=1):
            # However long the caller takes over a result, the network goes no further.
            assert len(unfinished) <= taken + BEHIND
            assert len(read) <= taken + BEHIND + AHEAD
    assert max(beyond_the_network) <= AHEAD
    assert max(unfinished) <= BEHIND + 1
    assert read == finished == list(range(40))


@pytest.mark.parametrize("stage", ["propose", "detect", "finish"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_an_error_of_any_stage_ends_all(read, stage, error):
    def fail(number, *_):
        if number == 3:
            raise error("planted")

    threads = set(threading.enumerate())
    planted = {stage: fail}
    finish = planted.pop("finish", None)
    results = detect_files(Planted(**planted), range(99), finish=finish)
    with closing(results), pytest.raises(error, match="planted"):
        list(results)
    assert set(threading.enumerate()) == threads
    assert len(read) < 10


def test_leaving_early_ends_all(read):
    threads = set(threading.enumerate())
    with closing(detect_files(Planted(), range(99))) as results:
        assert next(results).file == "0"
    assert set(threading.enumerate()) == threads
    assert len(read) <= 1 + BEHIND + AHEAD

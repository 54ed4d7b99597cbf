"""Pipelined detection in many files: same results as one by one, with few images in memory."""

import math
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import numpy as np
import pytest
import torch
from PIL import Image
from random_models import random_model
from reference.stream import detect_files as one_by_one
from sppnet import SPPDetector
from sppnet.data.detections import Detections
from sppnet.data.errors import ImageError
from sppnet.data.formats import ImageDetections
from sppnet.data.image import read_image, write_image
from sppnet.detector.detection import stream
from sppnet.detector.detection.combination import CombinedDetector
from sppnet.detector.detection.stream import AHEAD, SPARE, TOGETHER, detect_files

PATIENCE = 30  # seconds until a test that waits for another thread gives up


@pytest.fixture
def threads(monkeypatch):
    """Sets the number of torch's threads for the test, whatever the memory; it must be the same after it."""
    monkeypatch.setattr(stream, "available", lambda: math.inf)
    before, wanted = torch.get_num_threads(), []
    yield lambda number: torch.set_num_threads(number) or wanted.append(number)
    with ThreadPoolExecutor(1) as another:
        found = torch.get_num_threads(), another.submit(torch.get_num_threads).result()
    torch.set_num_threads(before)
    assert not wanted or found == (wanted[-1], wanted[-1])


@pytest.fixture(scope="module")
def detectors(features):
    """One detector, with box regression, and a combination of two."""

    def detector(seed):
        return SPPDetector(random_model(("a", "b"), features, seed, boxes=1 / features.width))

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
@pytest.mark.parametrize(("threshold", "cores"), [(None, 3), (-10.0, 3), (-10.0, 30), (-10.0, 1)])
def test_same_as_one_by_one_to_the_last_bit(detectors, paths, kind, threshold, cores, threads):
    threads(cores)
    finished = {"ours": [], "theirs": []}

    def finish(whose):
        return lambda path, image, found: finished[whose].append((path, image.tobytes(), found.to_records()))

    ours = list(detect_files(detectors[kind], paths, threshold, finish("ours")))
    theirs = one_by_one(detectors[kind], paths, threshold, finish("theirs"))
    assert list(map(facts, ours)) == list(map(facts, theirs))
    assert sorted(finished["ours"], key=lambda one: paths.index(one[0])) == finished["theirs"]
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


def test_no_files(detectors):
    assert list(detect_files(Planted(), [])) == list(detectors["one"].detect_many([])) == []


@pytest.mark.parametrize("kind", ["one", "combination"])
def test_many_images_give_what_detect_gives_for_each(detectors, paths, kind):
    """Files, opened images and arrays, grey ones too; what cannot be read stands in its place."""
    detector = detectors[kind]
    grey = np.random.default_rng(2).integers(0, 256, (50, 60), np.uint8)
    images = [paths[0], str(paths[1]), read_image(paths[3]), Image.open(paths[6]), grey]
    expected = [detector.detect(image, -10).to_records() for image in images]
    assert all(expected)
    assert [found.to_records() for found in detector.detect_many(images, -10)] == expected
    assert [found.to_records() for found in detector.detect_many(iter(images), -10)] == expected
    results = list(detector.detect_many([paths[0], paths[2], paths[5], grey], -10, on_error="yield"))
    assert [str(result).split(": ")[0] for result in results[1:3]] == [str(paths[2]), str(paths[5])]
    assert [results[i].to_records() for i in (0, 3)] == [expected[0], expected[4]]


def test_a_file_that_cannot_be_read_is_raised_in_its_turn(detectors, paths):
    threads = set(threading.enumerate())
    results = detectors["one"].detect_many([paths[0], paths[2], paths[1]])
    assert len(next(results).boxes.shape) == 2
    with pytest.raises(ImageError, match=f"{paths[2]}: cannot be decoded"):
        next(results)
    assert list(results) == []
    assert set(threading.enumerate()) == threads


@pytest.mark.parametrize("on_error", ["raise", "yield"])
def test_an_array_that_is_no_image_ends_all(detectors, on_error):
    with pytest.raises(ValueError, match="uint8"):
        list(detectors["one"].detect_many([np.zeros((9, 9, 3))], on_error=on_error))


def test_the_call_of_many_is_checked_at_once(detectors, paths):
    one = read_image(paths[0])
    for image in (paths[0], str(paths[0]), Image.open(paths[0]), one, one[:, :, 0]):
        with pytest.raises(ValueError, match="detect_many takes several images"):
            detectors["one"].detect_many(image)
    with pytest.raises(ValueError, match="on_error must be 'raise' or 'yield', not 'skip'"):
        detectors["one"].detect_many([one], on_error="skip")
    stack = np.stack([one, one])
    assert len(list(detectors["one"].detect_many(stack))) == 2


def test_leaving_many_early_ends_all(detectors, threads):
    threads(3)
    running, taken = set(threading.enumerate()), []

    def images():
        for number in range(99):
            taken.append(number)
            yield np.full((40, 40, 3), number, np.uint8)

    for _ in detectors["one"].detect_many(images()):
        break
    assert set(threading.enumerate()) == running
    assert len(taken) <= 3 + SPARE


class Planted:
    """A detector that finds nothing and calls what a test has planted for its stages, with the image's number."""

    def __init__(self, device="cpu", **stages):
        self.device, self.stages, self.batches = torch.device(device), stages, []

    def call(self, stage, image):
        self.stages.get(stage, lambda number: None)(int(image[0, 0, 0]))

    def propose(self, image):
        self.call("propose", image)
        return np.zeros((0, 4), np.float32)

    def detect(self, image, threshold, windows):
        self.call("detect", image)
        return Detections.empty(("a",))

    def detect_batch(self, images, threshold, windows):
        self.batches.append([int(image[0, 0, 0]) for image in images])
        return [self.detect(image, threshold, own) for image, own in zip(images, windows, strict=True)]


@pytest.fixture
def read(monkeypatch):
    """The numbers of the images read so far; the "file" of an image is its number."""
    numbers = []

    def as_image(number):
        numbers.append(number)
        return np.full((1, 1, 3), number, np.uint8)

    monkeypatch.setattr(stream, "as_image", as_image)
    return numbers


@pytest.mark.parametrize(("cores", "images", "of_each"), [(3, 12, 1), (7, 3, 2), (4, 1, 4), (1, 4, 1)])
def test_each_core_has_an_image_of_its_own(read, threads, cores, images, of_each):
    """As many images are in the network at a time; where there are fewer images than cores, each has several."""
    threads(cores)
    together, had = threading.Barrier(min(cores, images)), []

    def detect(number):
        had.append(torch.get_num_threads())
        together.wait(PATIENCE)

    results = detect_files(Planted(detect=detect), range(images))
    assert [int(result.file) for result in results] == list(range(images))
    assert had == [of_each] * images


@pytest.mark.parametrize(("gigabytes", "together"), [(0.1, 1), (1.6, 1), (3.1, 2), (99, 4)])
def test_where_memory_is_short_fewer_images_share_the_cores(read, threads, monkeypatch, gigabytes, together):
    threads(4)
    monkeypatch.setattr(stream, "available", lambda: gigabytes * 1e9)
    at_once, had = threading.Barrier(together), []

    def detect(number):
        had.append(torch.get_num_threads())
        at_once.wait(PATIENCE)

    assert len(list(detect_files(Planted(detect=detect), range(8)))) == 8
    assert had == [4 // together] * 8


def test_cores_are_divided_anew_while_others_are_at_work(read, threads):
    """Another thread, which is new, has all cores for its images, and the last to end gives all back."""
    threads(4)
    had = []
    with closing(detect_files(Planted(), range(99))) as first, ThreadPoolExecutor(1) as another:
        next(first)
        second = detect_files(Planted(detect=lambda number: had.append(torch.get_num_threads())), range(2))
        assert len(another.submit(list, second).result()) == 2
        assert had == [2, 2]
        assert next(first).file == "1"


def test_all_cores_but_one_feed_a_gpu_and_finish_its_images(read, monkeypatch):
    """Three images are proposed and three finished at a time; the network and the results have them in order."""
    monkeypatch.setattr(stream, "cpu_count", lambda: 4)
    together, finished, detected, beyond_the_network = threading.Barrier(3), threading.Barrier(3), [], []

    def detect(number):
        detected.append(number)
        beyond_the_network.append(len(read) - 1 - number)

    detector = Planted("cuda", propose=lambda number: together.wait(PATIENCE), detect=detect)
    results = detect_files(detector, range(30), finish=lambda *_: finished.wait(PATIENCE))
    assert [int(result.file) for result in results] == list(range(30))
    assert detected == list(range(30))
    # Beyond the first image of those that the network has together: the others, and what is read meanwhile.
    assert max(beyond_the_network) <= (TOGETHER - 1) + (AHEAD + 2 + TOGETHER - 1)
    assert [len(batch) for batch in detector.batches] == [TOGETHER] * (30 // TOGETHER) + [30 % TOGETHER]


def test_errors_keep_their_place_among_images_that_a_gpu_has_together(monkeypatch):
    def as_image(number):
        if number % 3 == 1:
            raise ImageError(f"{number}: planted")
        return np.full((2, 2, 3), number, np.uint8)

    monkeypatch.setattr(stream, "as_image", as_image)
    results = list(detect_files(Planted("cuda"), range(11)))
    said = [str(one) if isinstance(one, ImageError) else one.file for one in results]
    assert said == [f"{number}: planted" if number % 3 == 1 else str(number) for number in range(11)]


def test_few_images_are_in_memory(read, threads):
    """However long the caller takes over a result, no more are read."""
    threads(3)
    finished = []
    with closing(detect_files(Planted(), range(40), finish=lambda number, *_: finished.append(number))) as results:
        for taken, result in enumerate(results, start=1):
            assert int(result.file) == taken - 1
            assert len(read) <= taken + 2 + SPARE
    assert sorted(read) == sorted(finished) == list(range(40))


@pytest.mark.parametrize("stage", ["propose", "detect", "finish"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_an_error_of_any_stage_ends_all(read, threads, stage, error):
    threads(3)

    def fail(number, *_):
        if number == 3:
            raise error("planted")

    running = set(threading.enumerate())
    planted = {stage: fail}
    finish = planted.pop("finish", None)
    results = detect_files(Planted(**planted), range(99), finish=finish)
    with closing(results), pytest.raises(error, match="planted"):
        list(results)
    assert set(threading.enumerate()) == running
    assert len(read) < 10


def test_leaving_early_ends_all(read, threads):
    threads(3)
    running = set(threading.enumerate())
    with closing(detect_files(Planted(), range(99))) as results:
        assert next(results).file == "0"
    assert set(threading.enumerate()) == running
    assert len(read) <= 3 + SPARE

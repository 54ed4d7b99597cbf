"""Boxes from other tools: every kind of file, every convention, every kind of error."""

import json

import numpy as np
import pytest
from sppnet.data.errors import InputError
from sppnet.proposals import matlab
from sppnet.proposals.precomputed import CONVENTIONS, PrecomputedBoxes

IMAGE = np.zeros((50, 80, 3), np.uint8)
BOXES = np.array([[10, 20, 30, 40], [0, 0, 80, 50]], np.float32)

scipy_io = pytest.importorskip("scipy.io")


def write(path, boxes):
    """The boxes of one image in the format that the suffix names."""
    if path.suffix == ".npz":
        np.savez(path, boxes=boxes)
    elif path.suffix == ".mat":
        scipy_io.savemat(path, {"boxes": boxes})
    elif path.suffix == ".json":
        path.write_text(json.dumps(boxes.tolist()))
    else:
        comma = ", " if path.suffix == ".csv" else " "
        lines = ["# x1 y1 x2 y2 score", "", *(comma.join(map(str, [*box, 0.5])) for box in boxes.tolist())]
        path.write_text("\n".join(lines))


def write_archive(path, boxes):
    """The boxes of several images by id in one file."""
    if path.suffix == ".npz":
        np.savez(path, **boxes)
    elif path.suffix == ".json":
        path.write_text(json.dumps({image_id: some.tolist() for image_id, some in boxes.items()}))
    else:
        cells = {"boxes": np.empty((1, len(boxes)), object), "images": np.empty((len(boxes), 1), object)}
        for i, (image_id, some) in enumerate(boxes.items()):
            cells["boxes"][0, i] = some
            cells["images"][i, 0] = image_id
        scipy_io.savemat(path, cells)


@pytest.mark.parametrize("suffix", [".npz", ".mat", ".json", ".txt", ".csv"])
@pytest.mark.parametrize("ending", ["", "_boxes"])
def test_a_folder_with_a_file_for_each_image(tmp_path, suffix, ending):
    write(tmp_path / f"cat{ending}{suffix}", BOXES)
    write(tmp_path / f"dog{ending}{suffix}", BOXES[:0])
    proposer = PrecomputedBoxes(tmp_path)
    found = proposer(IMAGE, "cat")
    assert found.dtype == np.float32
    assert np.array_equal(found, BOXES)
    none = proposer(IMAGE, "dog")
    assert none.shape == (0, 4)
    assert none.dtype == np.float32


@pytest.mark.parametrize("suffix", [".npz", ".mat", ".json"])
def test_one_file_for_all_images(tmp_path, suffix):
    path = tmp_path / f"all{suffix}"
    write_archive(path, {"000001": BOXES, "000002": BOXES[::-1], "000003": BOXES[:0]})
    proposer = PrecomputedBoxes(path, max_boxes=1)
    assert np.array_equal(proposer(IMAGE, "000001"), BOXES[:1])
    assert np.array_equal(proposer(IMAGE, "000002"), BOXES[1:])
    assert proposer(IMAGE, "000003").shape == (0, 4)


@pytest.mark.parametrize(
    ("convention", "numbers"),
    [
        ("half-open", [10, 20, 30, 40]),
        ("inclusive", [10, 20, 29, 39]),
        ("voc", [11, 21, 30, 40]),
        ("rcnn", [21, 11, 40, 30]),
        ("xywh", [10, 20, 20, 20]),
    ],
)
def test_conventions(tmp_path, convention, numbers):
    write(tmp_path / "cat.txt", np.array([numbers]))
    assert PrecomputedBoxes(tmp_path, convention)(IMAGE, "cat").tolist() == [[10, 20, 30, 40]]


def test_every_convention_is_tested():
    assert set(CONVENTIONS) == {"half-open", "inclusive", "voc", "rcnn", "xywh"}


def test_unsigned_numbers_do_not_wrap_around(tmp_path):
    scipy_io.savemat(tmp_path / "cat.mat", {"boxes": np.array([[1, 1, 40, 30]], np.uint16)})
    assert PrecomputedBoxes(tmp_path, "rcnn")(IMAGE, "cat").tolist() == [[0, 0, 30, 40]]


def test_boxes_are_cut_to_the_image_and_those_outside_left_out(tmp_path):
    write(tmp_path / "cat.txt", np.array([[-5, -5, 100, 100], [90, 0, 95, 10], [10, 10, 10, 20], [1, 1, 2, 2]]))
    assert PrecomputedBoxes(tmp_path)(IMAGE, "cat").tolist() == [[0, 0, 80, 50], [1, 1, 2, 2]]


def test_options_follow_the_contents(tmp_path):
    write(tmp_path / "cat.txt", BOXES)
    before = PrecomputedBoxes(tmp_path).options()
    assert before == PrecomputedBoxes(tmp_path).options()
    assert before != PrecomputedBoxes(tmp_path, "voc").options()
    assert before != PrecomputedBoxes(tmp_path, max_boxes=5).options()
    write(tmp_path / "cat.txt", BOXES[:1])
    assert before != PrecomputedBoxes(tmp_path).options()
    json.dumps(before)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("cat.txt", b"1 2 3\n", "cat.txt: cannot be read as the boxes of one image"),
        ("cat.txt", b"1 2 3 x\n", "cat.txt: cannot be read"),
        ("cat.txt", b"1 2 3 nan\n", "a coordinate is not a number"),
        ("cat.npz", b"PK\x03\x04 cut", "cat.npz: cannot be read"),
        ("cat.mat", b"no MATLAB file", "cat.mat: cannot be read"),
        ("cat.json", b"{", "cat.json: cannot be read"),
    ],
)
def test_a_damaged_file_is_named(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        PrecomputedBoxes(tmp_path)(IMAGE, "cat")


@pytest.mark.parametrize(
    ("name", "content"),
    [("all.npz", b"PK\x03\x04 cut"), ("all.mat", b"none"), ("all.json", b"[1]"), ("all.json", b'{"a": 3}')],
)
def test_a_damaged_archive_is_named_at_once(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=rf"{name}: cannot be read as boxes by image id"):
        PrecomputedBoxes(tmp_path / name)


def test_pickles_are_never_opened(tmp_path):
    np.savez(tmp_path / "cat.npz", boxes=np.array([{"a": 1}], dtype=object))
    with pytest.raises(InputError, match="allow_pickle=False"):
        PrecomputedBoxes(tmp_path)(IMAGE, "cat")


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(InputError, match="nowhere: no such file or folder of boxes"):
        PrecomputedBoxes(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"no boxes in this folder; expected files with .npz, .mat"):
        PrecomputedBoxes(tmp_path)
    (tmp_path / "boxes.xml").write_text("<a/>")
    with pytest.raises(InputError, match=r"come as .npz, .json or .mat, not as .xml"):
        PrecomputedBoxes(tmp_path / "boxes.xml")
    write(tmp_path / "cat.txt", BOXES)
    with pytest.raises(InputError, match=r"no boxes for image 'dog'; expected dog with one of .npz"):
        PrecomputedBoxes(tmp_path)(IMAGE, "dog")
    write_archive(tmp_path / "all.json", {"cat": BOXES})
    with pytest.raises(InputError, match="no boxes for image 'dog' among 1 images"):
        PrecomputedBoxes(tmp_path / "all.json")(IMAGE, "dog")
    with pytest.raises(InputError, match="looked up by image id"):
        PrecomputedBoxes(tmp_path)(IMAGE)


def test_options_are_checked(tmp_path):
    write(tmp_path / "cat.txt", BOXES)
    with pytest.raises(InputError, match="convention must be one of half-open, inclusive"):
        PrecomputedBoxes(tmp_path, "matlab")
    with pytest.raises(InputError, match="max_boxes must be at least 1"):
        PrecomputedBoxes(tmp_path, max_boxes=0)


@pytest.mark.parametrize("compressed", [False, True])
def test_a_mat_file_cut_off_anywhere_is_named(tmp_path, compressed):
    path = tmp_path / "cat.mat"
    scipy_io.savemat(path, {"boxes": BOXES}, do_compression=compressed)
    whole = path.read_bytes()
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError, match=r"cat\.mat: cannot be read"):
            PrecomputedBoxes(tmp_path)(IMAGE, "cat")


def test_matlab_7_3_is_named(tmp_path):
    path = tmp_path / "cat.mat"
    path.write_bytes(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + b"\x00" * 400)
    with pytest.raises(InputError, match=r"cat\.mat: cannot be read .*v7\.3 .*save it with -v7"):
        PrecomputedBoxes(tmp_path)(IMAGE, "cat")


def test_a_crash_of_the_reader_costs_one_file(tmp_path, monkeypatch):
    """scipy's reader has been seen to end the process on damaged files."""
    for name in "ab":
        scipy_io.savemat(tmp_path / f"{name}.mat", {"boxes": BOXES})
    boxes = PrecomputedBoxes(tmp_path)
    image = np.zeros((100, 100, 3), np.uint8)
    first = boxes(image, "a")
    reader = matlab._process
    reader.kill()
    reader.wait()
    with pytest.raises(InputError, match=r"a\.mat: cannot be read .*damaged: it crashes the reader"):
        boxes(image, "a")
    np.testing.assert_array_equal(boxes(image, "b"), first)


@pytest.mark.corpus
def test_damaged_matlab_files_are_refused_or_read(tmp_path):
    random = np.random.default_rng(0)
    files = []
    for compressed in (False, True):
        path = tmp_path / "whole.mat"
        scipy_io.savemat(path, {"boxes": BOXES, "more": np.array([[BOXES]], object)}, do_compression=compressed)
        files.append(path.read_bytes())
        path.unlink()
    messages = []
    for number in range(1000):
        content = bytearray(files[number % 2])
        for place in random.integers(0, len(content), random.integers(1, 6)):
            content[place] = random.integers(256)
        (tmp_path / "a.mat").write_bytes(content)
        try:
            PrecomputedBoxes(tmp_path)(np.zeros((100, 100, 3), np.uint8), "a")
        except InputError as error:
            messages.append(str(error))
    assert messages
    assert all("a.mat: cannot be read" in message and "\n" not in message for message in messages)

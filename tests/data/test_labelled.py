from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sppnet.data.errors import ImageError, InputError
from sppnet.data.image import write_image
from sppnet.data.labelled import LabelledImage, LabelledImages, merged

NAMES = ("cat", "cow", "dog")


def single(labels, names=NAMES, prefix="", **options):
    """A single-label set; the files are called by their place."""
    images = [LabelledImage(Path(f"{prefix}{place}.png"), np.array([label])) for place, label in enumerate(labels)]
    return LabelledImages(images, names, multi_label=False, **options)


def several(*images, names=NAMES):
    """A multi-label set of images given as (labels, ignored)."""
    examples = [
        LabelledImage(Path(f"{place}.png"), np.array(labels, np.int64), np.array(ignored, np.int64))
        for place, (labels, ignored) in enumerate(images)
    ]
    return LabelledImages(examples, names, multi_label=True)


def places(images):
    return [int(image.path.stem) for image in images]


@pytest.fixture
def photograph(tmp_path):
    """5 x 7 pixels, each of which tells its row and column."""
    image = np.zeros((5, 7, 3), np.uint8)
    image[..., 0], image[..., 1] = np.mgrid[:5, :7]
    write_image(tmp_path / "a.png", image)
    return tmp_path / "a.png"


def region(path, *box):
    return LabelledImage(path, np.array([0]), box=box)


def test_a_whole_photograph(photograph):
    example = LabelledImage(photograph, np.array([0]))
    assert example.image.shape == (5, 7, 3)
    assert example.name == str(photograph)
    assert (example.ignored.shape, example.ignored.dtype) == ((0,), np.int64)


@pytest.mark.parametrize(
    ("box", "rows", "columns"),
    [
        ((1, 2, 4, 5), (2, 5), (1, 4)),
        ((1.9, 2.1, 3.1, 2.2), (2, 3), (1, 4)),  # outwards
        ((-3, -0.5, 70, 2), (0, 2), (0, 7)),  # over the edge
        ((2, 3, 2, 3), (3, 4), (2, 3)),  # without area
        ((-9, 1, -4, 2), (1, 2), (0, 1)),  # beside the photograph
        ((7, 5, 9, 9), (4, 5), (6, 7)),
    ],
)
def test_a_region_is_rounded_outwards_and_cut_to_the_photograph(photograph, box, rows, columns):
    image = region(photograph, *box).image
    assert (image[0, 0, 0], image[-1, -1, 0] + 1) == rows
    assert (image[0, 0, 1], image[-1, -1, 1] + 1) == columns
    assert image.shape == (rows[1] - rows[0], columns[1] - columns[0], 3)


def test_a_region_of_one_pixel_photographs(tmp_path):
    write_image(tmp_path / "dot.png", np.full((1, 1, 3), 7, np.uint8))
    assert region(tmp_path / "dot.png", -2.5, 0.2, 3, 0.3).image.tolist() == [[[7, 7, 7]]]


def test_a_region_does_not_hold_the_photograph_in_memory(photograph):
    assert region(photograph, 0, 1, 7, 3).image.base is None


def test_a_region_has_a_name_of_its_own():
    assert region(Path("a.png"), 1, 2.5, 30, 40).name == "a.png [1 2.5 30 40]"


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(ImageError, match=r"no\.png: no such file"):
        _ = region(tmp_path / "no.png", 0, 0, 1, 1).image


def test_labels_of_a_single_label_set():
    data = single([2, 0, 0])
    assert (data.labels.tolist(), data.labels.dtype) == ([2, 0, 0], np.int64)
    assert data.targets.tolist() == [[0, 0, 1], [1, 0, 0], [1, 0, 0]]
    assert data.targets.dtype == np.int8
    assert (len(data), data[1].path, [image.path for image in data][2]) == (3, Path("1.png"), Path("2.png"))


def test_targets_of_a_multi_label_set():
    data = several(([0, 2], []), ([], [1]), ([1], [0, 2]), ([], []))
    assert data.targets.tolist() == [[1, 0, 1], [0, -1, 0], [-1, 1, -1], [0, 0, 0]]
    with pytest.raises(ValueError, match="this one is multi-label; use targets"):
        _ = data.labels


def test_an_empty_set_keeps_shapes_and_types():
    data = single([])
    assert (data.labels.shape, data.labels.dtype) == ((0,), np.int64)
    assert (data.targets.shape, data.targets.dtype) == ((0, 3), np.int8)
    for part in (*data.split(0.5, 0), *several().split(0.5, 0), data.subset([]), data.only(["dog"]), merged([data])):
        assert len(part) == 0


def test_a_subset_keeps_the_order_asked_for():
    data = single([2, 0, 1], warnings=["1 x thing"])
    part = data.subset(np.array([2, 0]))
    assert (places(part), part.labels.tolist(), part.class_names) == ([2, 0], [1, 2], NAMES)
    assert (part.multi_label, part.warning_lines()) == (False, ["1 x thing"])
    assert len(data) == 3


def test_what_no_set_can_be_is_refused():
    image = LabelledImage(Path("a.png"), np.array([0, 1]))
    with pytest.raises(ValueError, match=r"one label and none ignored, got \[0, 1\] and \[\]: a.png"):
        LabelledImages([image], NAMES, multi_label=False)
    with pytest.raises(ValueError, match=r"one label and none ignored, got \[0\] and \[1\]: a.png"):
        LabelledImages([LabelledImage(Path("a.png"), np.array([0]), np.array([1]))], NAMES, multi_label=False)
    with pytest.raises(ValueError, match="labels must be 0 to 2, got 0 to 3"):
        single([0, 3])
    with pytest.raises(ValueError, match="labels must be 0 to 2, got -1 to 0"):
        several(([0], [-1]))
    with pytest.raises(ValueError, match="class_names must differ, got"):
        single([], names=("cat", "cat"))


def test_a_split_takes_its_share_of_every_class():
    data = single([0] * 20 + [1] * 10 + [2] * 5)
    rest, held = data.split(0.2, seed=3)
    assert np.bincount(held.labels).tolist() == [4, 2, 1]
    assert places(rest) == sorted(set(range(35)) - set(places(held)))
    assert places(held) == sorted(places(held))
    assert (rest.class_names, held.class_names) == (NAMES, NAMES)


def test_a_split_depends_on_the_seed_alone():
    data = single([0] * 20 + [1] * 20 + [2] * 20)
    draws = [places(data.split(0.3, seed)[1]) for seed in (1, 1, 2)]
    assert draws[0] == draws[1] != draws[2]
    # Every image has its chance.
    assert {place for seed in range(60) for place in places(data.split(0.3, seed)[1])} == set(range(60))


def test_a_part_of_nothing_is_empty():
    for data in (single([0, 0, 1]), several(([0], []), ([], [1]))):
        rest, held = data.split(0, seed=0)
        assert (len(rest), len(held)) == (len(data), 0)


def test_small_classes_are_held_out_by_turns():
    """Tenths of four are less than a half, and yet a tenth of the whole must be held out."""
    names = tuple(map(str, range(10)))
    data = single(np.repeat(np.arange(10), 4), names)
    held = [data.split(0.1, seed)[1].labels.tolist() for seed in range(60)]
    assert all(len(set(labels)) == 4 for labels in held)
    assert {label for labels in held for label in labels} == set(range(10))


def test_a_class_of_one_image_gives_none():
    data = single([0] * 10 + [1])
    assert all(places(data.split(0.9, seed)[0])[-1] == 10 for seed in range(20))


def test_a_share_without_a_remainder_is_not_rounded_up():
    """Half of 1, 4 and 1: the classes of one image give none, and the other no more than its half for that."""
    rest, held = single([0, 1, 1, 1, 1, 2]).split(0.5, 0)
    assert (held.labels.tolist(), rest.labels.tolist()) == ([1, 1], [0, 1, 1, 2])
    assert np.bincount(single([0] * 10 + [1] * 2).split(0.7, 0)[1].labels).tolist() == [7, 1]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, 5), max_size=60), st.floats(0, 0.99), st.integers(0, 5))
def test_splits_of_any_set(labels, part, seed):
    data = single(labels, tuple("abcdef"))
    rest, held = data.split(part, seed)
    assert sorted(places(rest) + places(held)) == list(range(len(labels)))
    assert set(rest.labels.tolist()) == set(labels)
    counts = np.bincount(labels, minlength=6)
    taken = np.bincount(held.labels, minlength=6)
    share = part * counts
    assert (taken <= np.ceil(share)).all()
    assert (taken >= np.minimum(np.floor(share), np.maximum(counts - 1, 0))).all()
    assert len(held) <= round(part * len(labels))


def test_a_multi_label_set_is_split_at_random():
    data = several(*[([0], [])] * 9, ([1], []))
    draws = [places(data.split(0.3, seed)[1]) for seed in range(50)]
    assert all(len(draw) == 3 and draw == sorted(draw) for draw in draws)
    assert {place for draw in draws for place in draw} == set(range(10))
    assert len(several(([0], [])).split(0.9, 0)[0]) == 1


def test_regions_of_one_photograph_stay_together():
    examples = [
        LabelledImage(Path(f"{place}.png"), np.array([label]), box=(0, 0, label + 1, 1))
        for place in range(40)
        for label in (0, 1, 1)
    ]
    data = LabelledImages(examples, NAMES, multi_label=False)
    for seed in range(10):
        rest, held = data.split(0.25, seed)
        assert not set(places(rest)) & set(places(held))
        assert np.bincount(held.labels).tolist() == [10, 20]


def test_a_photograph_that_holds_a_whole_class_stays_in_the_rest():
    examples = [LabelledImage(Path("0.png"), np.array([0]), box=(x, 0, x + 1, 1)) for x in range(4)]
    data = LabelledImages([*examples, *single([1] * 6, prefix="1")], NAMES, multi_label=False)
    for seed in range(10):
        rest, held = data.split(0.5, seed)
        assert np.bincount(rest.labels, minlength=2).tolist() == [4, 3]
        assert held.labels.tolist() == [1, 1, 1]


@pytest.mark.parametrize("part", [-0.1, 1, float("nan")])
def test_a_part_is_a_share(part):
    with pytest.raises(ValueError, match=f"part must be at least 0 and less than 1, got {part}"):
        single([0]).split(part, 0)


def test_renamed_gives_the_labels_of_another_list():
    data = several(([0, 2], []), ([1], [0])).renamed(["dog", "bird", "cow", "cat"])
    assert data.class_names == ("dog", "bird", "cow", "cat")
    assert data.targets.tolist() == [[1, 0, 0, 1], [0, 0, 1, -1]]
    with pytest.raises(InputError, match="unknown class 'dog'; did you mean 'dogs'"):
        single([0]).renamed(["cat", "cow", "dogs"])
    with pytest.raises(InputError, match="unknown class 'cat'; expected one of x, y"):
        single([0]).renamed(["x", "y"])
    with pytest.raises(InputError, match="expected one or more different names"):
        single([0]).renamed(["cat", "cow", "dog", "cat"])


def test_only_some_classes_of_a_single_label_set():
    data = single([0, 1, 2, 0]).only(["dog", "cat"])
    assert (data.class_names, data.labels.tolist(), places(data)) == (("dog", "cat"), [1, 0, 1], [0, 2, 3])


def test_only_some_classes_of_a_multi_label_set():
    data = several(([0, 2], [1]), ([1], []), ([], [2])).only(["dog", "cow"])
    assert data.targets.tolist() == [[1, -1], [0, 1], [-1, 0]]


def test_only_refuses_classes_that_are_none():
    with pytest.raises(InputError, match="unknown class 'dogg'; did you mean 'dog'"):
        single([0]).only(["dogg"])
    with pytest.raises(InputError, match="one or more different names"):
        single([0]).only(["cat", "cat"])
    with pytest.raises(InputError, match="one or more different names"):
        single([0]).only([])
    many = tuple(f"class{index}" for index in range(1000))
    with pytest.raises(InputError, match=r"unknown class 'xyz'; expected one of class0, .*, class19, \.\.\.$"):
        single([0], many).only(["xyz"])


def test_merged_sets_share_classes_by_name():
    first = single([1, 0], ("dog", "cat"), prefix="1", warnings=["1 x one"])
    second = single([0, 1], ("cat", "ant"), prefix="2", warnings=["1 x two"])
    data = merged([first, second])
    assert data.class_names == ("dog", "cat", "ant")
    assert (places(data), data.labels.tolist()) == ([10, 11, 20, 21], [1, 0, 1, 2])
    assert data.warning_lines() == ["1 x one", "1 x two"]
    assert first.labels.tolist() == [1, 0]


def test_only_single_label_sets_can_be_merged():
    with pytest.raises(ValueError, match="one or more single-label sets, got single-label, multi-label"):
        merged([single([0]), several(([0], []))])
    with pytest.raises(ValueError, match="one or more single-label sets, got none"):
        merged([])

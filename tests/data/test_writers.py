"""Layouts that are written: read again, they hold the same photographs and boxes."""

import numpy as np
import pytest
from sppnet.data.errors import InputError
from sppnet.data.image import write_image
from sppnet.data.open import open_sets
from sppnet.data.sample import Sample, SampleList
from sppnet.data.splits import split_single
from sppnet.data.writers import WRITERS, write_layout

CLASSES = ("cat", 'it\'s a dog: "yes"', "Kätzchen #3")


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    """Two sets of photographs of several sizes, with boxes of any fraction, and some without."""
    folder, rng = tmp_path_factory.mktemp("sets"), np.random.default_rng(0)
    made = {}
    for name, count in (("train", 5), ("test", 3)):
        samples = []
        for number in range(count):
            height, width = rng.integers(40, 900, 2)
            path = folder / name / f"{number}.jpg"
            path.parent.mkdir(exist_ok=True)
            write_image(path, rng.integers(0, 256, (int(height), int(width), 3), np.uint8))
            objects = number % 3 * 2
            first = rng.random((objects, 2)) * [width - 20, height - 20]
            boxes = np.concatenate([first, first + 2 + rng.random((objects, 2)) * 17], axis=1).astype(np.float32)
            if objects:
                boxes[0] = [0, 0, width, height]
            labels = rng.integers(len(CLASSES), size=objects)
            samples.append(Sample(f"{name}/{number}", path, boxes, labels, np.zeros(objects, bool)))
        made[name] = SampleList(samples, CLASSES)
    return made


def places(folder, layout, name):
    """Dataset and image folder of a set that was written."""
    return (folder / f"{name}.json", folder / "images") if layout == "coco" else (folder, None)


def read(folder, layout, names):
    """The sets that were written, read again with all classes."""
    found = {}
    for name in names:
        dataset, images = places(folder, layout, name)
        found[name] = open_sets(dataset, images, CLASSES)[name]
    return found


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("layout", WRITERS)
def test_written_and_read_and_written_again(sets, tmp_path, layout):
    once, twice = tmp_path / "once", tmp_path / "twice"
    counts, tally = write_layout(sets, layout, once, quiet=True)
    assert counts == {"train": 5, "test": 3}
    # Both sets have a 0.jpg.
    assert tally.counts == {"photograph renamed, as another has its name": 3}
    found = read(once, layout, sets)
    for name, of_set in sets.items():
        assert len(found[name]) == len(of_set)
        for sample, again in zip(of_set, found[name], strict=True):
            np.testing.assert_allclose(again.boxes, sample.boxes, rtol=0, atol=1e-6)
            assert again.labels.tolist() == sample.labels.tolist()
            assert again.path.read_bytes() == sample.path.read_bytes()
        assert found[name].warnings == {}
    assert write_layout(found, layout, twice, quiet=True)[1].counts == {}
    assert contents(twice) == contents(once)


@pytest.mark.parametrize("other", WRITERS)
@pytest.mark.parametrize("layout", WRITERS)
def test_from_each_layout_to_each_other(sets, tmp_path, layout, other):
    write_layout(sets, layout, tmp_path / "one", quiet=True)
    write_layout(read(tmp_path / "one", layout, sets), other, tmp_path / "other", quiet=True)
    found = read(tmp_path / "other", other, sets)
    for name, of_set in sets.items():
        for sample, again in zip(of_set, found[name], strict=True):
            np.testing.assert_allclose(again.boxes, sample.boxes, rtol=0, atol=1e-6)
            assert again.labels.tolist() == sample.labels.tolist()


@pytest.mark.parametrize(("layout", "kept"), [("voc", True), ("coco", True), ("yolo", False)])
def test_difficult_objects(sets, tmp_path, layout, kept):
    (first, *_), lost = [sample for sample in sets["train"] if len(sample.boxes)], "difficult object, which YOLO"
    one = Sample(first.id, first.path, first.boxes, first.labels, np.arange(len(first.boxes)) == 1)
    _, tally = write_layout({"train": SampleList([one], CLASSES)}, layout, tmp_path / "new", quiet=True)
    assert read(tmp_path / "new", layout, ["train"])["train"][0].difficult.tolist() == [False, kept]
    assert [line.startswith(f"1 x {lost}") for line in tally.lines()] == [True] * (not kept)


def test_sets_that_yolo_does_not_know(sets, tmp_path):
    train, test = list(sets["train"]), list(sets["test"])

    def written(folder, **named):
        chosen = {name: SampleList(samples, CLASSES) for name, samples in named.items()}
        counts, tally = write_layout(chosen, "yolo", tmp_path / folder, quiet=True)
        assert set(counts) == {path.name for path in (tmp_path / folder / "images").iterdir()}
        return sorted(counts), tally.counts

    assert written("a", train=train[:3], val=train[3:], trainval=train) == (["train", "val"], {})
    assert written("b", trainval=train[:2], test=train[2:4]) == (["test", "train"], {})
    assert written("c", photographs=train) == (["train"], {})
    left_out = {"set left out, as YOLO has train, val and test": 1}
    assert written("d", train=train[:2], more=test[:1])[1].items() >= left_out.items()


def test_a_photograph_that_cannot_be_read_is_left_out(sets, tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"no photograph")
    broken = Sample("broken", tmp_path / "broken.jpg", np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros(0))
    for layout in WRITERS:
        counts, tally = write_layout(
            {"train": SampleList([broken, sets["train"][1]], CLASSES)}, layout, tmp_path / layout
        )
        assert (counts, tally.counts) == ({"train": 1}, {"photograph that cannot be read, left out": 1})
        assert len(read(tmp_path / layout, layout, ["train"])["train"]) == 1


def test_only_a_new_folder_is_written(sets, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    for folder in (tmp_path, tmp_path / "mine.txt"):
        with pytest.raises(InputError, match="is there already; expected a new folder, or an empty one"):
            write_layout(sets, "voc", folder)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_split_keeps_near_duplicates_together(tmp_path):
    rng = np.random.default_rng(0)
    samples = []
    for number in range(10):
        picture = np.kron(rng.integers(0, 200, (6, 8, 3)), np.ones((10, 10, 1))).astype(np.uint8)
        for copy in range(1 + number % 3):
            path = tmp_path / f"{number}-{copy}.png"
            write_image(path, picture + np.uint8(10 * copy))
            nothing = np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros(0, bool)
            samples.append(Sample(path.stem, path, *nothing))
    dataset = SampleList(samples, ("cat",))
    seen = set()
    for seed in range(5):
        parts = split_single({"all": dataset}, 0.7, seed, "here")
        assert list(parts) == ["trainval", "test"]
        ids = {name: [sample.id for sample in part] for name, part in parts.items()}
        assert sorted(ids["trainval"] + ids["test"]) == sorted(sample.id for sample in dataset)
        groups = [{one.split("-")[0] for one in part} for part in ids.values()]
        assert not groups[0] & groups[1]
        assert abs(len(ids["trainval"]) - 0.7 * len(dataset)) <= 3
        assert ids == {
            name: [one.id for one in part] for name, part in split_single({"all": dataset}, 0.7, seed, "here").items()
        }
        seen.add(tuple(ids["test"]))
    assert len(seen) > 1

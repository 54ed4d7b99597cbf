import json
import tracemalloc

import pytest
from sppnet.data import formats
from sppnet.data.detections import Detections
from sppnet.data.errors import InputError
from sppnet.data.formats import ImageDetections, Results
from sppnet.data.journal import Journal

NAMES = ("cat", "dog")
HEADER = {"model": "animals", "classes": NAMES, "threshold": 0.5}


def image(name, *scores):
    found = Detections([[0, 0, 10.5, 20]] * len(scores), scores, [1] * len(scores), NAMES, scores)
    return ImageDetections(name, 50, 40, found)


def written(path, *images, header=HEADER):
    with Journal(path, header) as journal:
        for one in images:
            journal.add(one)
    return path


def again(path, header=HEADER):
    with Journal(path, header, resume=True) as journal:
        return {one.file: one for one in journal.images(journal.places, calibrated=True)}


def test_results_are_there_as_soon_as_they_are_added(tmp_path):
    path = tmp_path / "a.jsonl"
    with Journal(path, HEADER) as journal:
        journal.add(image("a.jpg", 0.1, 0.7))
        lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert lines == [{**HEADER, "classes": ["cat", "dog"]}, image("a.jpg", 0.1, 0.7).to_record()]


def test_a_later_run_has_the_same_results_and_goes_on(tmp_path):
    names = ["a.jpg", "b \udcb0.jpg"]
    path = written(tmp_path / "a.jsonl", *(image(name, 1 / 3) for name in names))
    with Journal(path, HEADER, resume=True) as journal:
        earlier = journal.images([*reversed(names), "other.jpg"], calibrated=True)
        journal.add(image("c.jpg"))
    assert [one.file for one in earlier] == [*reversed(names)]
    assert all(one.detections == image(one.file, 1 / 3).detections for one in earlier)
    assert list(again(path)) == [*names, "c.jpg"]


def test_images_with_an_error_are_to_be_done_again(tmp_path):
    path = tmp_path / "a.jsonl"
    with Journal(path, HEADER) as journal:
        journal.fail("a.jpg", "no such file")
        journal.add(image("b.jpg"), "cannot be drawn")
        journal.add(image("c.jpg"))
        journal.fail("c.jpg", "gone")
        journal.fail("d.jpg", "no such file")
        journal.add(image("d.jpg", 0.5))
    assert list(again(path)) == ["d.jpg"]


def test_a_run_killed_at_any_byte_loses_one_image_at_most(tmp_path):
    whole = written(tmp_path / "whole.jsonl", image("a.jpg", 0.1), image("b.jpg", 0.2)).read_bytes()
    ends = [place + 1 for place, byte in enumerate(whole) if byte == ord("\n")]
    path = tmp_path / "cut.jsonl"
    for length in range(len(whole) + 1):
        path.write_bytes(whole[:length])
        with Journal(path, HEADER, resume=True) as journal:
            assert len(journal.places) == max(0, sum(end <= length for end in ends) - 1)
            for one in (image("a.jpg", 0.1), image("b.jpg", 0.2)):
                if one.file not in journal.places:
                    journal.add(one)
        assert path.read_bytes() == whole


def test_results_can_be_read_again_and_again_in_any_order(tmp_path):
    with Journal(tmp_path / "a.jsonl", HEADER) as journal:
        for one in (image("a.jpg", 0.9, 0.2), image("b.jpg"), image("c.jpg", 0.4)):
            journal.add(one)
        journal.add(image("d.jpg", 0.3), "cannot be drawn")
        journal.fail("e.jpg", "no photograph")
    images = journal.images(["c.jpg", "d.jpg", "e.jpg", "a.jpg", "b.jpg"], calibrated=True)
    for _ in range(2):
        assert [one.file for one in images] == ["c.jpg", "d.jpg", "a.jpg", "b.jpg"]
    assert (len(images), images[2].file, [one.file for one in images[1:3]]) == (4, "a.jpg", ["d.jpg", "a.jpg"])
    assert images[-1].detections.calibrated
    assert not journal.images(["b.jpg"], calibrated=False)[0].detections.calibrated
    best = journal.images(["a.jpg"], True, lambda found: found[found.scores > 0.5])
    assert [len(one.detections) for one in best] == [1]


def test_memory_does_not_grow_with_the_results(tmp_path):
    with Journal(tmp_path / "a.jsonl", HEADER) as journal:
        for number in range(2000):
            journal.add(image(f"{number}.jpg", *[0.5] * 10))
    images = journal.images(list(journal.places), calibrated=True)
    tracemalloc.start()
    results = Results("animals", NAMES, images, {})
    formats.write_detections_json(tmp_path / "a.json", results)
    formats.write_csv(tmp_path / "a.csv", results)
    formats.write_coco(tmp_path / "coco.json", results)
    formats.write_voc(tmp_path / "voc", results)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 500_000 < (tmp_path / "a.json").stat().st_size / 5
    assert len(formats.read_detections_json(tmp_path / "a.json").images) == 2000


def test_without_resuming_the_file_is_written_over(tmp_path):
    path = written(tmp_path / "a.jsonl", image("a.jpg"))
    assert list(again(written(path, image("b.jpg")))) == ["b.jpg"]


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ({**HEADER, "threshold": 0.6}, "another threshold (0.5, now 0.6)"),
        ({**HEADER, "classes": ("cat",)}, 'another classes (["cat", "dog"], now ["cat"])'),
        ({"model": "animals", "classes": NAMES}, "another threshold (0.5, now null)"),
    ],
)
def test_results_of_other_options_are_refused_and_stay(tmp_path, header, message):
    path = written(tmp_path / "a.jsonl", image("a.jpg"))
    before = path.read_bytes()
    with pytest.raises(InputError) as error:
        Journal(path, header, resume=True)
    assert message in str(error.value)
    assert str(error.value).startswith(f"{path}: ")
    assert path.read_bytes() == before


@pytest.mark.parametrize("line", ["", "x", "[]", "{}", '{"file": 1, "width": 2}', "[" * 9000, '{"detections": [{}]}'])
@pytest.mark.parametrize("place", [0, 1])
def test_other_files_are_refused(tmp_path, line, place):
    path = written(tmp_path / "a.jsonl")
    path.write_text([line + "\n", path.read_text() + line + "\n"][place])
    with pytest.raises(InputError, match="start anew without --resume"):
        again(path)

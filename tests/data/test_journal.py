import json

import pytest
from sppnet.data.detections import Detections
from sppnet.data.errors import InputError
from sppnet.data.formats import ImageDetections
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
        return journal.earlier


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
        earlier = dict(journal.earlier)
        journal.add(image("c.jpg"))
    assert list(earlier) == names
    assert all(found.detections == image(name, 1 / 3).detections for name, found in earlier.items())
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
            assert len(journal.earlier) == max(0, sum(end <= length for end in ends) - 1)
            for one in (image("a.jpg", 0.1), image("b.jpg", 0.2)):
                if one.file not in journal.earlier:
                    journal.add(one)
        assert path.read_bytes() == whole


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

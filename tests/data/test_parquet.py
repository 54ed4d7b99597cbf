import json
import sys
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest
from sppnet.data.detections import Detections
from sppnet.data.errors import InputError
from sppnet.data.formats import ImageDetections, Results
from sppnet.data.parquet import Parts, Row, check_pyarrow, read_rows, rows_of, write_parquet, write_rows

pa = pytest.importorskip("pyarrow")
import pyarrow.parquet as pq  # noqa: E402

NAMES = ("cat", "dog", "ünic ode")
HEADER = {"model": "m", "version": "1", "classes": list(NAMES)}


def random_images(count, seed, probable):
    rng = np.random.default_rng(seed)
    images = []
    for number in range(count):
        found = rng.integers(0, 4)
        detections = Detections(
            rng.random((found, 4), np.float32) * 1000,
            rng.normal(size=found),
            rng.integers(0, 3, found),
            NAMES,
            rng.random(found) if probable else None,
        )
        images.append(ImageDetections(f"folder/{number}.jpg", *map(int, rng.integers(1, 5000, 2)), detections))
    return images


def whole(row):
    return row.error is None


def same(one, other):
    assert (one.file, one.error) == (other.file, other.error)
    assert (one.image is None) == (other.image is None)
    if one.image is not None:
        # JSON has the shortest decimals: equal text is equal bits.
        assert json.dumps(one.image.to_record()) == json.dumps(other.image.to_record())


@pytest.mark.parametrize("probable", [True, False])
@pytest.mark.parametrize("count", [0, 1, 7, 2500])
def test_what_is_written_is_read_back(tmp_path, count, probable):
    failed = {"folder/0.jpg": "cannot be drawn", "none.jpg": "no such file"}
    results = Results("m", NAMES, random_images(count, seed=count, probable=probable), failed)
    write_parquet(tmp_path / "a.parquet", results)
    rows = list(read_rows(tmp_path / "a.parquet", NAMES))
    assert len(rows) == count + (2 if count == 0 else 1)
    for one, other in zip(rows, rows_of(results), strict=True):
        same(one, other)
    metadata = json.loads(pq.read_schema(tmp_path / "a.parquet").metadata[b"sppnet"])
    assert metadata == {"model": "m", "version": results.version, "classes": list(NAMES)}
    before = (tmp_path / "a.parquet").read_bytes()
    write_parquet(tmp_path / "a.parquet", results)
    assert (tmp_path / "a.parquet").read_bytes() == before


def test_others_read_it(tmp_path):
    found = Detections([[1, 2, 3, 4.5]], [0.25], [1], NAMES, [0.75])
    images = [ImageDetections("a.jpg", 30, 20, found), ImageDetections("b\udcff.jpg", 3, 2, found[:0])]
    write_parquet(tmp_path / "a.parquet", Results("m", NAMES, images, {"c.jpg": "no"}))
    first, second, third = pq.read_table(tmp_path / "a.parquet").to_pylist()
    detection = {"label": "dog", "score": 0.25, "probability": 0.75, "box": [1, 2, 3, 4.5]}
    assert first == {"file": "a.jpg", "width": 30, "height": 20, "error": None, "detections": [detection]}
    assert second == {"file": "b\\xff.jpg", "width": 3, "height": 2, "error": None, "detections": []}
    assert third == {"file": "c.jpg", "width": None, "height": None, "error": "no", "detections": None}
    plain = replace(images[0], detections=found.replace(probabilities=None))
    write_parquet(tmp_path / "b.parquet", Results("m", NAMES, [plain], {}))
    assert pq.read_table(tmp_path / "b.parquet").to_pylist()[0]["detections"] == [{**detection, "probability": None}]


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"x": [1]}), path)
    with pytest.raises(InputError, match=r"a\.parquet: not results of sppnet; expected its columns"):
        list(read_rows(path, NAMES))
    write_rows(path, [Row("a", random_images(9, 0, True)[0], None)] * 9, HEADER)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(300):
        damaged = bytearray(whole[: rng.integers(0, len(whole))] if rng.random() < 0.2 else whole)
        for _ in range(rng.integers(1, 4)):
            if damaged:
                damaged[rng.integers(len(damaged))] = rng.integers(256)
        path.write_bytes(damaged)
        with suppress(InputError):
            list(read_rows(path, NAMES))
    with pytest.raises(InputError, match=r"none\.parquet: .*No such file"):
        list(read_rows(tmp_path / "none.parquet", NAMES))


def test_a_class_that_the_model_has_not_is_refused(tmp_path):
    write_rows(tmp_path / "a.parquet", [Row("a", one, None) for one in random_images(9, 0, True)], HEADER)
    with pytest.raises(InputError, match=r"a\.parquet: not a Parquet file of sppnet's results"):
        list(read_rows(tmp_path / "a.parquet", NAMES[:1]))


def test_parts_are_written_whole_and_read_together(tmp_path):
    parts, images = Parts(tmp_path / "parts", HEADER), random_images(6, 1, True)
    assert (parts.paths, list(parts.read()), parts.keep(whole)) == ([], [], set())
    parts.write([Row(one.file, one, None) for one in images[:3]])
    parts.write([Row(one.file, one, None) for one in images[3:5]] + [Row("broken.jpg", None, "damaged")])
    again = parts.write([Row(one.file, one, None) for one in images[:3]])
    assert again in parts.paths
    assert len(parts.paths) == 2
    assert sorted(row.file for row in parts.read()) == ["broken.jpg", *(one.file for one in images[:5])]


def test_photographs_with_an_error_are_done_again(tmp_path):
    parts, images = Parts(tmp_path / "parts", HEADER), random_images(4, 1, True)
    parts.write([Row(images[0].file, images[0], None), Row("broken.jpg", None, "damaged")])
    parts.write([Row(images[1].file, images[1], "cannot be drawn")])
    parts.write([Row(one.file, one, None) for one in images[2:]])
    done = {images[0].file, images[2].file, images[3].file}
    assert parts.keep(whole) == done
    assert {row.file for row in parts.read()} == done
    assert parts.keep(whole) == done


def test_without_pyarrow_it_is_said_how_to_install_it(monkeypatch):
    check_pyarrow()
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(InputError, match=r"^Parquet needs pyarrow: pip install 'sppnet\[parquet\]'$"):
        check_pyarrow()

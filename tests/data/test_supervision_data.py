"""Objects like those of the package supervision, which is not needed for them."""

from types import SimpleNamespace

import numpy as np
import pytest
from sppnet.data.errors import InputError
from sppnet.data.image import write_image
from sppnet.data.open import open_dataset


def detections(boxes, labels):
    """As supervision.Detections: without an object class_id may be None."""
    return SimpleNamespace(
        xyxy=np.array(boxes, np.float32).reshape(-1, 4), class_id=np.array(labels) if labels else None, mask=None
    )


@pytest.fixture
def dataset(tmp_path):
    for name in ("a.jpg", "b.jpg"):
        write_image(tmp_path / name, np.zeros((30, 40, 3), np.uint8))
    annotations = {
        str(tmp_path / "a.jpg"): detections([[5, 6, 25, 16], [0, 0, 50, 10]], [1, 0]),
        str(tmp_path / "b.jpg"): detections([], []),
    }
    return SimpleNamespace(classes=["cat", "dog"], annotations=annotations)


def test_photographs_and_objects(dataset, tmp_path):
    data = open_dataset(dataset)
    assert (data.class_names, [sample.path.name for sample in data]) == (("cat", "dog"), ["a.jpg", "b.jpg"])
    np.testing.assert_array_equal(data[0].boxes, [[5, 6, 25, 16], [0, 0, 40, 10]])
    assert data[0].labels.tolist() == [1, 0]
    assert data[1].boxes.shape == (0, 4)
    assert data.warnings == {"box partly outside the image, cut to it": 1}
    assert open_dataset(dataset, classes=["dog"])[0].labels.tolist() == [0]


def test_a_damaged_photograph_does_not_cost_the_others(dataset, tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"no photograph")
    data = open_dataset(dataset)
    assert [sample.path.name for sample in data] == ["b.jpg"]
    assert data.warnings == {"photograph that cannot be read, left out": 1}


def test_what_cannot_be_used_is_named(dataset):
    with pytest.raises(InputError, match="int: no data set; expected a path or a supervision"):
        open_dataset(3)
    dataset.annotations["gone.jpg"] = detections([], [])
    with pytest.raises(InputError, match=r"gone\.jpg: no such file"):
        open_dataset(dataset)

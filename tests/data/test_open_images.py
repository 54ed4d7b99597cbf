"""Open Images' CSV files, as they are published, and what is wrong with them."""

import numpy as np
import pytest
from sppnet.data.errors import InputError
from sppnet.data.image import write_image
from sppnet.data.open import open_dataset
from sppnet.data.open_images import OpenImagesDataset

BOXES = """ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,IsGroupOf,IsDepiction,IsInside
000002b66c9c498e,xclick,/m/01yrx,1,0.1,0.5,0.2,1.0,0,1,0,0,0
000002b66c9c498e,xclick,/m/0bt9lr,1,0,0.25,0,0.5,0,1,1,0,0
0000048549557964,activemil,/m/0bt9lr,1,0.5,0.75,0.5,0.75,0,0,0,0,0
ffff000000000000,activemil,/m/0bt9lr,1,0.5,0.75,0.5,0.75,0,0,0,0,0
"""

NAMES = '/m/01yrx,Cat\n/m/0bt9lr,Dog\n/m/04yx4,"Man, grown"\n'


@pytest.fixture
def folder(tmp_path):
    for name in ("000002b66c9c498e.jpg", "more/0000048549557964.jpg", "more/unlisted.jpg"):
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        write_image(tmp_path / "photos" / name, np.zeros((50, 100, 3), np.uint8))
    (tmp_path / "boxes.csv").write_text(BOXES)
    return tmp_path


def test_the_photographs_that_are_there_count(folder):
    (folder / "oidv7-class-descriptions-boxable.csv").write_text("LabelName,DisplayName\n" + NAMES)
    for images in (None, folder / "photos"):
        data = open_dataset(folder / "boxes.csv", "any", images)
        assert isinstance(data, OpenImagesDataset)
        assert (data.class_names, data.warnings) == (("Cat", "Dog"), {})
        assert [sample.path.stem for sample in data] == ["000002b66c9c498e", "0000048549557964"]
        np.testing.assert_allclose(data[0].boxes, [[10, 10, 50, 50], [0, 0, 25, 25]], atol=1e-4)
        assert (data[0].labels.tolist(), data[0].difficult.tolist()) == ([0, 1], [False, True])
    assert open_dataset(folder / "boxes.csv", classes=["Dog"])[0].labels.tolist() == [0]


def test_without_descriptions_classes_have_their_codes(folder):
    assert open_dataset(folder / "boxes.csv").class_names == ("/m/01yrx", "/m/0bt9lr")


def test_a_damaged_photograph_does_not_cost_the_others(folder):
    (folder / "photos/000002b66c9c498e.jpg").write_bytes(b"no photograph")
    data = open_dataset(folder / "boxes.csv")
    assert (len(data), data.warnings) == (1, {"photograph that cannot be read, left out": 1})


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("XMin", "left", "line 2 has no XMin; expected Open Images' boxes"),
        (",0.1,", ",a,", "line 2 has no box in fractions"),
        (",0.1,", ",nan,", "line 2 has no box in fractions"),
        (",0.1,", ",410,", "line 2 has no box in fractions"),
        ("0000", "aaaa", "no photograph of its ImageIDs is in"),
        (BOXES, "", "no photograph of its ImageIDs is in"),
    ],
)
def test_what_cannot_be_used_is_named(folder, old, new, message):
    (folder / "boxes.csv").write_text(BOXES.replace(old, new))
    with pytest.raises(InputError, match=rf"boxes\.csv: {message}"):
        open_dataset(folder / "boxes.csv")


@pytest.mark.parametrize("old", ["-3", "-410"])
def test_boxes_far_outside_are_no_fractions(folder, old):
    (folder / "boxes.csv").write_text(BOXES.replace(",0.1,", f",{old},"))
    with pytest.raises(InputError, match="line 2 has no box in fractions"):
        open_dataset(folder / "boxes.csv")


def test_names_are_the_same_in_every_normal_form(folder):
    (folder / "photos/000002b66c9c498e.jpg").rename(folder / "photos/cafe\u0301.jpg")
    (folder / "boxes.csv").write_text(BOXES.replace("000002b66c9c498e", "caf\u00e9"), encoding="utf-8")
    assert len(open_dataset(folder / "boxes.csv")) == 2


def test_a_missing_folder_is_named(folder):
    with pytest.raises(InputError, match="nowhere: no such folder; expected the images of"):
        open_dataset(folder / "boxes.csv", images=folder / "nowhere")

from unicodedata import normalize

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sppnet.data.cleaning import Tally
from sppnet.data.errors import ImageError, InputError
from sppnet.data.voc import VOCDataset, find_voc_root, image_sets, read_annotation, write_annotation

BOX = "<bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox>"


def thing(name, *corners, extra=""):
    return f"<object><name>{name}</name>{extra}{BOX.format(*corners)}</object>"


def annotation(*objects, filename="", size=(100, 80)):
    declared = "<size><width>{}</width><height>{}</height></size>".format(*size) if size else ""
    return f"<annotation><filename>{filename}</filename>{declared}{''.join(objects)}</annotation>"


class Devkit:
    """A data set in VOC's layout, made by hand; images are 100 x 80."""

    def __init__(self, root):
        self.root = root
        for part in ("JPEGImages", "Annotations", "ImageSets/Main"):
            (root / part).mkdir(parents=True)

    def add(self, id, *objects, suffix=".jpg", size=(100, 80), filename=None, xml=None):
        path = self.root / "JPEGImages" / f"{id}{suffix}"
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (100, 80)).save(path)
        path = self.root / "Annotations" / f"{id}.xml"
        path.parent.mkdir(exist_ok=True)
        text = annotation(*objects, filename=filename or f"{id}.jpg", size=size) if xml is None else xml
        path.write_text(text, encoding="utf-8")

    def list(self, text, name="train"):
        (self.root / "ImageSets/Main" / f"{name}.txt").write_bytes(text.encode())

    def open(self, classes=None, name="train"):
        return VOCDataset(self.root, name, classes)


@pytest.fixture
def devkit(tmp_path):
    return Devkit(tmp_path / "VOC2007")


def only(devkit, *objects, **options):
    """The data set of one image with these objects."""
    devkit.add("a", *objects, **options)
    devkit.list("a\n")
    return devkit.open()


def test_a_whole_set(devkit):
    devkit.add("a", thing("dog", 1, 1, 100, 80), thing("cat", 11, 21, 30, 40, extra="<difficult>1</difficult>"))
    devkit.add("b")
    devkit.list("a\nb\n")
    data = devkit.open()
    assert data.class_names == ("cat", "dog")
    assert (len(data), [sample.id for sample in data]) == (2, ["a", "b"])
    first, second = data
    np.testing.assert_array_equal(first.boxes, [[0, 0, 100, 80], [10, 20, 30, 40]])
    assert first.labels.tolist() == [1, 0]
    assert first.difficult.tolist() == [False, True]
    assert (first.boxes.dtype, first.labels.dtype, first.difficult.dtype) == (np.float32, np.int64, bool)
    assert first.image.shape == (80, 100, 3)
    assert (second.boxes.shape, second.labels.shape, second.labels.dtype) == ((0, 4), (0,), np.int64)
    assert data.warnings == {}
    assert data[-1].id == "b"


def test_classes_asked_for_come_in_their_order_and_drop_the_others(devkit):
    devkit.add("a", thing("dog", 1, 1, 9, 9), thing("cat", 2, 2, 9, 9), thing("cow", 3, 3, 9, 9))
    devkit.list("a\n")
    data = devkit.open(["dog", "unicorn", "cat"])
    assert data.class_names == ("dog", "unicorn", "cat")
    assert data[0].labels.tolist() == [0, 2]
    np.testing.assert_array_equal(data[0].boxes[:, 0], [0, 1])
    for wrong in ([], ["cat", "cat"], [""], "cat"):
        with pytest.raises(InputError, match="expected one or more different names"):
            devkit.open(wrong)


def test_subset_is_a_dataset_of_the_same_kind(devkit):
    for id in "abc":
        devkit.add(id, thing("cat", 0, 1, 9, 9))
    devkit.list("a\nb\nc\n")
    data = devkit.open()
    part = data.subset(np.array([2, 0]))
    assert isinstance(part, VOCDataset)
    assert [sample.id for sample in part] == ["c", "a"]
    assert (part.class_names, part.warnings) == (data.class_names, data.warnings)
    assert len(data) == 3
    assert len(data.subset([])) == 0


CORNERS = st.lists(st.tuples(*[st.one_of(st.integers(0, 500), st.floats(0.125, 500, width=32))] * 4), max_size=4)


@settings(deadline=None)
@given(boxes=CORNERS, difficult=st.lists(st.booleans(), min_size=4, max_size=4))
def test_annotations_there_and_back(tmp_path_factory, boxes, difficult):
    """Half-open to VOC and back, through a file, loses no bit, whatever the coordinates."""
    path = tmp_path_factory.mktemp("voc") / "a.xml"
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    names = ["a <b> & ü"] * len(boxes)
    write_annotation(path, "a.jpg", (375, 500), boxes, names, difficult[: len(boxes)])
    back = read_annotation(path)
    np.testing.assert_array_equal(back.boxes.astype(np.float32), boxes)
    assert (back.filename, back.size, list(back.names)) == ("a.jpg", (375, 500), names)
    assert back.difficult.tolist() == difficult[: len(boxes)]


@given(st.lists(st.tuples(*[st.integers(1, 500)] * 4), min_size=1, max_size=3))
def test_voc_files_there_and_back(tmp_path_factory, corners):
    """VOC's own whole corners come out as the same text."""
    folder = tmp_path_factory.mktemp("voc")
    (folder / "a.xml").write_text(annotation(*(thing("cat", *row) for row in corners)))
    read = read_annotation(folder / "a.xml")
    write_annotation(folder / "b.xml", "", (80, 100), read.boxes, read.names)
    text = (folder / "b.xml").read_text().replace("\n", "").replace("\t", "")
    assert all(BOX.format(*row) in text for row in corners)


def test_fractions_and_fields_left_out_are_normal(devkit):
    data = only(devkit, thing("cat", 1.5, "2.25", " 20.0 ", 30), size=None)
    np.testing.assert_array_equal(data[0].boxes, [[0.5, 1.25, 20, 30]])
    assert data[0].difficult.tolist() == [False]
    assert data.warnings == {}


def test_parts_of_an_object_are_not_its_box(devkit):
    part = f"<part><name>head</name>{BOX.format(50, 50, 60, 60)}</part>"
    np.testing.assert_array_equal(only(devkit, thing("person", 1, 1, 9, 9, extra=part))[0].boxes, [[0, 0, 9, 9]])


def test_boxes_that_cannot_be_used_are_dropped_and_counted(devkit):
    data = only(
        devkit,
        thing("cat", 181, 20, 181, 20),
        thing("cat", 30, 20, 10, 40),
        thing("cat", 200, 10, 240, 30),
        thing("cat", 90, 70, 110, 95, extra="<difficult>1</difficult>"),
        thing("cat", 0, 0, 10, 10),
        thing("cat", 5, 5, 10, 10),
    )
    np.testing.assert_array_equal(data[0].boxes, [[9, 19, 30, 40], [89, 69, 100, 80], [0, 0, 10, 10], [4, 4, 10, 10]])
    assert data[0].difficult.tolist() == [False, True, False, False]
    assert data.warnings == {
        "box with its corners reversed, put right": 1,
        "box without area, dropped": 1,
        "box outside the image, dropped": 1,
        "box partly outside the image, cut to it": 1,
        "box over the image's edge by a pixel at most, cut to it": 1,
    }
    assert data.warning_lines()[1] == "1 x box without area, dropped (first in a.xml)"


def test_an_object_labelled_twice_counts_once(devkit):
    cat, other = thing("cat", 5, 5, 40, 40), thing("dog", 5, 5, 40, 40)
    data = only(devkit, cat, other, cat, thing("cat", 5, 5, 40, 41), cat)
    assert [data.class_names[label] for label in data[0].labels] == ["cat", "dog", "cat"]
    assert data.warnings == {"object labelled twice with the same box, taken once": 2}


@pytest.mark.parametrize("orientation", range(1, 9))
def test_boxes_of_an_unturned_photograph_are_turned_with_it(devkit, orientation):
    # labelImg shows a photograph as it is stored, and declares that size.
    stored = np.zeros((60, 90, 3), np.uint8)
    stored[10:25, 30:70] = 255
    exif = Image.Exif()
    exif[274] = orientation
    data = only(devkit, thing("cat", 31, 11, 70, 25), size=(90, 60))
    Image.fromarray(stored).save(data[0].path, exif=exif, quality=100, subsampling=0)
    data = devkit.open()
    sample = data[0]
    x1, y1, x2, y2 = sample.boxes[0].astype(int)
    if orientation in (5, 6, 7, 8):
        shown = sample.image.mean(axis=2) > 128
        assert shown[y1:y2, x1:x2].all()
        assert shown.sum() == (y2 - y1) * (x2 - x1) == 15 * 40
        assert data.warnings == {"image turned by its EXIF data and labelled unturned, its boxes turned with it": 1}
    else:  # width and height are the same, so nobody can tell
        assert (x1, y1, x2, y2) == (30, 10, 70, 25)


def test_a_lenient_tally_names_what_cannot_be_used(devkit):
    devkit.add("a", thing("cat", 5, 5, 40, 40))
    devkit.add("broken", xml="<annotation>")
    devkit.list("a\nmissing\nbroken\n")
    with pytest.raises(InputError, match="missing"):
        devkit.open()
    tally = Tally(lenient=True)
    assert [sample.id for sample in VOCDataset(devkit.root, "train", tally=tally)] == ["a"]
    assert tally.counts == {"image whose labels or file cannot be used, left out": 2}
    missing, broken = next(iter(tally.places.values()))
    assert ("missing.xml" in missing, "broken.xml: not XML" in broken) == (True, True)


def test_the_image_s_own_size_counts(devkit):
    data = only(devkit, thing("cat", 50, 50, 90, 70), size=(60, 60))
    np.testing.assert_array_equal(data[0].boxes, [[49, 49, 90, 70]])
    assert data.warnings == {"annotated size that is not the image's": 1}


def test_boxes_are_of_the_displayed_image(devkit):
    devkit.add("a", thing("cat", 1, 1, 80, 100), size=None)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (100, 80)).save(devkit.root / "JPEGImages/a.jpg", exif=exif)
    devkit.list("a\n")
    data = devkit.open()
    np.testing.assert_array_equal(data[0].boxes, [[0, 0, 80, 100]])
    assert data[0].image.shape == (100, 80, 3)
    assert data.warnings == {}


@pytest.mark.parametrize("suffix", [".png", ".JPG", ".jpeg", ".webp", ".bmp"])
def test_images_of_other_suffixes_are_found(devkit, suffix):
    assert only(devkit, suffix=suffix)[0].path.name == f"a{suffix}"


def test_the_annotation_s_filename_is_followed_where_the_id_has_several_images(devkit):
    devkit.add("a", suffix=".png")
    devkit.add("a", suffix=".bmp", filename="C:\\photos\\a.bmp")
    devkit.list("a\n")
    assert devkit.open()[0].path.name == "a.bmp"


def test_the_annotation_s_filename_is_followed_where_the_id_has_no_image(devkit):
    devkit.add("b", suffix=".png")
    devkit.add("a", filename="b.png")
    (devkit.root / "JPEGImages/a.jpg").unlink()
    devkit.list("a\n")
    assert devkit.open()[0].path.name == "b.png"


def test_lists_as_found_in_the_wild(devkit):
    for id in ("a", "b", "c", "cup 1", "part/d"):
        devkit.add(id)
    devkit.list("\ufeffa\r\nb  1\r\n\r\nc -1\r\ncup 1\r\ncup 1 -1\r\npart/d\r\n")
    data = devkit.open()
    assert [sample.id for sample in data] == ["a", "b", "c", "cup 1", "part/d"]
    assert data.warnings == {"image listed more than once, taken once": 1}


def test_ids_with_the_suffix_of_their_image(devkit):
    for id in ("a", "b", "c.jpg", "part/d"):
        devkit.add(id)
    devkit.list("a.jpg\nb.JPG  1\nc.jpg\npart\\d.xml\na\n")
    data = devkit.open()
    assert [sample.id for sample in data] == ["a", "b", "c.jpg", "part/d"]
    assert data.warnings == {"image listed more than once, taken once": 1}


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_names_in_another_normal_form_are_the_same(devkit, form):
    devkit.add(normalize(form, "né"), thing("cafe\u0301", 1, 1, 9, 9), thing("café", 3, 3, 9, 9))
    for other in ("NFC", "NFD"):
        devkit.list(normalize(other, "né"))
        data = devkit.open()
        assert (data.class_names, data[0].labels.tolist()) == (("café",), [0, 0])
        assert data[0].path.is_file()
        assert devkit.open(["cafe\u0301"])[0].labels.tolist() == [0, 0]


def test_annotations_in_other_encodings(devkit):
    for id, encoding in (("a", "gb2312"), ("b", "utf-16")):
        devkit.add(id)
        text = f'<?xml version="1.0" encoding="{encoding}"?>{annotation(thing("猫", 1, 1, 9, 9))}'
        (devkit.root / f"Annotations/{id}.xml").write_bytes(text.encode(encoding))
    devkit.list("a\nb")
    assert (devkit.open().class_names, [len(sample.boxes) for sample in devkit.open()]) == (("猫",), [1, 1])


def test_an_empty_list_is_an_empty_set(devkit):
    devkit.list("")
    assert (len(devkit.open()), devkit.open().class_names) == (0, ())


@pytest.mark.parametrize("id", ["../a", "x/../../a", "/etc/a", "C:\\a", "..\\a"])
def test_ids_that_leave_the_folder_are_refused(devkit, id):
    devkit.list(f"{id}\n")
    with pytest.raises(InputError, match=r"train\.txt: .* leaves the folder"):
        devkit.open()


@pytest.mark.parametrize(
    ("id", "message"),
    [
        ("a\0", r"train\.txt: 'a.x00' has control characters"),
        (300 * "a", r"a\.xml: annotation cannot be read"),
        (f"{300 * 'a'} 1", r"a\.xml: annotation cannot be read"),
        (f"{3000 * 'a/'}b.jpg", r"b\.xml: annotation cannot be read"),
        ("\xff", r"train\.txt: not UTF-8 text; expected one image id a line"),
    ],
)
def test_ids_that_no_file_can_have_are_named(devkit, id, message):
    (devkit.root / "ImageSets/Main/train.txt").write_bytes(id.encode("latin1"))
    with pytest.raises(InputError, match=message):
        devkit.open()
    with pytest.raises(InputError, match="no image set"):
        devkit.open(name=300 * "a")


@pytest.mark.parametrize(
    ("xml", "message"),
    [
        ("no xml at all", "not XML"),
        ("<annotation><object>", "not XML"),
        ("", "not XML"),
        ("<html></html>", "root element is <html>; expected <annotation>"),
        ("<annotation><object><name>cat</name></object></annotation>", "an <object> has no <bndbox>"),
        (annotation(f"<object>{BOX.format(1, 1, 2, 2)}</object>"), "an <object> has no <name>"),
        (annotation(thing("cat", 1, "two", 3, 4)), "<ymin> is 'two'; expected a number"),
        (annotation(thing("cat", 1, 1, "nan", 4)), "<xmax> is 'nan'; expected a number"),
        (annotation(thing("cat", 1, 1, "9" * 5000, 4)), "<xmax> is '999.*999'; expected a number"),
        (annotation(thing("cat", 1, 1, 5, "")), "<ymax> is ''; expected a number"),
        ("<!DOCTYPE a [<!ENTITY e 'x'>]><annotation>&e;</annotation>", "declares XML entities"),
    ],
)
def test_annotations_that_cannot_be_used_are_named(devkit, xml, message):
    with pytest.raises(InputError, match=rf"a\.xml: {message}"):
        only(devkit, xml=xml)


def test_what_is_missing_is_named(devkit, tmp_path):
    devkit.add("a")
    devkit.list("a\nb\n")
    with pytest.raises(InputError, match=r"b\.xml: annotation cannot be read \(No such file"):
        devkit.open()
    devkit.add("b")
    (devkit.root / "JPEGImages/b.jpg").unlink()
    with pytest.raises(InputError, match=r"b\.jpg: image not found"):
        devkit.open()
    devkit.list("a\n", "val")
    with pytest.raises(InputError, match="no image set 'test'; its ImageSets/Main has: train, val"):
        devkit.open(name="test")
    with pytest.raises(InputError, match="nowhere: no such folder"):
        VOCDataset(tmp_path / "nowhere", "train")
    with pytest.raises(InputError, match="not in VOC layout; no JPEGImages, Annotations, ImageSets/Main"):
        VOCDataset(devkit.root / "Annotations", "train")


def test_a_damaged_image_is_the_business_of_who_reads_it(devkit):
    """A batch goes on past one bad image, so opening the set does too, if the annotation tells the size."""
    devkit.add("a", thing("cat", 1, 1, 9, 9))
    devkit.list("a\n")
    (devkit.root / "JPEGImages/a.jpg").write_bytes(b"")
    data = devkit.open()
    assert data.warnings == {"image that cannot be read": 1}
    with pytest.raises(ImageError, match=r"a\.jpg: empty file"):
        _ = data[0].image
    devkit.add("a", thing("cat", 1, 1, 9, 9), size=None)
    (devkit.root / "JPEGImages/a.jpg").write_bytes(b"")
    with pytest.raises(ImageError, match=r"a\.jpg: empty file"):
        devkit.open()


def test_the_folder_above_is_enough_where_it_holds_one_set(devkit, tmp_path):
    devkit.list("", "val")
    devkit.list("", "train")
    (tmp_path / "other").mkdir()
    assert find_voc_root(tmp_path) == devkit.root
    assert image_sets(tmp_path) == ["train", "val"]
    Devkit(tmp_path / "VOC2012")
    with pytest.raises(InputError, match=r"several datasets, name one of them: .*VOC2007, .*VOC2012"):
        find_voc_root(tmp_path)

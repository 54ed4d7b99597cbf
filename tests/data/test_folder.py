import numpy as np
import pytest
from PIL import Image
from sppnet.data.errors import InputError
from sppnet.data.folder import FolderDataset, find_images, search_images
from sppnet.data.image import DRAWING, write_image


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """A folder of photographs and other things, made the current one."""
    for name in ("b.jpg", "a.PNG", "sub/deep/c.webp", "sub/a[1].tif", ".hidden/x.jpg", ".y.jpg", "sub/note.md"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".md":
            path.write_text("text")
        else:
            Image.new("RGB", (6, 4)).save(path)
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path / "photos"


def names(*patterns):
    return [path.as_posix() for path in find_images(patterns)]


ALL = ["photos/a.PNG", "photos/b.jpg", "photos/sub/a[1].tif", "photos/sub/deep/c.webp"]


def test_a_folder_is_searched_to_any_depth(tree):
    assert names("photos") == ALL
    assert find_images([tree]) == [tree.parent / name for name in ALL]


def test_files_and_patterns(tree):
    assert names("photos/sub/note.md") == ["photos/sub/note.md"]
    assert names("photos/*.jpg") == ["photos/b.jpg"]
    assert names("photos/*") == ["photos/a.PNG", "photos/b.jpg"]
    assert names("photos/**/*.webp") == ["photos/sub/deep/c.webp"]
    assert names("photos/sub/a[1].tif") == ["photos/sub/a[1].tif"]


def test_none_comes_twice_and_the_order_is_that_of_the_patterns(tree):
    assert names("photos/b.jpg", "photos", "photos/../photos/b.jpg", tree / "b.jpg") == [ALL[1], ALL[0], *ALL[2:]]


@pytest.mark.parametrize("pattern", ["absent.jpg", "photos/*.gif", "empty"])
def test_a_pattern_for_nothing_is_named(tree, pattern):
    with pytest.raises(InputError, match=r"no (such )?image"):
        find_images(["photos", pattern])
    with pytest.raises(InputError) as error:
        find_images([pattern])
    assert str(error.value).startswith(f"{pattern}: ")


def test_a_folder_as_a_dataset(tree):
    data = FolderDataset("photos")
    assert [sample.id for sample in data] == ALL
    assert data.class_names == ()
    assert (data[0].boxes.shape, data[0].labels.shape, data[0].difficult.shape) == ((0, 4), (0,), (0,))
    assert data[0].image.shape == (4, 6, 3)
    assert len(FolderDataset(["photos/a.PNG", "photos/b.jpg"]).subset([1])) == 1


@pytest.fixture
def drawn(tree):
    """Drawings of an earlier run among the photographs, and photographs in a folder of the same name."""
    for name in ("detections/images/b.jpg", "detections/images/new.jpg", "set/images/c.jpg", "set/images/d.png"):
        comment = DRAWING if name.startswith("detections") else b""
        write_image(tree / name, np.zeros((4, 6, 3), np.uint8), comment=comment)
    (tree / "set" / "images" / "broken.jpg").write_bytes(b"")
    return tree


OTHERS = ["photos/set/images/broken.jpg", "photos/set/images/c.jpg", "photos/set/images/d.png"]


def test_earlier_drawings_are_passed_over(drawn, monkeypatch):
    assert names("photos") == sorted(ALL[:2]) + OTHERS + ALL[2:]
    assert names("photos/**/*.jpg") == ["photos/b.jpg", *OTHERS[:2]]
    with pytest.raises(InputError, match=r"no image in this folder \(drawings"):
        find_images(["photos/detections"])
    monkeypatch.chdir(drawn / "detections" / "images")
    with pytest.raises(InputError, match=r"no image in this folder \(drawings"):
        find_images(["."])


def test_a_drawing_that_is_named_is_taken(drawn):
    assert names("photos/detections/images/b.jpg") == ["photos/detections/images/b.jpg"]


def test_a_file_outside_a_folder_of_drawings_is_not_opened(tree, monkeypatch):
    def opened(path):
        raise AssertionError(path)

    monkeypatch.setattr("sppnet.data.folder.is_drawing", opened)
    assert names("photos") == ALL


def test_links_are_followed_and_loops_are_not(tree):
    (tree.parent / "other").mkdir()
    (tree / "elsewhere").symlink_to(tree.parent / "other")
    Image.new("RGB", (6, 4)).save(tree.parent / "other/z.jpg")
    (tree / "sub/up").symlink_to(tree)
    assert names("photos") == [*ALL[:2], "photos/elsewhere/z.jpg", *ALL[2:]]


def test_what_is_missing_does_not_cost_the_others(tree):
    (tree / "link.jpg").symlink_to("nowhere.jpg")
    found = search_images(["photos/*.png", "empty", "photos", "photos/link.jpg"])
    assert [path.as_posix() for path in found.paths] == [*ALL[:2], "photos/link.jpg", *ALL[2:]]
    assert list(found.missing) == ["photos/*.png", "empty"]
    assert found.missing["empty"].startswith("empty: no image in this folder")
    with pytest.raises(InputError, match="empty"):
        search_images(["empty", "absent.jpg"])


def test_formats_that_are_not_read_are_counted(tree):
    for name in ("a.HEIC", "sub/b.heic", "c.nef", "notes.pdf"):
        (tree / name).write_bytes(b"x")
    found = search_images(["photos"])
    assert found.left_out.counts == {
        ".heic file, a format that is not read, left out": 2,
        ".nef file, a format that is not read, left out": 1,
    }
    assert [path.as_posix() for path in found.paths] == ALL


def test_a_gif_and_other_names_of_jpeg(tree):
    for name in ("d.gif", "e.jfif", "f.JPE"):
        Image.new("RGB", (6, 4)).save(tree / name, "GIF" if name == "d.gif" else "JPEG")
    assert names("photos/*.gif", "photos/*.jfif", "photos/*.JPE") == ["photos/d.gif", "photos/e.jfif", "photos/f.JPE"]
    assert all(sample.image.shape == (4, 6, 3) for sample in FolderDataset("photos"))


def test_a_list_has_files_folders_and_patterns_of_the_current_folder_or_its_own(tree):
    (tree / "some.txt").write_text("photos/b.jpg\n\n  sub/deep \r\n*.PNG\nsub/a[1].tif\n")
    assert names("photos/some.txt") == [ALL[1], ALL[3], ALL[0], ALL[2]]
    assert names("photos/a.PNG", tree / "some.txt") == [
        ALL[0], ALL[1], (tree / "sub/deep/c.webp").as_posix(), (tree / "sub/a[1].tif").as_posix(),
    ]  # fmt: skip


def test_what_a_list_lacks_is_named_by_its_line(tree):
    (tree / "some.lst").write_text("photos/b.jpg\ngone.jpg\nempty\n")
    found = search_images(["photos/some.lst", "photos/none.txt"])
    assert [path.as_posix() for path in found.paths] == [ALL[1]]
    assert list(found.missing) == ["gone.jpg", "empty", "photos/none.txt"]
    first, second, third = found.missing.values()
    assert first.startswith("photos/some.lst: line 2: gone.jpg: no such image; expected a file, a folder")
    assert second.startswith("photos/some.lst: line 3: empty: no image in this folder")
    assert third.startswith("photos/none.txt: no such image")
    (tree / "bytes.txt").write_bytes(b"photos/\xff.jpg\nphotos/b.jpg\n")
    assert names_of_found("photos/bytes.txt") == [ALL[1]]
    Image.new("RGB", (6, 4)).save(tree / "two\u2028parts.png")
    (tree / "odd.txt").write_text("photos/two\u2028parts.png\r\n", encoding="utf-8")
    assert names_of_found("photos/odd.txt") == ["photos/two\u2028parts.png"]
    (tree / "empty.txt").write_text("\n")
    with pytest.raises(InputError, match=r"^photos/empty.txt: lists no image$"):
        find_images(["photos/empty.txt"])


def names_of_found(pattern):
    return [path.as_posix() for path in search_images([pattern]).paths]

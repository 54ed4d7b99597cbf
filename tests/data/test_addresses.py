from pathlib import Path

import fsspec
import numpy as np
import pytest
from PIL import Image
from sppnet.data.addresses import Address, addresses_at, fetched_ahead, is_address, local_path, photograph_of
from sppnet.data.errors import ImageError, InputError
from sppnet.data.folder import FolderDataset, find_images, search_images
from sppnet.data.image import as_image, image_size, read_image


@pytest.fixture
def store(tmp_path):
    """Photographs in a file system that is no file system, under an address of their own."""
    memory = fsspec.filesystem("memory")
    Image.fromarray(np.arange(36, dtype=np.uint8).reshape(3, 4, 3)).save(tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()
    for name in ("a.png", "sub/B.PNG", "sub/deep/c d.png", ".hidden/x.png", "sub/.y.png", "note.md"):
        memory.pipe_file(f"/photographs/{name}", content)
    memory.pipe_file("/photographs/broken.png", b"no image")
    yield "memory://photographs"
    memory.rm("/photographs", recursive=True)


def urls(address):
    return [str(one) for one in addresses_at(address, (".png",))]


def test_what_is_an_address():
    assert all(map(is_address, ["s3://bucket/a.jpg", "gs://b", "memory://x", "file:///a", "simplecache+x://y"]))
    assert not any(map(is_address, ["a.jpg", "/a//b", "c:/a", r"c:\a", "://a", "a b://c", Path("s3://bucket")]))
    assert photograph_of("a/b.jpg") == Path("a/b.jpg")
    assert photograph_of("s3://a/b.jpg") == Address("s3://a/b.jpg")
    assert local_path("file:///a/b%20c.jpg") == Path("/a/b c.jpg")
    assert local_path("s3://a/b.jpg") is None


def test_a_folder_a_file_and_a_pattern_are_listed_sorted_and_without_hidden_files(store):
    photographs = [f"memory:///photographs/{name}" for name in ("a.png", "broken.png", "sub/B.PNG", "sub/deep/c d.png")]
    assert urls(store) == urls(f"{store}/") == photographs
    assert urls(f"{store}/a.png") == [f"{store}/a.png"]
    assert urls(f"{store}/note.md") == [f"{store}/note.md"]
    assert urls(f"{store}/sub/*") == photographs[2:3]
    assert urls(f"{store}/**/c*.png") == photographs[3:]


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("memory://nothing", "memory://nothing: no image there; expected a file, a folder or a pattern of .png"),
        ("memory://photographs/*.gif", "memory://photographs/*.gif: no image there"),
        ("nonsense://a/b.png", "nonsense://a/b.png: cannot be listed (Protocol not known: nonsense"),
        ("zip://a.png::memory://b.zip", "files inside of others are not read"),
    ],
)
def test_nothing_there_is_one_line(store, address, said):
    with pytest.raises(InputError) as error:
        urls(address)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_a_photograph_at_an_address_is_read_like_a_file(store, tmp_path):
    address = Address(f"{store}/sub/deep/c d.png")
    assert (str(address), address.stem) == (f"{store}/sub/deep/c d.png", "c d")
    assert np.array_equal(read_image(address), np.array(Image.open(tmp_path / "a.png")))
    assert np.array_equal(as_image(address), read_image(address))
    assert image_size(address) == (3, 4)
    with pytest.raises(ImageError, match=r"^memory://photographs/none.png: no such file$"):
        read_image(Address(f"{store}/none.png"))
    with pytest.raises(ImageError, match=r"^memory://photographs/broken.png: not an image"):
        read_image(Address(f"{store}/broken.png"))
    with pytest.raises(ImageError, match=r"^nonsense://a.png: cannot be read \(Protocol not known"):
        read_image(Address("nonsense://a.png"))


def test_contents_are_fetched_ahead_in_order_and_errors_wait_for_the_reading(store):
    photographs = [Path("a.png"), *(Address(f"{store}/{name}.png") for name in ["a", "none", "sub/.y"] * 20)]
    fetched = list(fetched_ahead(photographs))
    # Equal with and without content: so they are found in tables by either.
    assert fetched == photographs
    assert [one.content is None for one in fetched[1:4]] == [False, True, False]
    closed = fetched_ahead(photographs)
    next(closed)
    closed.close()


def test_addresses_among_files_and_in_lists(store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "all.txt").write_text(f"{store}/a.png\n\na.png\n{(tmp_path / 'a.png').as_uri()}\n{store}/gone.png\n")
    found = search_images(["all.txt", f"{store}/a.png"])
    assert found.paths == [Address(f"{store}/a.png"), Path("a.png")]
    assert list(found.missing.values()) == [f"all.txt: line 5: {store}/gone.png: no image there; expected a file, a "
                                            "folder or a pattern of .jpg, .jpeg, .jpe, .jfif, .png, .webp, .bmp, .tif, "
                                            ".tiff, .gif"]  # fmt: skip
    with pytest.raises(InputError, match="expected files, no addresses"):
        find_images(["a.png", f"{store}/a.png"])
    with pytest.raises(InputError, match="expected files, no addresses"):
        FolderDataset(store)

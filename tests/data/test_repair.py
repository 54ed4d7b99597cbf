"""Pixels that are whole are read, whatever is damaged beside them."""

import zlib
from io import BytesIO

import numpy as np
import pytest
from PIL import Image
from reference.image_files import png_chunk, tiff
from sppnet.data.errors import ImageError
from sppnet.data.image import image_size, orientation_of, read_image

PICTURE = np.arange(6 * 9 * 3, dtype=np.uint8).reshape(6, 9, 3)
AFTER_HEADER = 33  # of a PNG


def saved(format, image=None, **options):
    buffer = BytesIO()
    (image or Image.fromarray(PICTURE)).save(buffer, format, **options)
    return buffer.getvalue()


def with_segment(data, marker, content):
    """The JPEG with one more segment, behind JFIF's."""
    return data[:20] + bytes([0xFF, marker]) + (len(content) + 2).to_bytes(2, "big") + content + data[20:]


TURNED = (274, 3, [6])
BROKEN_EXIF = {
    "a zero denominator": [TURNED, (282, 5, [72, 0]), (283, 5, [0, 0])],
    "a negative number over zero": [TURNED, (282, 10, [2**32 - 1, 0])],
    "text for a number": [TURNED, (282, 2, b"7200\0")],
    "bytes for a number": [TURNED, (282, 1, b"72000")],
    "a directory behind the end": [TURNED, (34665, 4, [10**9])],
    "numbers for text": [(271, 4, [5, 6]), TURNED],
}


@pytest.mark.parametrize("tags", BROKEN_EXIF.values(), ids=BROKEN_EXIF)
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_broken_numbers_in_exif_do_no_harm(tmp_path, tags, format):
    path = tmp_path / "a.jpg"
    exif = b"Exif\0\0" + tiff(tags)
    whole = saved(format)
    path.write_bytes(with_segment(whole, 0xE1, exif) if format == "JPEG" else saved(format, exif=exif))
    np.testing.assert_array_equal(read_image(path), np.rot90(read_image(BytesIO(whole)), -1))
    assert image_size(path) == (9, 6)
    assert orientation_of(path) == 6


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("exif", [b"no directory", tiff([(274, 2, b"six\0")]), tiff([(274, 3, [9])]), b"II*\0\xff\xff"])
def test_an_orientation_that_cannot_be_read_turns_nothing(tmp_path, format, exif):
    path = tmp_path / "a.jpg"
    exif, whole = b"Exif\0\0" + exif, saved(format)
    path.write_bytes(with_segment(whole, 0xE1, exif) if format == "JPEG" else saved(format, exif=exif))
    np.testing.assert_array_equal(read_image(path), read_image(BytesIO(whole)))
    assert image_size(path) == (6, 9)
    assert orientation_of(path) == 1


CHUNKS = {
    "a checksum": png_chunk(b"tEXt", b"a\0b")[:-1] + b"?",
    "gamma": png_chunk(b"gAMA", b"\0\1")[:-1] + b"?",
    "a profile's checksum": png_chunk(b"iCCP", b"a\0\0" + zlib.compress(b"b"))[:-1] + b"?",
    "a profile without data": png_chunk(b"iCCP", b"a\0\0no deflate"),
    "long text": png_chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(2_000_000))),
    "a long profile": png_chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(2_000_000))),
    "resolution": png_chunk(b"pHYs", b"\1"),
    "a private chunk": png_chunk(b"prVt", b"abc")[:-1] + b"?",
}


@pytest.mark.parametrize("chunk", CHUNKS.values(), ids=CHUNKS)
@pytest.mark.parametrize("place", [AFTER_HEADER, -12], ids=["before the pixels", "behind the pixels"])
def test_chunks_beside_the_pixels_of_a_png_may_be_damaged(tmp_path, chunk, place):
    path = tmp_path / "a.png"
    data = saved("PNG", exif=b"Exif\0\0" + tiff([TURNED]))
    path.write_bytes(data[:place] + chunk + data[place:])
    np.testing.assert_array_equal(read_image(path), np.rot90(PICTURE, -1))
    assert image_size(path) == (9, 6)


def test_exif_with_a_wrong_checksum_turns_nothing(tmp_path):
    chunk = png_chunk(b"eXIf", tiff([TURNED]))[:-1] + b"?"
    (tmp_path / "a.png").write_bytes(saved("PNG")[:AFTER_HEADER] + chunk + saved("PNG")[AFTER_HEADER:])
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), PICTURE)


def test_transparency_survives_damage_beside_it(tmp_path):
    palette = Image.new("P", (2, 1))
    palette.putpalette([10, 20, 30, 200, 100, 50])
    palette.putdata([0, 1])
    data = saved("PNG", palette, transparency=0)
    (tmp_path / "a.png").write_bytes(data[:AFTER_HEADER] + CHUNKS["a checksum"] + data[AFTER_HEADER:])
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), [[[255] * 3, [200, 100, 50]]])


SEGMENTS = {
    "a cut profile": (0xE2, b"ICC_PROFILE\0"),
    "a cut JFIF header": (0xE0, b"JFIF\0"),
    "a cut Adobe header": (0xEE, b"Adobe"),
    "a cut Photoshop header": (0xED, b"Photoshop 3.0\0" + b"8BIM\x03\xed"),
}


@pytest.mark.parametrize(("marker", "content"), SEGMENTS.values(), ids=SEGMENTS)
def test_segments_beside_the_pixels_of_a_jpeg_may_be_damaged(tmp_path, marker, content):
    path = tmp_path / "a.jpg"
    exif = b"Exif\0\0" + tiff([TURNED])
    path.write_bytes(with_segment(with_segment(saved("JPEG"), marker, content), 0xE1, exif))
    np.testing.assert_array_equal(read_image(path), np.rot90(read_image(BytesIO(saved("JPEG"))), -1))
    assert image_size(path) == (9, 6)


@pytest.mark.parametrize("kind", [b"IHDR", b"PLTE", b"IDAT"])
def test_damaged_pixels_of_a_png_are_an_error(tmp_path, kind):
    image = Image.fromarray(PICTURE).quantize(8)
    data = bytearray(saved("PNG", image))
    start = data.index(kind)
    end = start + 4 + int.from_bytes(data[start - 4 : start], "big")
    data[end - 1] ^= 1
    (tmp_path / "a.png").write_bytes(CHUNKS["a checksum"].join([data[:AFTER_HEADER], data[AFTER_HEADER:]]))
    with pytest.raises(ImageError, match=r"a\.png: cannot be decoded, perhaps damaged"):
        read_image(tmp_path / "a.png")


@pytest.mark.parametrize("format", ["PNG", "JPEG"])
def test_a_file_cut_short_behind_damage_is_an_error(tmp_path, format):
    data = saved(format, Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)))
    marker, content = SEGMENTS["a cut profile"]
    damaged = (
        with_segment(data, marker, content)
        if format == "JPEG"
        else data[:AFTER_HEADER] + CHUNKS["a checksum"] + data[AFTER_HEADER:]
    )
    path = tmp_path / "a.jpg"
    path.write_bytes(damaged)
    assert read_image(path).shape == (64, 64, 3)
    path.write_bytes(damaged[: len(damaged) // 2])
    with pytest.raises(ImageError, match=r"a\.jpg: cannot be decoded, perhaps damaged or cut short"):
        read_image(path)

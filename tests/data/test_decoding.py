"""Files that are none, and images too large to be read."""

import os
import socket
import struct
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO

import numpy as np
import pytest
from PIL import Image
from reference.image_files import plain_tiff, png, tiff
from sppnet.data.decoding import MAX_PIXELS, pixel_limit
from sppnet.data.errors import ImageError
from sppnet.data.image import image_size, is_drawing, orientation_of, read_image


def saved(format, size=(40, 30), mode="RGB", **options):
    buffer = BytesIO()
    Image.new(mode, size).save(buffer, format, **options)
    return buffer.getvalue()


def make_pipe(path):
    os.mkfifo(path)


def make_socket(path):
    socket.socket(socket.AF_UNIX).bind(str(path))


def make_device(path):
    path.symlink_to("/dev/zero")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes among its files")
@pytest.mark.parametrize("make", [make_pipe, make_socket, make_device])
def test_what_is_no_regular_file_is_refused(tmp_path, monkeypatch, make):
    """Opening a pipe would wait for its writer, and a device may have no end."""
    monkeypatch.chdir(tmp_path)  # a socket's address is short
    path = tmp_path / "a.jpg"
    make(path.relative_to(tmp_path) if make is make_socket else path)
    for read in (read_image, image_size):
        with pytest.raises(ImageError, match=r"a\.jpg: is a pipe, socket or device, expected an image file$"):
            read(path)
    assert orientation_of(path) == 1
    assert not is_drawing(path)


def test_links_to_files_are_followed(tmp_path):
    (tmp_path / "a.png").write_bytes(saved("PNG"))
    (tmp_path / "b.png").symlink_to(tmp_path / "a.png")
    assert read_image(tmp_path / "b.png").shape == (30, 40, 3)


@pytest.mark.parametrize(
    ("format", "options", "weight"),
    [
        ("JPEG", {}, 1),
        ("JPEG", {"progressive": True}, 1.25),
        ("PNG", {}, 1),
        ("BMP", {}, 1),
        ("GIF", {}, 1),
        ("TIFF", {"compression": "tiff_lzw"}, 1),
        ("WEBP", {}, 2.5),
    ],
)
def test_images_of_too_many_pixels_are_refused(tmp_path, format, options, weight):
    path = tmp_path / "a.jpg"
    path.write_bytes(saved(format, **options))
    needed = int(40 * 30 * weight)
    refusal = (
        rf"a\.jpg: 40 x 30 pixels; at most {int((needed - 1) / weight)} are read of {format}, unless --max-pixels "
    )
    refusal += rf"\(in Python: max_pixels\) is {needed} or more$"
    assert read_image(path, max_pixels=needed).shape == (30, 40, 3)
    with pytest.raises(ImageError, match=refusal):
        read_image(path, max_pixels=needed - 1)
    with pixel_limit(needed - 1), ThreadPoolExecutor(1) as pool:
        for read in (read_image, image_size):
            with pytest.raises(ImageError, match=refusal):
                pool.submit(read, path).result()
        with pixel_limit(needed):
            assert read_image(path).shape == (30, 40, 3)
        assert read_image(path, max_pixels=needed).shape == (30, 40, 3)
    assert read_image(path).shape == (30, 40, 3)


def test_a_limit_is_at_least_one_pixel():
    with pytest.raises(ValueError, match="at least 1, not 0"), pixel_limit(0):
        pass


@pytest.mark.parametrize("format", ["JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP"])
def test_the_decoders_own_limit_is_not_asked(tmp_path, monkeypatch, format):
    """It names no file, and is below what telephones take."""
    path = tmp_path / "a.jpg"
    exif = Image.Exif()
    exif[274] = 6
    path.write_bytes(saved(format, (40, 30), exif=exif))
    expected = (30, 40, 3) if format in ("BMP", "GIF") else (40, 30, 3)
    for limit in (1000, 100)[: 1 if format == "WEBP" else 2]:  # Pillow warns of the first, and refuses the second
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert read_image(path).shape == expected
            assert image_size(path) == expected[:2]


def test_a_limit_of_the_decoder_that_remains_is_said_with_a_name(tmp_path, monkeypatch):
    (tmp_path / "a.gif").write_bytes(saved("GIF", disposal=2))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(ImageError, match=r"a\.gif: more pixels than Pillow reads of such a file \(100 x 2\)$"):
        read_image(tmp_path / "a.gif")


def test_a_photograph_of_200_megapixels_is_within_the_limit(tmp_path):
    width, height = 16384, 12288
    data = saved("JPEG").replace(struct.pack(">HH", 30, 40), struct.pack(">HH", height, width), 1)
    path = tmp_path / "a.jpg"
    path.write_bytes(data + bytes(1_000_000))
    assert image_size(path) == (height, width)
    assert width * height < MAX_PIXELS


def jpeg_claim():
    return saved("JPEG").replace(struct.pack(">HH", 30, 40), struct.pack(">HH", 12000, 12000), 1)


def png_claim(width, height):
    data = png(np.zeros((1, 1), np.uint8), 0)
    return data[:16] + (header := struct.pack(">II", width, height) + data[24:29]) + checksum(header) + data[33:]


def checksum(header):
    return struct.pack(">I", zlib.crc32(b"IHDR" + header))


def gif_claim():
    return saved("GIF").replace(struct.pack("<HH", 40, 30), struct.pack("<HH", 12000, 12000))


def bmp_claim():
    return saved("BMP").replace(struct.pack("<II", 40, 30), struct.pack("<II", 12000, 12000))


CLAIMS = {
    "JPEG": jpeg_claim(),
    "PNG": png_claim(12000, 12000),
    "GIF": gif_claim(),
    "BMP": bmp_claim(),
    "TIFF": plain_tiff(bytes(100), 12000, 12000),
    "deflated TIFF": plain_tiff(zlib.compress(bytes(100)), 12000, 12000, compression=8),
}


@pytest.mark.parametrize("read", [read_image, image_size])
@pytest.mark.parametrize("data", CLAIMS.values(), ids=CLAIMS)
def test_more_pixels_than_a_file_can_hold_are_refused(tmp_path, read, data):
    path = tmp_path / "a.jpg"
    path.write_bytes(data)
    with pytest.raises(ImageError, match=rf"a\.jpg: .*: {len(data)} bytes cannot hold 12000 x 12000 pixels$"):
        read(path)


@pytest.mark.parametrize("size", [(1, 178_000_000), (178_000_000, 1)])
def test_endless_sides_are_refused(tmp_path, size):
    path = tmp_path / "a.png"
    path.write_bytes(png_claim(*size))
    with pytest.raises(ImageError, match=rf"a\.png: {size[0]} x {size[1]} pixels; expected 1 to 1000000 a side"):
        read_image(path)


def test_a_tile_far_larger_than_its_image_is_refused(tmp_path):
    tile = zlib.compress(bytes(100))
    tags = [(256, 4, [30]), (257, 4, [30]), (258, 3, [8]), (259, 3, [8]), (262, 3, [1]), (277, 3, [1])]
    tags += [(322, 4, [30000]), (323, 4, [30000]), (324, 4, ["at"]), (325, 4, [len(tile)])]
    (tmp_path / "a.tif").write_bytes(tiff(tags, [tile]))
    with pytest.raises(ImageError, match=r"a\.tif: 30000 x 30000 pixels; at most 250000000 are read of a TIFF's tile"):
        read_image(tmp_path / "a.tif")


@pytest.mark.parametrize(
    ("format", "mode", "options"),
    [
        ("PNG", "RGB", {"optimize": True}),
        ("PNG", "1", {"optimize": True}),
        ("JPEG", "L", {}),
        ("JPEG", "RGB", {"optimize": True, "progressive": True}),
        ("GIF", "P", {}),
        ("WEBP", "RGB", {"lossless": True}),
        ("TIFF", "RGB", {"compression": "tiff_lzw"}),
        ("TIFF", "RGB", {"compression": "tiff_adobe_deflate"}),
        ("TIFF", "RGB", {"compression": "packbits"}),
        ("TIFF", "RGB", {"compression": "jpeg"}),
        ("TIFF", "1", {"compression": "group4"}),
        ("BMP", "1", {}),
    ],
)
def test_large_images_of_one_colour_are_read(tmp_path, format, mode, options):
    """Nothing packs better, and it is not taken for a false claim."""
    path = tmp_path / "a.jpg"
    path.write_bytes(saved(format, (2000, 1500), mode, **options))
    image = read_image(path)
    assert image.shape == (1500, 2000, 3)
    assert not image.any()


def test_a_small_frame_on_a_large_gif_is_read(tmp_path):
    data = bytearray(saved("GIF"))
    data[6:10] = struct.pack("<HH", 4000, 3000)
    (tmp_path / "a.gif").write_bytes(data)
    assert read_image(tmp_path / "a.gif").shape == (3000, 4000, 3)

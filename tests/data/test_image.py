import struct
import warnings
from io import BytesIO

import cv2
import numpy as np
import pytest
from PIL import Image
from reference.image_files import plain_tiff
from sppnet.data.errors import ImageError, InputError, MisuseWarning
from sppnet.data.image import JPEG_SUFFIXES, WRITTEN_SUFFIXES, as_image, image_size, read_image, write_image


@pytest.fixture
def picture():
    """Smooth, so that JPEG keeps it nearly, and different in all eight orientations."""
    rows, columns = np.mgrid[:24, :40]
    return np.stack([rows * 8, columns * 5, 120 + rows - columns], axis=2).astype(np.uint8)


# What EXIF's eight numbers mean: how the stored pixels are to be turned for display.
TURNS = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a),
}


@pytest.mark.parametrize("suffix", WRITTEN_SUFFIXES)
def test_every_format_is_written_and_read(tmp_path, picture, suffix):
    path = tmp_path / f"a{suffix}"
    write_image(path, picture)
    image = read_image(path)
    lossy = suffix in (*JPEG_SUFFIXES, ".webp")
    assert image.dtype == np.uint8
    assert image.flags.writeable
    np.testing.assert_allclose(image.astype(int), picture, atol=12 if lossy else 0)
    assert image_size(path) == (24, 40)
    with open(path, "rb") as file:
        np.testing.assert_array_equal(read_image(file), image)
        assert image_size(file) == (24, 40)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif"])
def test_exif_orientation_is_applied(tmp_path, picture, orientation, suffix):
    path = tmp_path / f"a{suffix}"
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {} if suffix == ".tif" else {"quality": 95, "lossless": True}
    Image.fromarray(picture).save(path, exif=exif, **options)
    expected = TURNS[orientation](picture)
    np.testing.assert_allclose(read_image(path).astype(int), expected, atol=10 if suffix == ".jpg" else 0)
    assert image_size(path) == expected.shape[:2]
    with Image.open(path) as opened:
        np.testing.assert_array_equal(as_image(opened), read_image(path))


def test_grey_palette_and_one_bit_become_colour(tmp_path, picture):
    grey = picture[:, :, 0]
    Image.fromarray(grey).save(tmp_path / "grey.png")
    np.testing.assert_array_equal(read_image(tmp_path / "grey.png"), np.repeat(grey[:, :, None], 3, 2))
    palette = Image.new("P", (2, 1))
    palette.putpalette([10, 20, 30, 200, 100, 50])
    palette.putdata([0, 1])
    palette.save(tmp_path / "palette.png")
    np.testing.assert_array_equal(read_image(tmp_path / "palette.png"), [[[10, 20, 30], [200, 100, 50]]])
    Image.fromarray(grey > 90).save(tmp_path / "bits.png")
    np.testing.assert_array_equal(read_image(tmp_path / "bits.png")[:, :, 2], np.where(grey > 90, 255, 0))


def test_transparent_pixels_lie_on_white(tmp_path):
    rgba = np.array([[[200, 100, 0, 255], [200, 100, 0, 0], [0, 0, 0, 51]]], np.uint8)
    Image.fromarray(rgba).save(tmp_path / "rgba.png")
    np.testing.assert_array_equal(read_image(tmp_path / "rgba.png"), [[[200, 100, 0], [255] * 3, [204] * 3]])
    Image.fromarray(rgba[:, :, 2:]).save(tmp_path / "la.png")
    np.testing.assert_array_equal(read_image(tmp_path / "la.png"), [[[0] * 3, [255] * 3, [204] * 3]])
    palette = Image.new("P", (2, 1))
    palette.putpalette([10, 20, 30, 200, 100, 50])
    palette.putdata([0, 1])
    palette.save(tmp_path / "palette.png", transparency=0)
    np.testing.assert_array_equal(read_image(tmp_path / "palette.png"), [[[255] * 3, [200, 100, 50]]])


def test_cmyk_is_converted(tmp_path):
    inks = np.zeros((16, 32, 4), np.uint8)
    inks[:, :16, 1:3] = 255  # magenta and yellow: red
    inks[:, 16:, 3] = 255  # black
    for name in ("a.jpg", "a.tif"):
        Image.fromarray(inks, mode="CMYK").save(tmp_path / name)
        image = read_image(tmp_path / name).astype(int)
        np.testing.assert_allclose(image[8, 4], [255, 0, 0], atol=6)
        np.testing.assert_allclose(image[8, 28], [0, 0, 0], atol=6)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("widen", [256, 257])
def test_sixteen_bit_becomes_eight(tmp_path, picture, suffix, widen):
    wide = picture.astype(np.uint16) * widen
    path = tmp_path / f"colour{suffix}"
    cv2.imwrite(str(path), wide[:, :, ::-1])
    np.testing.assert_array_equal(read_image(path), picture)
    assert image_size(path) == (24, 40)
    path = tmp_path / f"grey{suffix}"
    cv2.imwrite(str(path), wide[:, :, 0])
    np.testing.assert_array_equal(read_image(path)[:, :, 1], picture[:, :, 0])


def test_a_tiff_that_pillow_misreads_is_read_all_the_same(tmp_path, picture):
    path = tmp_path / "planar.tif"
    planes = [plane.astype("<u2").tobytes() for plane in picture.transpose(2, 0, 1).astype(int) * 257]
    path.write_bytes(plain_tiff(planes, 40, 24, bits=(16, 16, 16), photometric=2, planes=3))
    np.testing.assert_array_equal(read_image(path), picture)
    assert image_size(path) == (24, 40)


def test_sixteen_bits_in_which_zero_is_white(tmp_path, picture):
    grey = picture[:, :, 0]
    path = tmp_path / "negative.tif"
    path.write_bytes(plain_tiff((65535 - grey.astype("<u2") * 257).tobytes(), 40, 24, bits=(16,), photometric=0))
    np.testing.assert_array_equal(read_image(path)[:, :, 1], grey)


def test_a_tiff_of_twelve_bits_is_not_dark(tmp_path):
    values = [4095, 2048, 1024, 0]
    packed = int("".join(f"{value:012b}" for value in values), 2).to_bytes(6, "big")
    (tmp_path / "a.tif").write_bytes(plain_tiff(packed, 4, 1, bits=(12,)))
    assert read_image(tmp_path / "a.tif")[0, :, 0].tolist() == [255, 128, 64, 0]


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("shape", [(5, 6), (5, 6, 3)])
@pytest.mark.parametrize(("most", "dark"), [(255, True), (1023, True), (4095, True), (16383, True), (16384, False)])
def test_fewer_bits_in_a_file_of_sixteen_are_said(tmp_path, suffix, shape, most, dark):
    path = tmp_path / f"a{suffix}"
    cv2.imwrite(str(path), np.full(shape, most, np.uint16))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        np.testing.assert_array_equal(read_image(path), np.full((5, 6, 3), most >> 8))
        read_image(path)
    # Once for a file, though it is read again and again.
    assert [str(one.message).startswith(f"{path}: nearly black") for one in said] == [True] * dark
    assert all(one.category is MisuseWarning for one in said)


def bmp_with_alpha(pixels):
    """A BMP of 32 bits that declares its alpha channel, from RGBA pixels (H, W, 4)."""
    height, width, _ = pixels.shape
    masks = struct.pack("<4I4s", 0xFF0000, 0xFF00, 0xFF, 0xFF000000, b"BGRs")
    header = struct.pack("<IiiHHIIiiII", 108, width, -height, 1, 32, 3, pixels.size, 0, 0, 0, 0) + masks + bytes(48)
    start = 14 + len(header)
    data = pixels[:, :, [2, 1, 0, 3]].tobytes()
    return b"BM" + struct.pack("<IHHI", start + len(data), 0, 0, start) + header + data


def test_an_alpha_channel_that_a_bmp_leaves_empty_is_none(tmp_path, picture):
    rgba = np.concatenate([picture, np.zeros((24, 40, 1), np.uint8)], axis=2)
    path = tmp_path / "a.bmp"
    path.write_bytes(bmp_with_alpha(rgba))
    np.testing.assert_array_equal(read_image(path), picture)
    rgba[3, 4, 3] = 255
    path.write_bytes(bmp_with_alpha(rgba))
    image = read_image(path)
    np.testing.assert_array_equal(image[3, 4], picture[3, 4])
    assert (image != 255).any(axis=2).sum() == 1


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "I;16"])
def test_large_images_are_converted_in_bands(monkeypatch, picture, orientation, mode):
    def read():
        image = Image.fromarray(picture[:, :, 0].astype(np.uint16) * 257) if "I" in mode else shown.convert(mode)
        image.getexif()[274] = orientation
        return as_image(image)

    shown = Image.fromarray(picture)
    shown.putalpha(Image.fromarray(picture[:, :, 1]))
    whole = read()
    monkeypatch.setattr("sppnet.data.image._AT_ONCE", 5 * 40)
    np.testing.assert_array_equal(read(), whole)


def test_no_program_is_run_for_an_image(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n")
    with pytest.raises(ImageError, match=r"a\.jpg: not an image"):
        read_image(tmp_path / "a.jpg")


def test_of_an_animation_the_first_frame_is_read(tmp_path):
    frames = [Image.new("RGB", (4, 3), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "a.webp", save_all=True, append_images=frames[1:], lossless=True)
    assert read_image(tmp_path / "a.webp")[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize("read", [read_image, image_size])
def test_bad_files_are_named(tmp_path, read):
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "text.jpg").write_text("no image at all")
    (tmp_path / "broken.tif").write_bytes(b"II*\0" + bytes(40))
    (tmp_path / "folder.jpg").mkdir()
    for name, problem in [
        ("absent.jpg", "no such file"),
        ("empty.jpg", "empty file"),
        ("text.jpg", "not an image"),
        ("broken.tif", "cannot be decoded"),
        ("folder.jpg", "is a folder"),
    ]:
        with pytest.raises(ImageError, match=f"{name}: .*{problem}"):
            read(tmp_path / name)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".bmp", ".tif"])
def test_files_cut_short_are_refused(tmp_path, suffix):
    rng = np.random.default_rng(0)
    buffer = BytesIO()
    Image.fromarray(rng.integers(0, 256, (64, 64, 3), np.uint8)).save(buffer, Image.registered_extensions()[suffix])
    path = tmp_path / f"cut{suffix}"
    for part in (0.02, 0.3, 0.9):
        path.write_bytes(buffer.getvalue()[: int(len(buffer.getvalue()) * part)])
        with pytest.raises(ImageError, match=f"cut{suffix}"):
            read_image(path)


def test_float_pixels_are_refused(tmp_path):
    Image.fromarray(np.zeros((4, 4), np.float32)).save(tmp_path / "f.tif")
    with pytest.raises(ImageError, match="expected 8 or 16 bit"):
        read_image(tmp_path / "f.tif")


def test_as_image_takes_what_callers_have(tmp_path, picture):
    write_image(tmp_path / "a.png", picture)
    for given in (
        tmp_path / "a.png",
        str(tmp_path / "a.png"),
        Image.fromarray(picture),
        picture,
        picture[:, ::-1][:, ::-1],
    ):
        result = as_image(given)
        np.testing.assert_array_equal(result, picture)
        assert result.flags.c_contiguous
    grey = picture[:, :, 0]
    np.testing.assert_array_equal(as_image(grey), np.stack([grey] * 3, axis=2))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (np.zeros((4, 4, 3)), "must be uint8 .*not float64"),
        (np.zeros((4, 4, 4), np.uint8), r"shape \(H, W, 3\).*not \(4, 4, 4\)"),
        (np.zeros((3,), np.uint8), r"not \(3,\)"),
        (np.zeros((0, 4, 3), np.uint8), "at least one pixel"),
        (None, "not NoneType"),
    ],
)
def test_as_image_says_what_is_wrong(wrong, message):
    with pytest.raises(ValueError, match=message):
        as_image(wrong)


def test_write_image_refuses_a_suffix_that_is_none(tmp_path, picture):
    with pytest.raises(InputError, match=r"a\.txt: no image suffix; expected one of \.jpg"):
        write_image(tmp_path / "a.txt", picture)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_a_jpeg_may_be_read_smaller(tmp_path, suffix):
    """By whole factors, no side below the least length, and turned as ever."""
    exif = Image.Exif()
    exif[274] = 6
    path = tmp_path / f"image{suffix}"
    Image.new("RGB", (800, 480), (200, 100, 50)).save(path, exif=exif)
    assert read_image(path).shape == (800, 480, 3)
    small = read_image(path, least=64)
    assert small.shape == ((200, 120, 3) if suffix == ".jpg" else (800, 480, 3))
    np.testing.assert_allclose(small.mean(axis=(0, 1)), [200, 100, 50], atol=3)

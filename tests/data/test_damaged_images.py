"""Files that nobody meant to be read: thousands of damaged ones, each read or refused by name."""

import struct
import subprocess
import sys
import warnings
from io import BytesIO
from itertools import cycle, islice
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from sppnet.data.errors import ImageError, MisuseWarning
from sppnet.data.image import image_size, orientation_of, read_image

try:  # the process of its own has no conftest
    from reference.image_files import png
except ImportError:
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from reference.image_files import png

resource = pytest.importorskip("resource", reason="this system does not say how much memory a process took")

#: Bytes of memory that one image may take.
MOST = 2_000_000_000


def sound_files():
    """A file of each kind, by name."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:37, :51]
    smooth = np.stack([rows * 6, columns * 5, 120 + rows - columns], axis=2)
    photo = Image.fromarray((smooth + rng.integers(0, 9, smooth.shape)).astype(np.uint8))
    exif = Image.Exif()
    exif[274], exif[271], exif[282] = 6, "maker", 72.0
    clear = photo.convert("RGBA")
    clear.putalpha(photo.convert("L"))
    frames = {"save_all": True, "append_images": [photo.rotate(90), photo.rotate(180)]}
    wide = np.asarray(photo).astype(np.uint16) * 257
    kinds = {
        "jpeg": (photo, "JPEG", {"exif": exif, "icc_profile": bytes(200), "comment": b"a comment"}),
        "progressive.jpeg": (photo, "JPEG", {"progressive": True, "exif": exif}),
        "cmyk.jpeg": (photo.convert("CMYK"), "JPEG", {}),
        "grey.jpeg": (photo.convert("L"), "JPEG", {"restart_marker_rows": 1}),
        "animated.png": (photo, "PNG", frames),
        "lossy.webp": (photo, "WEBP", {"exif": exif}),
        "lossless.webp": (clear, "WEBP", {"lossless": True}),
        "animated.webp": (photo, "WEBP", frames),
        "gif": (photo, "GIF", {"comment": b"a comment"}),
        "animated.gif": (photo, "GIF", frames),
    }
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"):
        image = Image.fromarray(wide[:, :, 0]) if mode == "I;16" else clear.convert(mode)
        kinds[f"{mode}.png"] = (image, "PNG", {"exif": exif, "transparency": 3} if mode == "P" else {"exif": exif})
    for mode in ("1", "L", "P", "RGB", "RGBA"):
        kinds[f"{mode}.bmp"] = (clear.convert(mode), "BMP", {})
    for compression in ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg", "group4"):
        image = photo.convert("1") if compression == "group4" else photo
        kinds[f"{compression}.tif"] = (image, "TIFF", {"compression": compression, "exif": exif})
    kinds["float.tif"] = (photo.convert("F"), "TIFF", {})
    files = {}
    for name, (image, format, options) in kinds.items():
        buffer = BytesIO()
        image.save(buffer, format, **options)
        files[name] = buffer.getvalue()
    files["interlaced.png"] = png(np.asarray(photo), 2, interlaced=True)
    files["wide.png"] = cv2.imencode(".png", wide)[1].tobytes()
    files["wide.tif"] = cv2.imencode(".tif", wide)[1].tobytes()
    return files


def damaged(data, rng):
    """The file with one kind of damage, mostly near its start, where the headers are."""
    data = bytearray(data)
    end = int(rng.choice([64, 256, len(data)]))
    places = rng.integers(0, min(end, len(data)), rng.integers(1, 6)).tolist()
    match rng.integers(6):
        case 0:  # bits turned over
            for place in places:
                data[place] ^= 1 << int(rng.integers(8))
        case 1:  # bytes replaced
            for place in places:
                data[place] = int(rng.choice([0, 1, 127, 128, 255]))
        case 2:  # cut short
            del data[places[0] :]
        case 3:  # bytes lost
            del data[places[0] : places[0] + int(rng.integers(1, 9))]
        case 4:  # bytes inserted
            data[places[0] : places[0]] = rng.bytes(int(rng.integers(1, 9)))
        case 5:  # lengths, sizes and offsets changed
            number = int(rng.choice([0, 1, 0x7F, 0xFFFF, 0x10000, 0x7FFFFFFF, 0xFFFFFFFF, 123456789]))
            data[places[0] : places[0] + 4] = struct.pack(str(rng.choice(["<I", ">I"])), number)
    return bytes(data)


def peak():
    """The most memory that this process ever took, in bytes."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if most > 1 << 32 else most * 1024


def read_all(folder, count, seed):
    """Read ``count`` damaged files in turn; what was wrong about it, a line for each file."""
    wrong = []
    rng = np.random.default_rng(seed)
    for number, (name, data) in enumerate(islice(cycle(sound_files().items()), count)):
        path = folder / f"{number}.{name}"
        path.write_bytes(damaged(data, rng))
        before = peak()
        for read in (read_image, image_size, orientation_of):
            try:
                read(path)
            except ImageError as error:
                if not str(error).startswith(f"{path}: ") or "\n" in str(error):
                    wrong.append(f"{path.name}: refused as {error}")
            except BaseException as error:
                wrong.append(f"{path.name}: {read.__name__} raised {error!r}")
        if peak() - before > MOST:
            wrong.append(f"{path.name}: took {peak() - before} bytes")
    return wrong


@pytest.mark.parametrize(("count", "seed"), [(150, 0), pytest.param(2000, 1, marks=pytest.mark.corpus)])
def test_damaged_files_are_read_or_refused_by_name(tmp_path, count, seed):
    """In a process of its own, since decoders print past Python, and since it is its memory that is measured."""
    call = [sys.executable, __file__, str(tmp_path), str(count), str(seed)]
    run = subprocess.run(call, capture_output=True, text=True)
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")


if __name__ == "__main__":
    warnings.simplefilter("ignore", MisuseWarning)  # names the file, as other tests show
    print("\n".join(read_all(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))), end="")

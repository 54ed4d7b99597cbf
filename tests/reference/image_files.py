"""Image files written byte by byte from their definitions, to say what no library would write."""

import struct
import zlib


def png_chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(pixels, colour, depth=8, interlaced=False):
    """A PNG of pixels (H, W[, C]) as they are stored."""
    height, width = pixels.shape[:2]
    starts = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
    passes = [pixels[y::down, x::right] for y, x, down, right in starts] if interlaced else [pixels]
    rows = b"".join(b"\0" + row.tobytes() for part in passes if part.size for row in part)
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*chunk) for chunk in chunks)


def tiff(tags, strips=()):
    """A TIFF file of tags (number, type, values) in ascending order, in which "at" is where the next strip begins."""
    sizes = {1: 1, 2: 1, 3: 2, 4: 4, 5: 4, 10: 4}  # bytes of a value; a rational is two values
    extra_at = 8 + 2 + 12 * len(tags) + 4
    lengths = [sizes[kind] * len(values) for _, kind, values in tags]
    at = extra_at + sum(length for length in lengths if length > 4)
    begins = iter([at + sum(map(len, strips[:number])) for number in range(len(strips))])
    directory, extra = struct.pack("<H", len(tags)), b""
    for number, kind, values in tags:
        numbers = [next(begins) if value == "at" else value for value in values]
        packed = b"".join(value.to_bytes(sizes[kind], "little") for value in numbers)
        directory += struct.pack("<HHI", number, kind, len(values) // (2 if kind in (5, 10) else 1))
        if len(packed) > 4:
            directory += struct.pack("<I", extra_at + len(extra))
            extra += packed
        else:
            directory += packed.ljust(4, b"\0")
    return b"II*\0" + struct.pack("<I", 8) + directory + bytes(4) + extra + b"".join(strips)


def plain_tiff(strip, width, height, bits=(8,), photometric=1, compression=1, planes=1):
    """A TIFF whose pixels are one strip, or one for each plane."""
    strips = [strip] if planes == 1 else strip
    return tiff(
        [
            (256, 4, [width]),
            (257, 4, [height]),
            (258, 3, list(bits)),
            (259, 3, [compression]),
            (262, 3, [photometric]),
            (273, 4, ["at"] * planes),
            (277, 3, [len(bits)]),
            (278, 4, [height]),
            (279, 4, [len(one) for one in strips]),
            (284, 3, [1 if planes == 1 else 2]),
        ],
        strips,
    )

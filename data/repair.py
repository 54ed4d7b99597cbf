"""Leave out what is not pixels of damaged JPEG and PNG files.

Decoders give up at a comment or a colour profile that is damaged, or too long for them, though all pixels are whole.
"""

from __future__ import annotations

import struct
import zlib

_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8"


def pixels_only(data: bytes) -> bytes | None:
    """The file without metadata, except for those that turn or colour the image; None for other formats."""
    if data.startswith(_PNG):
        return _png(data)
    return _jpeg(data) if data.startswith(_JPEG) else None


def _png(data: bytes) -> bytes:
    """A PNG's chunks for pixels, and with the right checksum those for orientation and transparency."""
    kept, at = [_PNG], len(_PNG)
    while at + 8 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        kind, end = data[at + 4 : at + 8], at + 12 + length
        critical = kind[:1].isupper()
        if critical or (kind in (b"eXIf", b"tRNS") and _is_whole(data[at:end])):
            kept.append(data[at:end])
        at = end
    return b"".join(kept)


def _is_whole(chunk: bytes) -> bool:
    return chunk[-4:] == struct.pack(">I", zlib.crc32(chunk[4:-4]))


def _jpeg(data: bytes) -> bytes:
    """A JPEG's segments for pixels, the Exif segments, and those that say how it is coloured: JFIF's and Adobe's."""
    kept, at = [_JPEG], len(_JPEG)
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != 0xDA:
        if data[at + 1] == 0xFF:  # fill
            at += 1
            continue
        marker, (length,) = data[at + 1], struct.unpack_from(">H", data, at + 2)
        segment = data[at : at + 2 + length]
        if marker in (0xE0, 0xEE):
            keep = len(segment) >= 16  # JFIF's or Adobe's, unless cut
        elif marker == 0xE1:
            keep = segment[4:10] == b"Exif\0\0"
        else:
            keep = not (0xE0 < marker <= 0xEF or marker == 0xFE)
        if keep:
            kept.append(segment)
        at += 2 + length
    return b"".join([*kept, data[at:]])

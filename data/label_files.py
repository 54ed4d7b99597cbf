"""Files of labels from anybody: text, JSON and XML; each is read, or refused in one line that names it."""

from __future__ import annotations

import codecs
import json
import os
import re
import reprlib
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any
from unicodedata import normalize

from .errors import InputError

#: What Python raises where the content of a file is not as expected.
MALFORMED = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)

#: Coordinates and sizes in pixels are smaller than this; a larger one is damage.
LARGEST = 1e9

#: Encodings that tools of Windows write under the name of an older one, which holds fewer signs.
_WRITTEN_FOR = {"gb2312": "gb18030", "gbk": "gb18030", "shift_jis": "cp932", "euc_kr": "cp949"}


def refused(place: str | Path, expected: str, error: Exception) -> InputError:
    """The error to raise for one of :data:`MALFORMED`; ``place`` names the file, and where in it.

    An :class:`InputError` stays as it is.
    """
    if isinstance(error, InputError):
        return error
    problem = f"no {error}" if isinstance(error, KeyError) else " ".join(str(error).split())
    return InputError(f"{place}: not {expected} ({problem[:200]})")


def item_place(path: Path, kind: str, number: int, item: Any) -> str:
    """Where an item of a list is in a JSON file, for messages: ``a.json: annotations[3] (id 17)``."""
    id = item.get("id") if isinstance(item, dict) else None
    return f"{path}: {kind}[{number}]" + ("" if id is None else f" (id {reprlib.repr(id)})")


def label_name(value: Any) -> str:
    """A class's name as it is written, a text or a number; '' for anything else."""
    return str(value) if isinstance(value, str | int | float) else ""


def declared_size(height: Any, width: Any) -> tuple[int, int] | None:
    """Height and width in pixels as written, where missing ones are 0 or None; None if they are no size.

    Raises
    ------
    ValueError, TypeError, OverflowError
        When they are not whole numbers.
    """
    height, width = int(height or 0), int(width or 0)
    return (height, width) if 0 < height < LARGEST and 0 < width < LARGEST else None


class LabelledFiles:
    """Finds files that labels name, also where the name has another normal form of Unicode.

    macOS writes "\u00e9" as two signs into the names of files, and labels have one.
    """

    def __init__(self) -> None:
        self._listings: dict[Path, dict[str, list[str]]] = {}

    def find(self, path: Path) -> Path:
        """``path``; if it is not there, the only file whose path differs from it in its normal form alone."""
        if str(path).isascii() or os.path.exists(path):
            return path
        found = next((folder for folder in path.parents if os.path.isdir(folder)), path)
        for part in path.relative_to(found).parts:
            alike = self._listing(found).get(normalize("NFC", part), [])
            if part not in alike and len(alike) != 1:
                return path
            found /= part if part in alike else alike[0]
        return found

    def _listing(self, folder: Path) -> dict[str, list[str]]:
        """Names in a folder by their normal form; each folder is listed once."""
        if folder not in self._listings:
            by_name: dict[str, list[str]] = {}
            for name in os.listdir(folder) if os.path.isdir(folder) else []:
                by_name.setdefault(normalize("NFC", name), []).append(name)
            self._listings[folder] = by_name
        return self._listings[folder]


def read_label_text(path: str | Path, expected: str) -> str:
    """The text of a UTF-8 file; ``expected`` says in the message what it should have been.

    Raises
    ------
    InputError
        When the file is missing or not UTF-8.
    """
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from None
    except ValueError:
        raise InputError(f"{path}: not UTF-8 text; expected {expected}") from None


def read_label_json(path: str | Path, expected: str) -> Any:
    """The content of a JSON file; ``expected`` says in the message what it should have been.

    Raises
    ------
    InputError
        When the file is missing or not JSON, or has half a sign (a lone surrogate), which cannot be written to a file.
    """
    try:
        data = Path(path).read_bytes()
        text = data.decode(json.detect_encoding(data))
        del data
        content = json.loads(text)
        if "\\ud" in text or "\\uD" in text:
            json.dumps(content, ensure_ascii=False).encode()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from None
    except (RecursionError, ValueError) as error:
        raise InputError(f"{path}: not JSON ({error}); expected {expected}") from None
    return content


def read_label_xml(path: str | Path, expected: str) -> ElementTree.Element:
    """The root element of an XML file; ``expected`` says in the message what it should have been.

    Raises
    ------
    InputError
        When the file is missing, not XML, or declares entities.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"{path}: annotation cannot be read ({error.strerror or error})") from None
    try:
        return _parsed(data, f"{path}: declares XML entities or defaults; expected {expected} without any")
    except InputError:
        raise
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise InputError(f"{path}: not XML ({error}); expected {expected}") from None


def _parsed(data: bytes, refusal: str) -> ElementTree.Element:
    # UTF-16 has zeros between the letters.
    _refuse_declarations(data.replace(b"\0", b""), refusal)
    try:
        return ElementTree.fromstring(data)
    except (ElementTree.ParseError, ValueError, LookupError):
        # expat knows UTF-8, UTF-16 and encodings of one byte a sign; Python knows the others.
        named = re.match(rb"(\xef\xbb\xbf)?<\?xml[^>]*encoding\s*=\s*[\"']([\w.:-]+)", data)
        if named is None:
            raise
    encoding = codecs.lookup(named[2].decode()).name
    # .NET's writers call their own strings UTF-16, whatever the file is; this name was read byte by byte.
    unicode = named[1] or encoding.startswith("utf-16")
    text = data.decode("utf-8-sig" if unicode else _WRITTEN_FOR.get(encoding, encoding))
    _refuse_declarations(text.encode(), refusal)
    return ElementTree.fromstring(text)


def _refuse_declarations(data: bytes, refusal: str) -> None:
    # What expands by itself can become gigabytes, and no annotation tool writes it.
    if b"<!ENTITY" in data or b"<!ATTLIST" in data:
        raise InputError(refusal)

"""Files of labels from anybody: text, JSON and XML; each is read, or refused in one line that names it."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

from .errors import InputError


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
        When the file is missing or not JSON.
    """
    try:
        return json.loads(Path(path).read_bytes())
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from None
    except ValueError as error:
        raise InputError(f"{path}: not JSON ({error}); expected {expected}") from None


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
    # An entity can expand to gigabytes, and no annotation tool writes one. (UTF-16 has zeros between the letters.)
    if b"<!ENTITY" in data.replace(b"\0", b""):
        raise InputError(f"{path}: declares XML entities; expected {expected} without any")
    try:
        return ElementTree.fromstring(data)
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise InputError(f"{path}: not XML ({error}); expected {expected}") from None

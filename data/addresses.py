"""Photographs that are not in a file system: at addresses such as ``s3://bucket/photos``, which fsspec reads.

fsspec comes with torch. Each kind of address needs a package of its own (``s3fs``, ``gcsfs``, ``adlfs``, ...).
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from .ahead import ahead
from .errors import ImageError, InputError

#: Photographs that are fetched at a time, and fetched ahead: a store answers after a tenth of a second or so.
FETCHERS, FETCHED = 8, 16


@dataclass(frozen=True)
class Address:
    """A photograph at an address.

    Attributes
    ----------
    url : str
    content : bytes or None
        The bytes there, if they have been fetched.
    """

    url: str
    content: bytes | None = field(default=None, compare=False, repr=False)

    def __str__(self) -> str:
        return self.url

    @property
    def stem(self) -> str:
        """Name of the file, without its suffix."""
        return PurePosixPath(self.url).stem

    def fetched(self) -> Address:
        """The same with its content.

        Raises
        ------
        ImageError
            When it cannot be read.
        """
        if self.content is not None:
            return self
        try:
            system, place = _system_of(self.url)
            return replace(self, content=system.cat_file(place))
        except FileNotFoundError:
            raise ImageError(f"{self.url}: no such file") from None
        except Exception as error:  # each kind of store has exceptions of its own
            raise ImageError(f"{self.url}: cannot be read ({_one_line(error)})") from error


#: A photograph in a file, or at an address.
Photograph = Path | Address


def is_address(text: str | Path) -> bool:
    """Whether a text is an address rather than a file: ``s3://bucket/photos``."""
    # A drive of Windows has one letter, and a Path has no two slashes.
    return isinstance(text, str) and re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", text) is not None


def photograph_of(text: str) -> Photograph:
    """The photograph that results name like this."""
    return Address(text) if is_address(text) else Path(text)


def local_path(address: str) -> Path | None:
    """The file or folder of a ``file://`` address, None for others."""
    from urllib.request import url2pathname  # takes a while

    parts = urlsplit(address)
    return Path(url2pathname(parts.path)) if parts.scheme == "file" else None


def addresses_at(address: str, suffixes: Iterable[str]) -> Iterator[Address]:
    """Photographs at an address: one, a folder (to any depth, without hidden files), or a pattern.

    Parameters
    ----------
    address : str
    suffixes : iterable of str
        Those of photographs in folders, and of those that patterns match; lower case.

    Raises
    ------
    InputError
        When the address cannot be listed, or nothing is there.
    """
    wanted = tuple(suffixes)
    try:
        system, place = _system_of(address)
        if re.search(r"[*?\[]", place):
            found = system.glob(place)
        elif system.isfile(place):
            yield Address(address)
            return
        else:
            found = system.find(place)
        names = sorted(name for name in found if name.lower().endswith(wanted) and not _hidden(name, place))
        urls = [system.unstrip_protocol(name) for name in names]
    except Exception as error:
        raise InputError(f"{address}: cannot be listed ({_one_line(error)})") from None
    if not urls:
        raise InputError(f"{address}: no image there; expected a file, a folder or a pattern of {', '.join(wanted)}")
    for url in urls:
        yield Address(url)


def fetched_ahead(photographs: Iterable[Photograph]) -> Generator[Photograph, None, None]:
    """The photographs, in their order; the contents of those at addresses are fetched some ahead.

    One that cannot be fetched is given without its content: reading it will report the error. Close the generator
    (``contextlib.closing``) to stop early.
    """

    def fetch(photograph: Photograph) -> Photograph:
        try:
            return photograph.fetched() if isinstance(photograph, Address) else photograph
        except ImageError:
            return photograph

    with closing(ahead(fetch, photographs, FETCHED, FETCHERS)) as fetched:
        yield from fetched


def _system_of(address: str) -> tuple[Any, str]:
    """The file system of fsspec, and the place in it."""
    from fsspec.core import url_to_fs  # takes a while

    if "::" in address:
        raise ValueError("files inside of others are not read")
    system, place = url_to_fs(address)
    return system, place


def _hidden(name: str, place: str) -> bool:
    """Whether a file, or a folder of it below the place, is hidden."""
    below = name.removeprefix(re.split(r"[*?\[]", place)[0])
    return any(part.startswith(".") for part in below.split("/"))


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__

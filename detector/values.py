"""Check the types and ranges of values that come from files or callers."""

from __future__ import annotations

import re
from numbers import Integral, Real
from reprlib import Repr
from typing import Any, Literal, get_args, get_origin

from ..data.errors import InputError

#: Longest text of an option, and of a name in a model file.
LONGEST_TEXT = 1000

#: Smallest and largest number allowed; None: no limit.
Range = tuple[float | None, float | None]


def check_value(name: str, value: Any, kind: Any, limits: Range = (None, None)) -> None:
    """Check the type and range of a value.

    Parameters
    ----------
    name : str
        For the message.
    value : object
    kind : type
        As it is annotated: bool, int, float, str, dict, None, a Literal, tuples and unions of these. Lists count as
        tuples, numpy's numbers as numbers. A text has at least one character, at most :data:`LONGEST_TEXT`, and no
        control characters.
    limits : (smallest, largest)
        Of the number, or of each number in a tuple. Without limits NaN is a number.

    Raises
    ------
    InputError
        When it has another type, or is out of range.
    """
    if not _fits(value, kind, limits):
        raise InputError(f"{name} must be {_words(kind, limits)}, not {shortened(value)}")


def shortened(value: Any) -> str:
    """A value as Python writes it, without the middle of a long one."""
    return _REPR.repr(value)


_REPR = Repr()
_REPR.maxstring = _REPR.maxother = 80


def _fits(value: Any, kind: Any, limits: Range) -> bool:
    inner = get_args(kind)
    if get_origin(kind) is Literal:
        return isinstance(value, str) and value in inner
    if get_origin(kind) is tuple:
        whole = isinstance(value, tuple | list) and (inner[-1] is ... or len(value) == len(inner))
        return whole and all(_fits(one, inner[0], limits) for one in value)
    if inner:
        return any(_fits(value, one, limits) for one in inner)
    if kind in (int, float):
        low, high = limits
        number = isinstance(value, Integral if kind is int else Real) and not isinstance(value, bool)
        return number and (low is None or value >= low) and (high is None or value <= high)
    if kind is str:
        return isinstance(value, str) and 0 < len(value) <= LONGEST_TEXT and not _CONTROL.search(value)
    return isinstance(value, kind)


#: Characters that a terminal obeys or cannot show.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")

_KINDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: f"a text of 1 to {LONGEST_TEXT} characters without control characters",
    dict: "an object with names and values",
    type(None): "none",
}


def _words(kind: Any, limits: Range) -> str:
    inner = get_args(kind)
    if get_origin(kind) is Literal:
        return f"one of {', '.join(inner)}"
    if get_origin(kind) is tuple:
        count = "a list, each" if inner[-1] is ... else f"a list of {len(inner)}, each"
        return f"{count} {_words(inner[0], limits)}"
    if inner:
        return " or ".join(_words(one, limits) for one in inner)
    low, high = limits if kind in (int, float) else (None, None)
    reach = "" if low is None else f" from {low:,} up" if high is None else f" from {low:,} to {high:,}"
    return _KINDS[kind] + reach

"""Saying how far a job is: a bar on a terminal, a few plain lines elsewhere, and messages.

Lines and messages go to the logger ``sppnet``, where a program that uses the package decides what becomes of them.
:func:`messages_on_stderr` is what the command line decides.
"""

from __future__ import annotations

import logging
import sys
import time
import warnings
from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager
from threading import Timer
from typing import Any, TypeVar

from .errors import MisuseWarning

LOGGER = logging.getLogger("sppnet")

Item = TypeVar("Item")

_SECONDS_BETWEEN_LINES = 10.0


def track(iterable: Iterable[Item], label: str, total: int | None = None, quiet: bool = False) -> Iterator[Item]:
    """The items of ``iterable``, while saying how many have gone by and how long the rest will take.

    Parameters
    ----------
    iterable : iterable
    label : str
        What is going on, such as "proposals".
    total : int, optional
        How many items there are; ``len(iterable)`` where that is known.
    quiet : bool
        Say nothing.
    """
    if total is None and isinstance(iterable, Sized):
        total = len(iterable)
    if quiet:
        return iter(iterable)
    if sys.stderr.isatty():
        from tqdm import tqdm

        return iter(tqdm(iterable, desc=label, total=total, dynamic_ncols=True, file=sys.stderr))
    return _lines(iterable, label, total)


def log(message: str, quiet: bool = False) -> None:
    """Tell the logger ``sppnet`` what is going on, unless the caller wants quiet."""
    if not quiet:
        LOGGER.info(message)


def warn(message: str) -> None:
    """Tell the logger ``sppnet`` what failed or needs a look, which a wish for quiet does not silence."""
    LOGGER.warning(message)


@contextmanager
def messages_on_stderr(quiet: bool = False) -> Iterator[None]:
    """In this block the logger's messages are plain lines on stderr, above a running bar rather than through it.

    Parameters
    ----------
    quiet : bool
        Only what failed or needs a look.
    """

    def show(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
        if issubclass(category, MisuseWarning):
            warn(f"warning: {message}")
        else:
            shown(message, category, *where, **more)

    before = LOGGER.level, LOGGER.propagate
    handler = _Lines()
    LOGGER.addHandler(handler)
    LOGGER.setLevel(logging.WARNING if quiet else logging.INFO)
    LOGGER.propagate = False  # or a library that sets up Python's logging would have every line written twice
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always", MisuseWarning)
            shown, warnings.showwarning = warnings.showwarning, show
            yield
    finally:
        LOGGER.removeHandler(handler)
        LOGGER.level, LOGGER.propagate = before


class _Lines(logging.Handler):
    """Messages alone, on what is stderr at that time."""

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if sys.stderr.isatty():
            from tqdm import tqdm

            tqdm.write(message, file=sys.stderr)
        else:
            print(message, file=sys.stderr, flush=True)


@contextmanager
def notice_if_slow(message: str, quiet: bool = False, seconds: float = 1.5) -> Iterator[None]:
    """Log ``message`` when the block is not done after ``seconds``: a wait that is usually too short to speak of."""
    timer = Timer(seconds, log, [message, quiet])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _lines(iterable: Iterable[Item], label: str, total: int | None) -> Iterator[Item]:
    """A line every few seconds, for logs that are read later, and one at the end of a job that took long enough."""
    start = last = time.monotonic()
    done = 0
    for item in iterable:
        yield item
        done += 1
        now = time.monotonic()
        if now - last >= _SECONDS_BETWEEN_LINES and done != total:
            last = now
            log(f"{label}: {_state(done, total, now - start)}")
    log(f"{label}: {done} in {_duration(time.monotonic() - start)}")


def _state(done: int, total: int | None, seconds: float) -> str:
    if not total:
        return f"{done} in {_duration(seconds)}"
    left = seconds / done * max(total - done, 0)
    return f"{done}/{total}, {_duration(left)} left"


def _duration(seconds: float) -> str:
    """1.2 s, 3:05 or 1:02:03."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"

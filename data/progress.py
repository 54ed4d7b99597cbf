"""Report progress: a bar on a terminal, a few plain lines elsewhere, and messages.

Lines and messages go to the logger ``sppnet``, so a program that uses the package decides what to do with them. The
command line uses :func:`messages_on_stderr`.
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
    """Iterate over ``iterable`` and show how many items are done and the estimated time left.

    Parameters
    ----------
    iterable : iterable
    label : str
        Name of the task, such as "proposals".
    total : int, optional
        Number of items; by default ``len(iterable)`` if that is known.
    quiet : bool
        Show nothing.
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
    """Log progress to the logger ``sppnet``, unless ``quiet``."""
    if not quiet:
        LOGGER.info(message)


def warn(message: str) -> None:
    """Log a failure or a warning to the logger ``sppnet``, even in quiet runs."""
    LOGGER.warning(message)


@contextmanager
def messages_on_stderr(quiet: bool = False) -> Iterator[None]:
    """In this block the logger's messages are plain lines on stderr, above a progress bar if one is shown.

    Parameters
    ----------
    quiet : bool
        Only failures and warnings.
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
    LOGGER.propagate = False  # else every line appears twice if a library sets up Python's logging
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always", MisuseWarning)
            shown, warnings.showwarning = warnings.showwarning, show
            yield
    finally:
        LOGGER.removeHandler(handler)
        LOGGER.level, LOGGER.propagate = before


class _Lines(logging.Handler):
    """Writes messages only, to the current stderr."""

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if sys.stderr.isatty():
            from tqdm import tqdm

            tqdm.write(message, file=sys.stderr)
        else:
            print(message, file=sys.stderr, flush=True)


@contextmanager
def notice_if_slow(message: str, quiet: bool = False, seconds: float = 1.5) -> Iterator[None]:
    """Log ``message`` if the block takes longer than ``seconds``; for waits that are usually too short to mention."""
    timer = Timer(seconds, log, [message, quiet])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _lines(iterable: Iterable[Item], label: str, total: int | None) -> Iterator[Item]:
    """Log a line every few seconds, and one at the end if the job took long enough."""
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

"""Saying how far a job is: a bar on a terminal, a few plain lines elsewhere, always on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager
from threading import Timer
from typing import TypeVar

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
    """A line on stderr, above a running bar rather than through it."""
    if quiet:
        return
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

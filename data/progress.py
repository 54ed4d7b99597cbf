"""Report progress: a bar on a terminal, a few plain lines elsewhere, and messages.

Lines and messages go to the logger ``sppnet``, so a program that uses the package decides what to do with them. The
command line uses :func:`messages_on_stderr`.
"""

from __future__ import annotations

import logging
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from threading import Timer
from typing import Any, TypeVar

from .errors import MisuseWarning

LOGGER = logging.getLogger("sppnet")

Item = TypeVar("Item")

_SECONDS_BETWEEN_LINES = 10.0


def track(
    iterable: Iterable[Item],
    label: str,
    total: int | None = None,
    quiet: bool = False,
    size: Callable[[Item], int] = lambda item: 1,
) -> Iterator[Item]:
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
    size : callable
        How many an item counts for, of the ``total``.
    """
    if total is None and isinstance(iterable, Sized):
        total = len(iterable)
    if _RECORDED:
        iterable = _timed(iterable, label, _RECORDED[-1].seconds)
    if quiet:
        return iter(iterable)
    later = _EXPECTED[-1].begin(label) if _EXPECTED else None
    if sys.stderr.isatty():
        return _bar(iterable, label, total, later, size)
    return _lines(iterable, label, total, later, size)


@dataclass(frozen=True)
class Course:
    """What a job did.

    Attributes
    ----------
    seconds : dict of str to float
        Time of each task of :func:`track`, by its label.
    messages : list of str
        What :func:`log` was told, even if it was to be quiet.
    """

    seconds: dict[str, float] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)


@contextmanager
def recording() -> Iterator[Course]:
    """In this block tasks and messages are recorded."""
    course = Course()
    _RECORDED.append(course)
    try:
        yield course
    finally:
        _RECORDED.pop()


#: The jobs that are recorded, the innermost job last.
_RECORDED: list[Course] = []


def _timed(iterable: Iterable[Item], label: str, seconds: dict[str, float]) -> Iterator[Item]:
    start = time.monotonic()
    try:
        yield from iterable
    finally:
        seconds[label] = seconds.get(label, 0.0) + time.monotonic() - start


@contextmanager
def expecting(stages: Sequence[tuple[str, float]]) -> Iterator[None]:
    """In this block :func:`track` also shows the time left in all stages.

    Parameters
    ----------
    stages : sequence of (str, float)
        Label of each stage to come, in order, and the seconds that it is expected to take. Stages that are not there,
        or are left out, do no harm.
    """
    _EXPECTED.append(_Expected(stages))
    try:
        yield
    finally:
        _EXPECTED.pop()


class _Expected:
    """The stages of a job: those that are done correct the time expected of the others."""

    def __init__(self, stages: Sequence[tuple[str, float]]):
        self._coming = list(stages)
        self._began: tuple[float, float] | None = None
        self._taken = self._foreseen = 0.0

    def begin(self, label: str) -> float | None:
        """Seconds that the stages after the next one of this label will take; None for an unknown label."""
        labels = [name for name, _ in self._coming]
        if label not in labels:
            return None
        now, place = time.monotonic(), labels.index(label)
        if self._began is not None:
            start, seconds = self._began
            self._taken, self._foreseen = self._taken + now - start, self._foreseen + seconds
        self._began = now, self._coming[place][1]
        del self._coming[: place + 1]
        pace = min(max(self._taken / self._foreseen, 0.3), 3.0) if self._foreseen > 0 else 1.0
        return pace * sum(seconds for _, seconds in self._coming)


#: The stages of the jobs that run, the innermost job last.
_EXPECTED: list[_Expected] = []


def log(message: str, quiet: bool = False) -> None:
    """Log progress to the logger ``sppnet``, unless ``quiet``."""
    if _RECORDED:
        _RECORDED[-1].messages.append(message)
    if not quiet:
        LOGGER.info(message)


def warn(message: str) -> None:
    """Log a failure or a warning to the logger ``sppnet``, even in quiet runs."""
    LOGGER.warning(message)


@contextmanager
def messages_on_stderr(quiet: bool = False) -> Iterator[None]:
    """In this block the logger's messages are plain lines on stderr, above a progress bar if one is shown.

    So are Python's warnings, without the places in the code that they come from.

    Parameters
    ----------
    quiet : bool
        Only failures and warnings.
    """

    def show(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
        start = "" if issubclass(category, MisuseWarning) else "sppnet: "
        warn(f"{start}warning: {' '.join(str(message).split())}")

    before = LOGGER.level, LOGGER.propagate
    handler = _Lines()
    LOGGER.addHandler(handler)
    LOGGER.setLevel(logging.WARNING if quiet else logging.INFO)
    LOGGER.propagate = False  # else every line appears twice if a library sets up Python's logging
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always", MisuseWarning)
            warnings.showwarning = show
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
            with suppress(OSError):  # a log on a full disk is no reason to stop
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


def _bar(
    iterable: Iterable[Item], label: str, total: int | None, later: float | None, size: Callable[[Item], int]
) -> Iterator[Item]:
    """Show a bar, with the time left in all stages if ``later``, the seconds of the later ones, is known."""
    from tqdm import tqdm

    start = time.monotonic()
    with tqdm(desc=label, total=total, dynamic_ncols=True, file=sys.stderr) as bar:
        for item in iterable:
            if later is not None and bar.n:
                bar.set_postfix_str(_to_the_end(_left(bar.n, total, time.monotonic() - start), later), refresh=False)
            yield item
            bar.update(size(item))


def _lines(
    iterable: Iterable[Item], label: str, total: int | None, later: float | None, size: Callable[[Item], int]
) -> Iterator[Item]:
    """Log a line every few seconds, and one at the end if the job took long enough."""
    start = last = time.monotonic()
    done = 0
    for item in iterable:
        yield item
        done += size(item)
        now = time.monotonic()
        if now - last >= _SECONDS_BETWEEN_LINES and done != total:
            last = now
            LOGGER.info(f"{label}: {_state(done, total, now - start, later)}")
    LOGGER.info(f"{label}: {done} in {readable_time(time.monotonic() - start)}")


def _state(done: int, total: int | None, seconds: float, later: float | None) -> str:
    if not total:
        return f"{done} in {readable_time(seconds)}"
    left = _left(done, total, seconds)
    said = f"{done}/{total}, {readable_time(left)} left"
    return said if later is None else f"{said}, {_to_the_end(left, later)}"


def _left(done: int, total: int | None, seconds: float) -> float:
    return seconds / done * max((total or done) - done, 0)


def _to_the_end(left: float, later: float) -> str:
    return f"{readable_time(left + later)} to the end"


def readable_time(seconds: float) -> str:
    """1.2 s, 3:05 or 1:02:03."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"

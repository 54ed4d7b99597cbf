"""Results computed in the background, a few ahead of whoever takes them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def ahead(
    function: Callable[[Item], Result], items: Iterable[Item], depth: int = 2, workers: int = 1
) -> Generator[Result, None, None]:
    """``map(function, items)``, computed in background threads while the results so far are worked on.

    A generator: nothing starts before the first result is asked for. Closing it (``contextlib.closing``) starts no
    more calls, waits for those that run, and leaves no thread.

    Parameters
    ----------
    function : callable
        Called in the background. What it raises is raised here in the place of its result, and ends the generator.
    items : iterable
        Gone through in the caller's thread, ``depth`` items ahead; it may be such a generator itself. What it raises
        comes when it is met, before the results that are still waiting.
    depth : int
        At most so many results are computed, or being computed, beyond the one that was asked for last.
    workers : int
        Threads. More than one call ``function`` for several items at a time.

    Yields
    ------
    The results, in the order of the items.

    Raises
    ------
    ValueError
        When ``depth`` or ``workers`` is less than 1.
    """
    if depth < 1 or workers < 1:
        raise ValueError(f"depth and workers must be at least 1, not {depth} and {workers}")
    return _ahead(function, iter(items), depth, workers)


def _ahead(
    function: Callable[[Item], Result], items: Iterator[Item], depth: int, workers: int
) -> Generator[Result, None, None]:
    waiting: deque[Future[Result]] = deque()
    pool = ThreadPoolExecutor(workers)
    try:
        while True:
            for item in islice(items, depth + 1 - len(waiting)):
                waiting.append(pool.submit(function, item))
            if not waiting:
                return
            # No name for the result: it would live on here while the next one is awaited.
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)

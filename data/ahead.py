"""Compute results in the background, a few ahead of the consumer."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def ahead(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    depth: int = 2,
    workers: int = 1,
    begin: Callable[[], object] | None = None,
) -> Generator[Result, None, None]:
    """Compute ``map(function, items)`` in background threads, while the caller uses earlier results.

    This is a generator: nothing starts before the first result is requested. Closing it (``contextlib.closing``)
    starts no more calls, waits for the running calls and leaves no thread.

    Parameters
    ----------
    function : callable
        Called in the background. An exception is raised here instead of the result, and ends the generator.
    items : iterable
        Iterated in the caller's thread, ``depth`` items ahead; may itself be such a generator. An exception of the
        iterable is raised at once, before the results that are still pending.
    depth : int
        The largest number of results computed, or in progress, beyond the last one requested.
    workers : int
        Number of threads. With more than one, ``function`` runs on several items at a time.
    begin : callable, optional
        Called once in each thread, before anything else.

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
    return _ahead(function, iter(items), depth, workers, begin)


def _ahead(
    function: Callable[[Item], Result],
    items: Iterator[Item],
    depth: int,
    workers: int,
    begin: Callable[[], object] | None,
) -> Generator[Result, None, None]:
    waiting: deque[Future[Result]] = deque()
    pool = ThreadPoolExecutor(workers, initializer=begin)
    try:
        while True:
            for item in islice(items, depth + 1 - len(waiting)):
                waiting.append(pool.submit(function, item))
            if not waiting:
                return
            # A name would keep the result in memory while the next one is computed.
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)

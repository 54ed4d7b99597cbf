"""Reliable timing: with warm-up, synchronisation and repeats, both sides in one run.

A single time on a shared machine is not reliable. Here every result is a median with
its quartiles, after a warm-up (compilation, caches, lazy imports). Two implementations
are timed alternately, so that a slow minute of the machine affects both.

Examples
--------
>>> times = interleave({"ours": lambda: sum(range(100)), "theirs": lambda: sum(range(300))}, repeats=5)
>>> sorted(times)
['ours', 'theirs']
>>> timer = StageTimer()
>>> with timer.stage("decode"):
...     pass
>>> len(timer.times()["decode"].seconds)
1
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from math import floor
from statistics import median, quantiles
from time import perf_counter
from typing import Any


@dataclass(frozen=True)
class Times:
    """Repeated times of one job.

    Attributes
    ----------
    seconds : tuple of float
        One entry per repeat, in order; at least one.
    """

    seconds: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.seconds:
            raise ValueError("Times needs at least one time, got none")

    @property
    def median(self) -> float:
        """Median in seconds."""
        return median(self.seconds)

    @property
    def quartiles(self) -> tuple[float, float]:
        """First and third quartile in seconds, the spread."""
        if len(self.seconds) == 1:
            return self.seconds[0], self.seconds[0]
        first, _, third = quantiles(self.seconds, n=4, method="inclusive")
        return first, third

    def percentile(self, q: float) -> float:
        """Percentile ``q``, 0 to 100, in seconds.

        It is interpolated linearly between two times, as in :func:`numpy.percentile`. With few repeats a high
        percentile is little more than the longest time.
        """
        if not 0 <= q <= 100:
            raise ValueError(f"expected a percentile from 0 to 100, got {q}")
        ordered = sorted(self.seconds)
        place = (len(ordered) - 1) * q / 100
        below = floor(place)
        above = min(below + 1, len(ordered) - 1)
        return ordered[below] + (place - below) * (ordered[above] - ordered[below])

    def to_dict(self) -> dict[str, Any]:
        """Median, quartiles and all times in seconds, for JSON."""
        low, high = self.quartiles
        return {"median": self.median, "quartiles": [low, high], "seconds": list(self.seconds)}

    def __str__(self) -> str:
        low, high = self.quartiles
        return f"{1e3 * self.median:.1f} ms ({1e3 * low:.1f} to {1e3 * high:.1f})"


def duration(seconds: float) -> str:
    """Readable text of a time: two digits and a unit.

    Examples
    --------
    >>> duration(0.0338), duration(5.23)
    ('34 ms', '5.2 s')
    """
    rounded = float(f"{seconds:.2g}")
    return f"{1e3 * rounded:g} ms" if 0 < rounded < 1 else f"{rounded:g} s"


def synchroniser(device: str = "cpu") -> Callable[[], None]:
    """Return a function that waits until ``device`` has finished all its work.

    A GPU call returns when its work is queued, not when it is done. Without waiting, a
    clock measures only the queueing. On the CPU there is nothing to wait for.
    """
    if device == "cpu":
        return lambda: None
    import torch

    if device.startswith("cuda"):
        return lambda: torch.cuda.synchronize(device)
    return torch.accelerator.synchronize


def interleave(
    functions: Mapping[str, Callable[[], Any]],
    repeats: int = 10,
    warmup: int = 1,
    synchronise: Callable[[], None] = synchroniser("cpu"),  # noqa: B008 - a constant: waits for nothing
) -> dict[str, Times]:
    """Time several functions alternately: every round calls each of them once.

    Parameters
    ----------
    functions : mapping of name to function without arguments
        Functions to compare; each call must do the same work as the one before.
    repeats : int
        Timed rounds, at least 1.
    warmup : int
        Untimed rounds before them.
    synchronise : function
        Called before each clock reading; :func:`synchroniser` returns the one for a device.

    Returns
    -------
    dict of name to Times
        In the order of ``functions``; the i-th times of all are from the same round.
    """
    if repeats < 1 or warmup < 0:
        raise ValueError(f"expected repeats >= 1 and warmup >= 0, got {repeats} and {warmup}")
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for round_number in range(warmup + repeats):
        for name, function in functions.items():
            synchronise()
            start = perf_counter()
            function()
            synchronise()
            if round_number >= warmup:
                seconds[name].append(perf_counter() - start)
    return {name: Times(tuple(taken)) for name, taken in seconds.items()}


def fastest(job: Callable[[int], Any], sizes: Sequence[int], repeats: int, synchronise: Callable[[], None]) -> int:
    """Size, e.g. of a batch, whose ``job(size)`` has the lowest median time; timed alternately after a warm-up."""
    jobs = {str(size): partial(job, size) for size in sizes}
    times = interleave(jobs, repeats, warmup=1, synchronise=synchronise)
    return int(min(times, key=lambda name: times[name].median))


def ratios(slow: Times, fast: Times) -> Times:
    """Ratio of ``slow`` to ``fast`` in each round, for two results of one :func:`interleave`.

    The median of the ratios is more stable than the ratio of the medians: anything that
    slows the machine during a round slows both sides.
    """
    if len(slow.seconds) != len(fast.seconds):
        raise ValueError(f"expected the same rounds on both sides, got {len(slow.seconds)} and {len(fast.seconds)}")
    return Times(tuple(a / b for a, b in zip(slow.seconds, fast.seconds, strict=True)))


class StageTimer:
    """Record the times of the stages of a repeated job.

    Parameters
    ----------
    device : str
        Device of the stages; on ``"cuda"`` each stage waits until its work is done.
    """

    def __init__(self, device: str = "cpu") -> None:
        self.device = device
        self._synchronise = synchroniser(device)
        self._seconds: dict[str, list[float]] = {}

    def __reduce__(self) -> tuple[type[StageTimer], tuple[str]]:
        """Another process has its own times."""
        return StageTimer, (self.device,)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time the ``with`` block; a block that raises is not counted."""
        self._synchronise()
        start = perf_counter()
        yield
        self._synchronise()
        self._seconds.setdefault(name, []).append(perf_counter() - start)

    def reset(self) -> None:
        """Drop all times so far; call this after the warm-up."""
        self._seconds.clear()

    def times(self) -> dict[str, Times]:
        """Times by stage, in the order of their first appearance."""
        return {name: Times(tuple(taken)) for name, taken in self._seconds.items()}

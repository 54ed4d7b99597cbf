"""Compile inner loops to machine code, cached on disk if a folder for the cache exists."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from numba import njit

Function = Callable[..., Any]


def compiled(**options: Any) -> Callable[[Function], Function]:
    """``numba.njit(cache=True)``, but without the cache if the user has no folder for it.

    Numba caches machine code beside the source file, or in the user's home. If neither is writable, numba refuses to
    compile the function. No other folder is used instead: cache files are pickles, and whoever can write them can run
    code.

    Parameters
    ----------
    **options
        Options of ``numba.njit``, such as ``nogil=True``.
    """

    def decorate(function: Function) -> Function:
        if _has_home():
            try:
                return njit(cache=True, **options)(function)
            except RuntimeError:  # "cannot cache function ...: no locator available"
                pass
        return njit(**options)(function)

    return decorate


def is_kept(function: Function) -> bool:
    """Whether the machine code of a :func:`compiled` function is cached for the next start."""
    # With NUMBA_DISABLE_JIT a function is not compiled, so there is nothing to cache.
    stats = getattr(function, "stats", None)
    return stats is None or stats.cache_path is not None


def _has_home() -> bool:
    """Whether the user's home is known; otherwise numba would cache in a folder "~" in the working folder."""
    named = os.environ.get("NUMBA_CACHE_DIR") or os.environ.get("XDG_CACHE_HOME")
    return bool(named) or os.path.isabs(os.path.expanduser("~"))

"""Inner loops compiled to machine code, kept on disk where there is a folder to keep them in."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from numba import njit

Function = Callable[..., Any]


def compiled(**options: Any) -> Callable[[Function], Function]:
    """``numba.njit(cache=True)`` that does without the cache where the user has no folder for it.

    Numba keeps machine code beside the source file, or else in the user's home. A user without a home, on a package
    that belongs to somebody else, has neither; numba then refuses the function. No other folder takes their place:
    cache files are pickles, and whoever can write them can run code.

    Parameters
    ----------
    **options
        Of ``numba.njit``, such as ``nogil=True``.
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
    """Whether the machine code of a :func:`compiled` function is there for the next start, too."""
    # With NUMBA_DISABLE_JIT a function stays what it was, and there is nothing to keep.
    stats = getattr(function, "stats", None)
    return stats is None or stats.cache_path is not None


def _has_home() -> bool:
    """Whether the folder that numba may fall back on is known; if not, it would be named "~", in the working folder."""
    named = os.environ.get("NUMBA_CACHE_DIR") or os.environ.get("XDG_CACHE_HOME")
    return bool(named) or os.path.isabs(os.path.expanduser("~"))

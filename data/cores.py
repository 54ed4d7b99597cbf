"""Count the CPU cores that this process may use."""

from __future__ import annotations

import os


def cpu_count() -> int:
    """Number of cores this process may use; the machine can have more."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1

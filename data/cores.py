"""How many of the machine's cores are ours."""

from __future__ import annotations

import os


def cpu_count() -> int:
    """Cores this process may use, which can be fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1

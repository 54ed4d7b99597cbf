"""The type of arrays in signatures; docstrings give their dtype and shape."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

Array = NDArray[Any]

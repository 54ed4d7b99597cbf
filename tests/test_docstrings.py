"""The examples in docstrings give the results that they show."""

import doctest
from importlib import import_module
from pathlib import Path

import pytest
import sppnet

PACKAGE = Path(sppnet.__file__).parent
FLOORS = ("data", "proposals", "eval", "detector", "scripts")
WITH_EXAMPLES = sorted(
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
    for floor in FLOORS
    for path in (PACKAGE / floor).rglob("*.py")
    if ">>> " in path.read_text(encoding="utf-8")
)


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_examples_run(name):
    assert doctest.testmod(import_module(f"sppnet.{name}"), verbose=False).failed == 0

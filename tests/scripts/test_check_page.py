"""Which photographs the page of ``sppnet check`` shows for a finding."""

import pytest
from sppnet.scripts.pages.check import _stems

KNOWN = {"a", "b", "salt and pepper", "copy (2)", "a and b (c)"}


@pytest.mark.parametrize(
    ("place", "stems"),
    [
        ("a.xml", ["a"]),
        ("a.jpg and b.jpg", ["a", "b"]),
        ("a.jpg (train, val)", ["a"]),
        ("salt and pepper.jpg", ["salt and pepper"]),
        ("salt and pepper.jpg and a.jpg", ["salt and pepper", "a"]),
        ("a.jpg and salt and pepper.jpg", ["a", "salt and pepper"]),
        ("copy (2).jpg and a.jpg", ["copy (2)", "a"]),
        ("copy (2).jpg (train, val)", ["copy (2)"]),
        ("a and b (c).jpg", ["a and b (c)"]),
        ("Bird and bird", []),
        ("a.jpg and unknown.jpg", []),
    ],
)
def test_names_may_hold_what_stands_between_names(place, stems):
    assert _stems(place, KNOWN) == stems

"""The code map is correct: the detector's own table, its packages in order, files that exist."""

import re
from pathlib import Path

import sppnet.detector

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "code.md").read_text(encoding="utf-8")


def table(text, heading):
    """The rows below a heading of a page, as tuples of cells without the head."""
    part = text.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    rows = [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in part.splitlines() if line[:1] == "|"]
    return rows[2:]


def docstring_table(text):
    """The rows of the table in a docstring, in a page's notation."""
    lines = text.splitlines()
    first, second, last = (number for number, line in enumerate(lines) if line.startswith("==="))
    width = lines[first].index(" ")
    rows = [(line[:width], line[width:]) for line in lines[second + 1 : last]]
    return [(section.strip(), files.strip().replace("``", "`")) for section, files in rows]


def names(text):
    """What a text marks as code."""
    return re.findall(r"`+([^`]+)`+", text)


def files_named(text):
    """The files and folders of the package that a text marks as code."""
    return {name for name in names(text) if re.fullmatch(r"[\w/]+(/|\.py)", name)}


def missing(found):
    """Those of some files and folders that are nowhere below the root."""
    floors = ("data", "detector", "docs", "eval", "proposals", "scripts", "tests")
    there = {path for floor in floors for path in (ROOT / floor, *(ROOT / floor).rglob("*"))}
    ends = [f"/{path.relative_to(ROOT).as_posix()}" for path in there]
    return sorted(name for name in found if not any(end.endswith(f"/{name.rstrip('/')}") for end in ends))


def test_the_table_of_sections_is_the_detectors():
    assert table(PAGE, "From the paper to the file") == docstring_table(sppnet.detector.__doc__)


def test_rooms_stand_in_the_order_of_the_floors():
    order = names(sppnet.detector.__doc__.split("imports only from those before it:")[1])
    rooms = [name.rstrip("/") for room, *_ in table(PAGE, "Floors") for name in names(room)]
    assert rooms == order


def test_every_file_is_there():
    assert missing(files_named(PAGE)) == []


def test_the_check_of_files_sees_one_that_is_not():
    assert missing(files_named("`detector/pooling/spp.py`, `pooling/`, `no/such.py` and `--option`")) == ["no/such.py"]
    assert missing({"nowhere/"}) == ["nowhere/"]

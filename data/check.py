"""What a careful person would look for in labelled photographs before they train on them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from .boxes import iou
from .cleaning import (
    CUT,
    EDGE,
    GROUP,
    NO_AREA,
    OTHER_SIZE,
    OUTSIDE,
    REPEATED,
    REVERSED,
    TURNED,
    TURNED_UNKNOWN,
    UNREADABLE,
    UNUSABLE,
)
from .errors import ImageError
from .near_duplicates import SIDE, alike, small_copy
from .progress import track
from .sample import Sample, SampleList
from .splits import TRAINVAL, split_of

IN_TWO_SETS = "photograph in two sets"
ALIKE_IN_TWO_SETS = "near duplicates in different sets"
ALIKE_NAMES = "class names that differ by case, signs or one letter"
DOUBLE = "objects of one class with nearly the same box, perhaps one labelled twice"
ALIKE_IN_ONE_SET = "near duplicates in one set"

#: Two boxes of one class overlap by so much (IoU) only where one object was labelled twice, as a rule: in 2,097
#: photographs of VOC2012 no two objects do, in the 364 blood smears of BCCD seven pairs of cells.
NEARLY = 0.9

#: What to do about each kind of problem.
ADVICE = {
    NO_AREA: "a click instead of a box: draw the object's box, or delete this one",
    OUTSIDE: "drawn on another photograph, or before it was cut or scaled: draw it again",
    CUT: "look at the box: it may belong to another photograph",
    REVERSED: "nothing to do here; other programs may drop such boxes",
    GROUP: "nothing to do: no object has it",
    REPEATED: "nothing to do here; delete the copies before other programs count them",
    UNREADABLE: "damaged or no photograph: replace it, or remove it and its labels",
    UNUSABLE: "mend the file, or remove the photograph from its list",
    OTHER_SIZE: "the photograph was scaled or exchanged after it was labelled: look where its boxes lie",
    TURNED: "nothing to do here; 'sppnet convert' writes the boxes as they should be",
    TURNED_UNKNOWN: "look where its boxes lie: some tools (labelImg) draw them on the unturned one, and say no size",
    ALIKE_NAMES: "give the objects of one class one name",
    IN_TWO_SETS: "scores are too good for photographs that were learnt from: take it out of one set",
    ALIKE_IN_TWO_SETS: "scores are too good for photographs like those learnt from: put both into one set",
    DOUBLE: "look whether it is one object; if so, delete one of the boxes",
    ALIKE_IN_ONE_SET: "nothing to do: cross-validation and 'convert --split' keep them together",
}

#: Kinds that are told, but need no look.
HARMLESS = frozenset(
    (
        EDGE,
        GROUP,
        TURNED_UNKNOWN,
        DOUBLE,
        ALIKE_IN_ONE_SET,
        "photograph without a file of labels, taken to show no object",
        "photograph that nobody has labelled, left out",
        "label with a confidence, which is left out",
        "object with several labels, of which the first counts",
    )
)


@dataclass(frozen=True)
class Finding:
    """A kind of problem and where it is.

    Attributes
    ----------
    kind : str
        For people, such as "box without area, dropped".
    places : dict of str to int
        How often it occurs in which file.
    """

    kind: str
    places: Mapping[str, int]

    @property
    def count(self) -> int:
        """How often it occurs."""
        return sum(self.places.values())

    @property
    def advice(self) -> str:
        """What to do about it; empty if nobody knows."""
        return ADVICE.get(self.kind, "")

    @property
    def needs_a_look(self) -> bool:
        """Whether somebody should look at it before training."""
        return self.kind not in HARMLESS

    def to_dict(self) -> dict[str, Any]:
        """JSON-like."""
        return {
            "kind": self.kind,
            "count": self.count,
            "needs_a_look": self.needs_a_look,
            "advice": self.advice,
            "places": dict(self.places),
        }


def check(sets: Mapping[str, SampleList], quiet: bool = False) -> list[Finding]:
    """Find what is wrong with labelled photographs.

    Parameters
    ----------
    sets : mapping of str to SampleList
        By name, opened with a lenient tally (see :func:`.open.open_sets`); a photograph may be in several.
    quiet : bool
        No progress bar.

    Returns
    -------
    list of Finding
        What needs a look comes first. All photographs are read whole.
    """
    found = _tolerated(sets)
    samples = list({sample.path: sample for of_set in sets.values() for sample in of_set}.values())
    copies = np.zeros((len(samples), SIDE * SIDE), np.float32)
    known = set(found.get(UNREADABLE, {}))
    for i, sample in enumerate(track(samples, "photographs read", quiet=quiet)):
        try:
            copies[i] = small_copy(sample.path)
        except ImageError:
            if sample.path.name not in known:
                found.setdefault(UNREADABLE, {})[sample.path.name] = 1
    names = sorted({name for of_set in sets.values() for name in of_set.class_names})
    found |= _told(ALIKE_NAMES, (f"{one} and {other}" for one, other in look_alike_names(names)))
    found |= _told(DOUBLE, (sample.path.name for sample in samples for _ in range(_doubles(sample))))
    found |= _between_sets(sets, samples, alike(copies))
    findings = [Finding(kind, places) for kind, places in found.items()]
    return sorted(findings, key=lambda one: not one.needs_a_look)


def _tolerated(sets: Mapping[str, SampleList]) -> dict[str, dict[str, int]]:
    """What reading the labels has counted, by kind and file.

    A file of two sets that have photographs in common is the same file and counts once. In sets that have none, such as
    folders for training and test, files of one name are different ones.
    """
    found: dict[str, dict[str, int]] = {}
    first: dict[tuple[str, str], str] = {}
    paths = {name: {sample.path for sample in of_set} for name, of_set in sets.items()}
    for name, of_set in sets.items():
        for kind, places in of_set.problems.items():
            for place, count in places.items():
                earlier = first.setdefault((kind, place), name)
                other = earlier != name and not paths[earlier] & paths[name]
                found.setdefault(kind, {})[f"{place} ({name})" if other else place] = count
    return found


def _told(kind: str, places: Iterable[str]) -> dict[str, dict[str, int]]:
    counts: dict[str, int] = {}
    for place in places:
        counts[place] = counts.get(place, 0) + 1
    return {kind: counts} if counts else {}


def _doubles(sample: Sample) -> int:
    """Pairs of objects of one class with nearly the same box."""
    boxes = sample.boxes.astype(np.float64)
    same = sample.labels[:, None] == sample.labels
    return int(np.triu((iou(boxes, boxes) >= NEARLY) & same, 1).sum())


def _between_sets(sets: Mapping[str, SampleList], samples: list[Sample], groups: Any) -> dict[str, dict[str, int]]:
    """Photographs that are in two sets, for training, validation and test, or have a near duplicate in another one."""
    paths = {name: {sample.path for sample in of_set} for name, of_set in sets.items() if _is_split(name)}
    members: dict[int, list[Path]] = {}
    for sample, group in zip(samples, groups.tolist(), strict=True):
        members.setdefault(group, []).append(sample.path)
    several = [group for group in members.values() if len(group) > 1]
    pairs = [pair for group in several for pair in combinations(group, 2)]
    shared: dict[Path, set[str]] = {}
    apart: set[str] = set()
    for (one, in_one), (other, in_other) in combinations(paths.items(), 2):
        # The set trainval holds train and val.
        if in_one <= in_other or in_other <= in_one:
            continue
        for path in in_one & in_other:
            shared.setdefault(path, set()).update((one, other))
        apart |= {_pair(a, b) for a, b in pairs if (a in in_one and b in in_other) or (b in in_one and a in in_other)}
    together = (_pair(a, b) for a, b in pairs)
    return {
        **_told(IN_TWO_SETS, sorted(f"{path.name} ({', '.join(sorted(names))})" for path, names in shared.items())),
        **_told(ALIKE_IN_TWO_SETS, sorted(apart)),
        **_told(ALIKE_IN_ONE_SET, (pair for pair in together if pair not in apart)),
    }


def _pair(one: Path, other: Path) -> str:
    first, second = sorted((one.name, other.name))
    return f"{first} and {second}"


def _is_split(name: str) -> bool:
    return name == TRAINVAL or split_of(name) is not None


def look_alike_names(class_names: Iterable[str]) -> list[tuple[str, str]]:
    """Pairs of class names that differ by upper case, signs, or one letter, as typing errors do."""
    names = list(class_names)
    return [(one, other) for i, one in enumerate(names) for other in names[i + 1 :] if _alike(one, other)]


def _alike(one: str, other: str) -> bool:
    a, b = ("".join(sign for sign in name.casefold() if sign.isalnum()) for name in (one, other))
    if a == b:
        return bool(a)
    # Short names differ by a letter without being the same: cat, car. A digit tells apart: type1, type2.
    if min(len(a), len(b)) < 5 or any(sign.isdigit() for sign in a + b):
        return False
    short, long = sorted((a, b), key=len)
    start = next((i for i, (x, y) in enumerate(zip(short, long, strict=False)) if x != y), len(short))
    if len(short) == len(long):
        return short[start + 1 :] == long[start + 1 :]
    return len(long) == len(short) + 1 and short[start:] == long[start + 1 :]

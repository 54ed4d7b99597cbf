"""What a training says: at the start what there is to learn from, in the end how good it is and what to do next."""

from __future__ import annotations

from math import log2, sqrt
from shlex import join, quote, split
from textwrap import fill
from typing import TYPE_CHECKING, Any

from .info import as_option
from .parser import as_typed

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ..data.sample import Sample

#: Objects of a class below which its figures are not told by themselves.
FEWEST = 10

#: Objects below which the text says how far off the figures may be.
FEW = 100


def contents(samples: Sequence[Sample], class_names: Sequence[str]) -> list[str]:
    """Lines that say what there is to learn from: photographs, objects of each class, and their sizes."""
    from ..eval.report import text_table

    header, rows = contents_table(samples, class_names)
    return [f"{len(samples)} photographs to learn from", *text_table(header, rows).splitlines()]


def contents_table(samples: Sequence[Sample], class_names: Sequence[str]) -> tuple[list[str], list[list[Any]]]:
    """Header and rows of the table of :func:`contents`."""
    import numpy as np

    boxes = np.concatenate([np.zeros((0, 4)), *(sample.boxes for sample in samples)])
    labels = np.concatenate([np.zeros(0, np.int64), *(sample.labels for sample in samples)])
    difficult = np.concatenate([np.zeros(0, bool), *(sample.difficult for sample in samples)])
    rows = []
    for label, name in enumerate(class_names):
        here = (labels == label) & ~difficult
        sides = boxes[here, 2:] - boxes[here, :2]
        size = "{:.0f} x {:.0f}".format(*np.median(sides, axis=0)) if here.any() else None
        images = sum(bool((sample.labels[~sample.difficult] == label).any()) for sample in samples)
        rows.append([name, images, int(here.sum()), int(((labels == label) & difficult).sum()), size])
    return ["class", "photographs", "objects", "difficult", "median size"], rows


def summary(card: dict[str, Any], width: int = 100) -> str:
    """One paragraph about a detector, from its card.

    Parameters
    ----------
    card : dict
    width : int
        Of the lines, in characters.
    """
    counts: dict[str, dict[str, int]] = card.get("held_out", {}).get("shown", {})
    objects = sum(one["objects"] for one in counts.values())
    if not objects:
        return fill(
            "It was not scored on photographs that it had not learnt from, so how good it is remains unknown. Score it "
            "with 'sppnet evaluate' on photographs kept apart.",
            width,
        )
    shown, right = (sum(one[name] for one in counts.values()) for name in ("shown", "right"))
    said = [
        f"On photographs that it had not learnt from, the detector finds {_share(right, objects)} of the objects among "
        f"what it shows by default, and {_share(right, shown)} of what it shows is right."
    ]
    told = {name: one for name, one in counts.items() if one["objects"] >= FEWEST}
    if len(told) > 1:
        ranked = sorted(told, key=lambda name: _f1(told[name]))
        said.append(f"Best is {_of_class(ranked[-1], told)}, weakest {_of_class(ranked[0], told)}.")
    rare = [f"{name} ({one['objects']})" for name, one in counts.items() if one["objects"] < FEWEST]
    if rare and len(counts) > 1:
        said.append(f"Too few objects to judge: {', '.join(rare)}.")
    if objects < FEW:
        # Two standard deviations of a share of so many.
        share = (right + 1) / (objects + 2)
        off = round(200 * sqrt(share * (1 - share) / objects))
        said.append(
            f"{objects} objects are few: these figures may be {off} points off, probabilities are rough, and more "
            "photographs will help most."
        )
    said += _more(card)
    return fill(" ".join(said), width)


#: Photographs that somebody may add.
_ADDED = 100


def _more(card: dict[str, Any]) -> list[str]:
    """What the learning curve says, if there is one."""
    points = [(one["images"], one["map"]) for one in card.get("learning_curve", []) if one["map"] is not None]
    if len(points) < 2:
        return []
    images, scores = zip(*points, strict=True)
    said = [f"Learning from {_series(map(str, images))} photographs gives a mean AP of {_series(map(_ap, scores))}."]
    # By the last doubling: learning curves flatten, but slowly on an axis of doublings.
    gain = (scores[-1] - scores[-2]) / log2(images[-1] / images[-2]) * log2(1 + _ADDED / card["images"])
    if gain < 0.005:
        return [*said, f"Another {_ADDED} photographs will hardly change it."]
    return [*said, f"If it goes on like this, another {_ADDED} photographs bring about {100 * gain:.0f} points."]


def _ap(score: float) -> str:
    return f"{score:.3f}"


def _series(words: Iterable[str]) -> str:
    *others, last = words
    return f"{', '.join(others)} and {last}"


def next_commands(model: str, kept_apart: str = "DATASET") -> list[str]:
    """Commands that come after a training; ``kept_apart`` names photographs to score on, as typed."""
    return [
        "next, look at what it finds, and score it on labelled photographs kept apart:",
        f"  sppnet detect PHOTOGRAPHS --model {quote(model)} -o found",
        f"  sppnet evaluate {kept_apart} --model {quote(model)}",
    ]


def repeating_command(command_line: str, card: dict[str, Any]) -> str:
    """A training's command with what it has chosen by itself as options, so that it need not search again.

    The folds are named, too: of many photographs the effort "quick" would hold a part out.
    """
    words = split(command_line)
    while "--effort" in words:
        place = words.index("--effort")
        del words[place : place + 2]
    words = [word for word in words if not word.startswith("--effort=")]
    for one in card["choices"]:
        name, value = as_option(one["name"]), one["value"]
        if isinstance(value, bool):
            words.append(name if value else f"--no-{name.removeprefix('--')}")
        else:
            words += [name, as_typed(value)]
    folds = card.get("held_out", {}).get("folds", 1)
    if folds > 1 and not any(word.partition("=")[0] == "--folds" for word in words):
        words += ["--folds", str(folds)]
    return join([*words, "--effort", "quick"])


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.0f} %" if whole else "nothing"


def _f1(one: dict[str, int]) -> float:
    return 2 * one["right"] / (one["shown"] + one["objects"])


def _of_class(name: str, counts: dict[str, dict[str, int]]) -> str:
    one = counts[name]
    right = f", {_share(one['right'], one['shown'])} right" if one["shown"] else ", none shown"
    return f"{name} ({_share(one['right'], one['objects'])} found{right})"

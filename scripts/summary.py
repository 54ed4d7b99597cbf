"""What a training says in the end: how good the detector is, where it is weak, and what to do next."""

from __future__ import annotations

from math import sqrt
from shlex import quote
from textwrap import fill
from typing import Any

#: Objects of a class below which its figures are not told by themselves.
FEWEST = 10

#: Objects below which the text says how far off the figures may be.
FEW = 100


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
    return fill(" ".join(said), width)


def next_commands(model: str, dataset: str) -> list[str]:
    """Commands that come after a training."""
    return [
        "next, look at what it finds, and score it on photographs kept apart:",
        f"  sppnet detect PHOTOGRAPHS --model {quote(model)} -o found",
        f"  sppnet evaluate {quote(dataset)} --set test --model {quote(model)}",
    ]


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.0f} %" if whole else "nothing"


def _f1(one: dict[str, int]) -> float:
    return 2 * one["right"] / (one["shown"] + one["objects"])


def _of_class(name: str, counts: dict[str, dict[str, int]]) -> str:
    one = counts[name]
    right = f", {_share(one['right'], one['shown'])} right" if one["shown"] else ", none shown"
    return f"{name} ({_share(one['right'], one['objects'])} found{right})"

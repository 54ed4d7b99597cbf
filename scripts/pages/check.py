"""The page of ``sppnet check --report``: what there is, what needs a look, and pictures of it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from ...data.errors import ImageError
from ...eval.page import Gallery, Picture, write_page, write_preview
from ..photographs import drawn_names
from .detections import PREVIEWS
from .mistakes import truth_boxes

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from ...data.check import Finding
    from ...data.sample import Sample

#: Photographs of a kind of finding of which pictures are shown.
SHOWN = 30


def write_check_page(
    path: Path,
    dataset: Path,
    samples: Sequence[Sample],
    class_names: tuple[str, ...],
    findings: Sequence[Finding],
    tables: Mapping[str, Any],
) -> None:
    """Write the page, and small copies of the photographs that it shows beside it.

    Parameters
    ----------
    path : Path
    dataset : Path
    samples : sequence of Sample
        All photographs.
    class_names : tuple of str
    findings : sequence of Finding
    tables : mapping
        As :func:`.check.tables` makes them.
    """
    names = drawn_names([sample.path for sample in samples])
    by_stem: dict[str, list[Sample]] = {}
    for sample in samples:
        by_stem.setdefault(sample.path.stem, []).append(sample)
    pictures: list[Picture] = []
    kinds: list[str] = []
    sizes: dict[Path, tuple[int, int]] = {}
    for finding in findings:
        # Folders of several sets may have files of one name: then all of them are shown.
        shown = [sample for place in finding.places for stem in _stems(place, by_stem) for sample in by_stem[stem]]
        for sample in shown[:SHOWN]:
            if sample.path not in sizes:
                try:
                    image = sample.image
                except ImageError:  # it is among the findings
                    continue
                write_preview(path.parent / PREVIEWS / names[sample.path], image)
                sizes[sample.path] = image.shape[1], image.shape[0]
            if finding.kind not in kinds:
                kinds.append(finding.kind)
            source, group = f"{PREVIEWS}/{quote(names[sample.path])}", kinds.index(finding.kind)
            width, height = sizes[sample.path]
            truth = truth_boxes(sample)
            pictures.append(
                Picture(sample.path.name, source, width, height, truth=truth, group=group, note=finding.kind)
            )
    gallery = None
    if pictures:
        gallery = Gallery(class_names, (None,) * len(class_names), (0.0, 1.0, 0.01), pictures, tuple(kinds))
    serious = [one for one in findings if one.needs_a_look]
    others = [one for one in findings if not one.needs_a_look]
    summary = [f"{len(samples):,} photographs, {len(serious)} kinds of problems that need a look."]
    write_page(
        path, "check.html", f"Check of {dataset.name}", summary, gallery, serious=serious, others=others, **tables
    )


def _stems(place: str, known: Collection[str]) -> list[str]:
    """Those of the known stems of photographs that a place of a finding names.

    It is a name of a file, or of two with " and " between them, and may end in more in parentheses; names may hold
    both signs.
    """
    for end in [len(place), *(sign.start() for sign in re.finditer(r" \(", place))]:
        text = place[:end]
        pairs = [(text[: sign.start()], text[sign.end() :]) for sign in re.finditer(" and ", text)]
        for names in [(text,), *pairs]:
            stems = [Path(name).stem for name in names]
            if all(stem in known for stem in stems):
                return stems
    return []

"""``sppnet check``: look for what is wrong with labelled photographs."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from ..detector.options import ENOUGH, MANY_WINDOWS, DetectOptions
from .arguments import SET_HELP, add_dataset_arguments, add_folder_output
from .common import protect_inputs, refuse_other_page
from .parser import CommandParser

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ..data.check import Finding
    from ..data.sample import Sample, SampleList

HELP = """Look for what is wrong with labelled photographs, before training on them.

Files that cannot be read; boxes outside the photograph, without area, reversed or repeated; photographs turned by their
EXIF data and labelled unturned; names of classes that look like typing errors; photographs that are in two sets, or
look like one in another; objects that no window covers. Prints what there is and what was found, and writes
DIR/check.json. The exit status is 1 if something needs a look."""

#: Name of the report.
FILE = "check.json"

#: Photographs on which windows are proposed, at most.
PROPOSED = 100

#: Places of a problem that are printed.
SHOWN = 4

#: Sets whose objects are printed by class.
SETS = 5


def add_arguments(parser: CommandParser) -> None:
    """Add the options of ``sppnet check``."""
    add_dataset_arguments(parser, None, set_help=f"{SET_HELP} (default: all of them)")
    add_folder_output(parser, "check")
    parser.groups["output"].add_argument(
        "--report",
        action="store_true",
        help="write DIR/check.html, a page for a browser with pictures of what was found; small copies of the "
        "photographs go to DIR/previews",
    )


def run(args: argparse.Namespace) -> int:
    """Check; return 1 if something needs a look."""
    from ..data.check import check
    from ..data.cleaning import Tally
    from ..data.errors import InputError
    from ..data.open import open_dataset, open_sets
    from ..data.progress import log
    from ..data.store import write_json
    from ..eval.report import text_table
    from .photographs import check_replaced, drawn_names

    if args.set is None:
        sets = open_sets(args.dataset, args.images, lenient=True)
    else:
        sets = {args.set: open_dataset(args.dataset, args.set, args.images, tally=Tally(lenient=True))}
    if not sets:
        raise InputError(f"{args.dataset}: has no image sets; expected a list in its ImageSets/Main")
    samples = list({sample.path: sample for of_set in sets.values() for sample in of_set}.values())
    page = args.out / "check.html"
    previews = [args.out / "previews" / name for name in drawn_names([one.path for one in samples]).values()]
    protect_inputs(args, [args.out / FILE, *[page, *previews] * args.report])
    if args.report:
        check_replaced(previews)
        refuse_other_page(page)
    class_names = next(iter(sets.values())).class_names
    log(f"{next(iter(sets.values())).layout}, {len(class_names)} classes, {len(samples)} images", args.quiet)
    findings = check(sets, args.quiet)
    covered, looked_at = coverage(samples, args.seed, args.quiet)
    report: dict[str, Any] = {
        "dataset": str(args.dataset),
        "sets": {name: of_set_figures(of_set) for name, of_set in sets.items()},
        "classes": {
            name: {**class_figures(samples, label), "covered": covered.get(label)}
            for label, name in enumerate(class_names)
        },
        "windows": {"method": DetectOptions.proposals, "count": DetectOptions.max_windows, "images": looked_at},
        "findings": [one.to_dict() for one in findings],
    }
    write_json(args.out / FILE, report)
    shown = tables(report)
    lines = [text_table(**shown["sets"]), "", text_table(**shown["classes"]), *shown["notes"], "", *lines_of(findings)]
    if args.report:
        from .pages.check import write_check_page

        write_check_page(page, args.dataset, samples, class_names, findings, shown)
        lines.append(f"look at them in a browser: {page}")
    print("\n".join([*lines, f"wrote {args.out / FILE}"]))
    return int(any(one.needs_a_look for one in findings))


def of_set_figures(dataset: SampleList) -> dict[str, Any]:
    """Photographs and objects of a set."""
    objects = {
        name: sum(int(((one.labels == label) & ~one.difficult).sum()) for one in dataset)
        for label, name in enumerate(dataset.class_names)
    }
    return {"images": len(dataset), "without_objects": sum(not len(one.boxes) for one in dataset), "objects": objects}


def class_figures(samples: Sequence[Sample], label: int) -> dict[str, Any]:
    """Photographs with objects of a class, the objects, and their sizes."""
    import numpy as np

    from ..data.boxes import MEDIUM, SMALL, area

    counted = [one.boxes[(one.labels == label) & ~one.difficult] for one in samples]
    boxes = np.concatenate([np.zeros((0, 4)), *counted])
    areas = area(boxes)
    return {
        "images": sum(bool(len(of_image)) for of_image in counted),
        "objects": len(boxes),
        "difficult": sum(int(((one.labels == label) & one.difficult).sum()) for one in samples),
        "small": int((areas < SMALL).sum()),
        "medium": int(((areas >= SMALL) & (areas < MEDIUM)).sum()),
        "large": int((areas >= MEDIUM).sum()),
        "median_size": np.median(boxes[:, 2:] - boxes[:, :2], axis=0).tolist() if len(boxes) else None,
    }


def coverage(samples: Sequence[Sample], seed: int, quiet: bool) -> tuple[dict[int, float], int]:
    """Share of each class's objects that a window overlaps by an IoU of 0.5; and on how many photographs."""
    import numpy as np

    from ..data.errors import ImageError
    from ..data.progress import track
    from ..eval.recall import best_overlaps
    from ..proposals.backends import make_proposer

    proposer = make_proposer(DetectOptions.proposals, DetectOptions.max_windows, seed)
    chosen = np.sort(np.random.default_rng(seed).permutation(len(samples))[:PROPOSED])
    overlaps: dict[int, list[float]] = {}
    looked_at = 0
    for index in track(chosen, "windows proposed", quiet=quiet):
        sample = samples[index]
        try:
            found = proposer(sample.image, sample.path.stem)
        except ImageError:  # named by the check itself
            continue
        looked_at += 1
        counted = ~sample.difficult
        best = best_overlaps(found, sample.boxes[counted])
        for label, overlap in zip(sample.labels[counted].tolist(), best.tolist(), strict=True):
            overlaps.setdefault(label, []).append(overlap)
    return {label: float(np.mean(np.array(of_class) >= 0.5)) for label, of_class in overlaps.items()}, looked_at


def tables(report: Mapping[str, Any]) -> dict[str, Any]:
    """The report's figures as tables of sets and classes, each with header and rows, and notes below them."""
    sets, classes, windows = report["sets"], report["classes"], report["windows"]
    of_sets = [
        [name, one["images"], one["without_objects"], sum(one["objects"].values())] for name, one in sets.items()
    ]
    of_classes = [
        [
            name,
            *(one["objects"][name] for one in sets.values() if 1 < len(sets) <= SETS),
            *(one[figure] for figure in ("images", "objects", "difficult", "small", "medium", "large")),
            "{:.0f} x {:.0f}".format(*one["median_size"]) if one["median_size"] else "-",
            "-" if one["covered"] is None else f"{one['covered']:.0%}",
        ]
        for name, one in classes.items()
    ]
    header = [
        "class",
        *(f"in {name}" for name in sets if 1 < len(sets) <= SETS),
        *("photographs", "objects", "difficult", "small", "medium", "large", "median size", "covered"),
    ]
    return {
        "sets": {"header": ["set", "photographs", "without objects", "objects"], "rows": of_sets},
        "classes": {"header": header, "rows": of_classes},
        "notes": [
            f"small: less than 32 x 32 pixels, large: 96 x 96 and more; covered: by one of {windows['count']} windows "
            f"({windows['method']}), in {windows['images']} photographs",
            *few_windows(classes),
        ],
    }


def few_windows(classes: Mapping[str, Any]) -> list[str]:
    """A line about the classes whose objects need more windows, if there are some."""
    missed = [name for name, one in classes.items() if one["covered"] is not None and one["covered"] < ENOUGH]
    if not missed:
        return []
    return [
        f"windows miss more than {1 - ENOUGH:.0%} of the objects of {', '.join(missed)}: 'sppnet train' tries more by "
        f"itself; by hand, --proposals dense --max-windows {MANY_WINDOWS}"
    ]


def lines_of(findings: Sequence[Finding]) -> list[str]:
    """What was found, for people."""
    serious = [one for one in findings if one.needs_a_look]
    others = [one for one in findings if not one.needs_a_look]
    lines = ["needs a look:" if serious else "nothing that needs a look"]
    for one in (*serious, *others):
        if others and one is others[0]:
            lines.append("worth knowing:")
        places = list(one.places)
        more = f" and {len(places) - SHOWN} more" if len(places) > SHOWN else ""
        lines.append(f"  {one.count} x {one.kind}: {'; '.join(places[:SHOWN])}{more}")
        if one.advice:
            lines.append(f"      {one.advice}")
    return lines

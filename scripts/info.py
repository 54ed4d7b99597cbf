"""``sppnet info``: show what a model file contains."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from shutil import get_terminal_size
from textwrap import TextWrapper
from typing import Any

from ..data.errors import InputError
from .arguments import bundled_help
from .parser import CommandParser, as_typed

HELP = """Show what is in a model file: classes, backbone, pyramid, scales, training data, scores, versions; and the
origin of a bundled model: data, their licence, the command that made it, its limits."""

# Other labels for keys of a card's "about" whose names are used by other lines.
_LABELS = {"scores": "measured"}


def add_arguments(parser: CommandParser) -> None:
    """Add the options of ``sppnet info``."""
    parser.groups["data"].add_argument("model", metavar="M", help=f"any model file, or {bundled_help()}")


def run(args: argparse.Namespace) -> int:
    """Print the card; only the header of the file is read."""
    from ..detector.modelfile import read_header

    header = read_header(args.model)
    kinds = {"detector": card_lines, "classifier": classifier_lines, "backbone": backbone_lines}
    try:
        _check_options(header)
        lines = kinds[header["kind"]](header)
        lines += _of_card(about_lines, header["card"])
    except KeyError as error:
        raise InputError(f"{args.model}: not a complete sppnet model: {error} is missing") from error
    except InputError as error:
        raise InputError(f"{args.model}: not a valid sppnet model: {error}") from error
    # A card may hold characters that a terminal obeys.
    print("".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in "\n".join(lines)))
    return 0


def _check_options(header: dict[str, Any]) -> None:
    """Raise an InputError for options that no model has."""
    from ..detector.classification.options import ClassifierOptions
    from ..detector.detection.calibration import Calibration
    from ..detector.options import DetectOptions, FeatureOptions

    if header["kind"] == "classifier":
        ClassifierOptions.from_dict(header["options"])
    if header["kind"] == "detector":
        FeatureOptions.from_dict(header["features"])
        DetectOptions.from_dict(header["detection"])
        if header.get("calibration") is not None:
            count, expected = len(Calibration.from_dict(header["calibration"]).slopes), len(header["classes"])
            if count != expected:
                raise InputError(f"the calibration has {count} classes, the model has {expected}")


def _of_card(lines: Callable[..., list[str]], *arguments: Any) -> list[str]:
    """Lines from a card; a card may hold anything, so instead of lines that cannot be made one that says so."""
    try:
        return lines(*arguments)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        return [f"a part of the card is not as sppnet writes it, and left out ({type(error).__name__}: {error})"]


def classifier_lines(header: dict[str, Any]) -> list[str]:
    """Header of a classification network as text."""
    options, card = header["options"], header["card"]
    levels = ", ".join(f"{n} x {n}" for n in options["levels"])
    side = options["size"]
    rows = {
        "classes": ", ".join(header["classes"]),
        "backbone": f"{_network(header)}, started from {card.get('weights', 'unknown')}",
        "pyramid": levels if options["fit"] == "any" else f"none: {side} x {side} pixels only ({options['fit']})",
        "labels": "any number for an image" if options["multi_label"] else "one for an image",
    }
    lines = [f"{name:<12}{value}" for name, value in rows.items()]
    return [*lines, *_of_card(_classifier_training, card, side), *_of_card(classifier_scores, card)]


def _classifier_training(card: dict[str, Any], side: int) -> list[str]:
    """Sizes, photographs and version of a classification network's training."""
    learn = card.get("training", {})
    rows = {
        "sizes": _sizes(learn.get("sizes", [side]), learn.get("size_rule", "alternate")),
        "trained on": f"{card.get('images', 'unknown')} images, {learn.get('epochs', 'unknown')} epochs",
        "made with": f"sppnet {card.get('version', 'unknown')}",
    }
    return [f"{name:<12}{value}" for name, value in rows.items()]


def backbone_lines(header: dict[str, Any]) -> list[str]:
    """Header of a distilled backbone as text."""
    return [f"{'backbone':<12}{_network(header)}", *_of_card(_distillation_lines, header["card"])]


def _distillation_lines(card: dict[str, Any]) -> list[str]:
    """Teacher, photographs and scores of a distillation."""
    learn, held_out = card["training"], card["held_out"]
    rows = {
        "teacher": f"{card['teacher']}, weights {card['teacher_weights']}",
        "sizes": _sizes(learn["sizes"], learn["size_rule"]),
        "trained on": f"{card['images']} images without labels, {learn['epochs']} epochs",
        "made with": f"sppnet {card['version']}",
    }
    lines = [f"{name:<12}{value}" for name, value in rows.items()]
    if held_out["explained"] is not None:
        share, images = f"{100 * held_out['explained']:.1f} %", held_out["images"]
        lines.append(f"explains {share} of the variance of the map of {images} held-out images")
    return lines


def _network(header: dict[str, Any]) -> str:
    """Name of the network and of its map; older files do not name the stride."""
    stride = header.get("stride")
    return f"{header['backbone']}, layer {header['layer']}{'' if stride is None else f', stride {stride}'}"


def _sizes(sizes: list[int], rule: str) -> str:
    """Training sizes of a classification network."""
    if len(sizes) == 1:
        return f"{sizes[0]} pixels"
    if rule == "range":
        return f"{min(sizes)} to {max(sizes)} pixels, a random one each epoch"
    return f"{', '.join(map(str, sizes))} pixels, one each epoch in turn"


def classifier_scores(card: dict[str, Any]) -> list[str]:
    """Line with the held-out scores; empty without held-out photographs."""
    held_out = card.get("held_out")
    if not held_out:
        return []
    if "map" in held_out:
        return [f"VOC07 mAP of one view of {held_out['images']} held-out images: {held_out['map']:.3f}"]
    line = f"one view of {held_out['images']} held-out images: top-1 {held_out['top1']:.3f}"
    return [line if held_out["top5"] is None else f"{line}, top-5 {held_out['top5']:.3f}"]


def card_lines(header: dict[str, Any]) -> list[str]:
    """Header of a detector as text."""
    features, card = header["features"], header["card"]
    rows = {
        "classes": ", ".join(header["classes"]),
        "backbone": f"{_network(header)}, weights {card.get('weights', 'unknown')}",
        "pyramid": ", ".join(f"{n} x {n}" for n in features["levels"]),
        **_method(features),
        "features": features["features"],
        "scores": {"svm": "linear SVMs", "softmax": "log-odds of the softmax"}[header["scorer"]],
        "proposals": _proposals(header["detection"]),
        "trained on": f"{card.get('images', 'unknown')} images",
        "made with": f"sppnet {card.get('version', 'unknown')}",
    }
    lines = [f"{name:<12}{value}" for name, value in rows.items()]
    names, calibration = header["classes"], header.get("calibration")
    for part in (choice_lines, score_lines, compression_lines):
        lines += _of_card(part, card)
    return lines + _of_card(calibration_lines, names, calibration, card)


def _proposals(detection: dict[str, Any]) -> str:
    """Proposal method, number of windows, and what becomes of the boxes."""
    times, voting = detection.get("regressions", 1), detection.get("voting", 1.0)
    said = [] if times == 1 else [f"boxes regressed {times} times"]
    if times:
        said += ["boxes scored again"] * detection.get("rescored", False)
        said += [f"votes from an IoU of {voting:g}"] * (voting < 1)
    return ", ".join([detection["proposals"], f"{detection['max_windows']} windows", *said])


def _method(features: dict[str, Any]) -> dict[str, str]:
    """Scales of the image, or size of warped windows."""
    if features.get("method", "spp") == "spp":
        return {"scales": ", ".join(str(scale) for scale in features["scales"])}
    side = features["crop"]
    return {"warped to": f"{side} x {side}, {features['context']} of them context on each side (R-CNN's method)"}


def score_lines(card: dict[str, Any]) -> list[str]:
    """Table of AP on images that the detectors scored there had not learnt from; empty without such images."""
    held_out = card.get("held_out")
    if not held_out:
        return []
    from ..eval.report import text_table

    # Earlier versions did not count the objects of the held-out images.
    objects = held_out.get("objects", {})
    rows = [[name, objects.get(name), ap] for name, ap in held_out["ap"].items()]
    rows.append(["mean", sum(objects.values()) if objects else None, held_out["map"]])
    where, spread = scored_on(held_out), spread_lines(held_out)
    return [f"AP ({held_out['metric']}) on {where}", text_table(["class", "objects", "AP"], rows), *spread]


def scored_on(held_out: dict[str, Any]) -> str:
    """The photographs of held-out scores, in words."""
    images, folds = held_out["images"], held_out.get("folds", 1)
    return f"{images} held-out images" if folds < 2 else f"{images} images, by cross-validation with {folds} folds"


def spread_lines(held_out: dict[str, Any]) -> list[str]:
    """A line about how held-out scores differ between the folds, if there are some."""
    spread = held_out.get("spread")
    return [] if spread is None else [f"standard deviation of the mean AP over the folds: {spread:.3f}"]


def choice_lines(card: dict[str, Any]) -> list[str]:
    """Table of the options that the training has chosen by itself; empty without one."""
    if not card.get("choices"):
        return []
    rows = choice_rows(card)
    widths = [max(map(len, column)) for column in list(zip(*rows, strict=True))[:2]]
    lines = [f"{option:<{widths[0]}}  {value:<{widths[1]}}  {why}" for option, value, why in rows]
    return [f"chosen by the photographs, with --effort {card['effort']}:", *lines]


def choice_rows(card: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Options that the training has chosen by itself, as typed, their values, and why."""
    return [(as_option(one["name"]), _chosen(one["value"]), one["why"]) for one in card.get("choices", [])]


def as_option(name: str) -> str:
    """An option as it is typed."""
    return f"--{name.replace('_', '-')}"


def _chosen(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return as_typed(value)


def about_lines(card: dict[str, Any]) -> list[str]:
    """Origin of a model, from the "about" of its card; empty without one."""
    width = max(40, min(get_terminal_size().columns - 2, 100))
    lines = []
    for key, value in card.get("about", {}).items():
        scores = isinstance(value, dict)
        parts = [f"{name}: {_figure(of)}" for name, of in value.items()] if scores else str(value).splitlines()
        for number, part in enumerate(parts):
            label = f"{'' if number else _LABELS.get(key, key):<11} "
            # Do not break commands and addresses, so that they can be copied.
            lines.append(label + part if key == "command" else _wrapped(label, part, width))
    return lines


def _wrapped(label: str, text: str, width: int) -> str:
    wrapper = TextWrapper(width, label, " " * 12, break_long_words=False, break_on_hyphens=False)
    return wrapper.fill(text)


def _figure(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def calibration_lines(
    class_names: Sequence[str], calibration: dict[str, Any] | None, card: dict[str, Any]
) -> list[str]:
    """Threshold of each class and calibration error; empty for a model without probabilities.

    Parameters
    ----------
    class_names : sequence of str
    calibration : dict or None
        As written by :class:`.calibration.Calibration`.
    card : dict
    """
    if calibration is None:
        return []
    from ..eval.reliability import error_lines

    shown = zip(class_names, calibration["thresholds"], strict=True)
    lines = [f"shown above a probability of: {', '.join(f'{name} {threshold:.2f}' for name, threshold in shown)}"]
    held_out = card.get("held_out", {})
    if held_out.get("wrong_weight", 1) > 1:
        lines.append(
            f"fewer than a third of these photographs are without {class_names[0]}: probabilities and thresholds allow "
            "for a third"
        )
    measured = card.get("compression", {}).get("held_out_calibration") or held_out.get("calibration")
    return lines + (["on the same images, cross-fitted:", *error_lines(measured)] if measured else [])


def compression_lines(card: dict[str, Any]) -> list[str]:
    """Compression of the fc layers and its accuracy cost; empty for a model without compression."""
    compression = card.get("compression")
    if not compression:
        return []
    lines = [
        f"fc layers compressed ({compression['method']}): {compression['bytes'] / 1e6:.1f} MB, "
        f"{compression['multiplications'] / 1e6:.1f} million multiplications a window, before "
        f"{compression['bytes_before'] / 1e6:.1f} MB, {compression['multiplications_before'] / 1e6:.1f} million"
    ]
    for name, rank in compression["ranks"].items():
        lines.append(f"{name}: rank {rank}, {100 * compression['kept_energy'][name]:.1f} % of the weights' energy")
    if "held_out_map" in compression:
        whole = card["held_out"]["map"]
        lines.append(
            f"held-out mAP {compression['held_out_map']:.3f}, whole {whole:.3f}: "
            f"{100 * (compression['held_out_map'] - whole):+.1f} points"
        )
    return lines

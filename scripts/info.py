"""``sppnet info``: what is in a model file."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

HELP = "Show what is in a model file: classes, backbone, pyramid, scales, training data, scores, versions."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``sppnet info``."""
    parser.add_argument("model", type=Path, metavar="M", help="the model file")


def run(args: argparse.Namespace) -> int:
    """Print the card; only the file's header is read."""
    from ..detector.modelfile import read_header

    header = read_header(args.model)
    lines = {"detector": card_lines, "classifier": classifier_lines}[header["kind"]](header)
    print("\n".join(lines))
    return 0


def classifier_lines(header: dict[str, Any]) -> list[str]:
    """The header of a classification network as text."""
    options, card = header["options"], header["card"]
    levels = ", ".join(f"{n} x {n}" for n in options["levels"])
    side, learn = options["size"], card.get("training", {})
    rows = {
        "classes": ", ".join(header["classes"]),
        "backbone": f"{header['backbone']}, layer {header['layer']}, started from {card.get('weights', 'unknown')}",
        "pyramid": levels if options["fit"] == "any" else f"none: {side} x {side} pixels only ({options['fit']})",
        "labels": "any number for an image" if options["multi_label"] else "one for an image",
        "sizes": _sizes(learn.get("sizes", [side]), learn.get("size_rule", "alternate")),
        "trained on": f"{card.get('images', 'unknown')} images, {learn.get('epochs', 'unknown')} epochs",
        "made with": f"sppnet {card.get('version', 'unknown')}",
    }
    return [f"{name:<12}{value}" for name, value in rows.items()] + classifier_scores(card)


def _sizes(sizes: list[int], rule: str) -> str:
    """At which sizes a classification network learnt."""
    if len(sizes) == 1:
        return f"{sizes[0]} pixels"
    if rule == "range":
        return f"{min(sizes)} to {max(sizes)} pixels, a random one each epoch"
    return f"{', '.join(map(str, sizes))} pixels, one each epoch in turn"


def classifier_scores(card: dict[str, Any]) -> list[str]:
    """A line on the held-out photographs, or nothing when none were held out."""
    held_out = card.get("held_out")
    if not held_out:
        return []
    if "map" in held_out:
        return [f"VOC07 mAP of one view of {held_out['images']} held-out images: {held_out['map']:.3f}"]
    line = f"one view of {held_out['images']} held-out images: top-1 {held_out['top1']:.3f}"
    return [line if held_out["top5"] is None else f"{line}, top-5 {held_out['top5']:.3f}"]


def card_lines(header: dict[str, Any]) -> list[str]:
    """A model's header as text."""
    features, card = header["features"], header["card"]
    rows = {
        "classes": ", ".join(header["classes"]),
        "backbone": f"{header['backbone']}, layer {header['layer']}, weights {card.get('weights', 'unknown')}",
        "pyramid": ", ".join(f"{n} x {n}" for n in features["levels"]),
        **_method(features),
        "features": features["features"],
        "scores": {"svm": "linear SVMs", "softmax": "log-odds of the softmax"}[header["scorer"]],
        "proposals": f"{header['detection']['proposals']}, {header['detection']['max_windows']} windows",
        "trained on": f"{card.get('images', 'unknown')} images",
        "made with": f"sppnet {card.get('version', 'unknown')}",
    }
    lines = [f"{name:<12}{value}" for name, value in rows.items()]
    return lines + score_lines(card) + compression_lines(card)


def _method(features: dict[str, Any]) -> dict[str, str]:
    """At which size windows are seen."""
    if features.get("method", "spp") == "spp":
        return {"scales": ", ".join(str(scale) for scale in features["scales"])}
    side = features["crop"]
    return {"warped to": f"{side} x {side}, {features['context']} of them context on each side (R-CNN's method)"}


def score_lines(card: dict[str, Any]) -> list[str]:
    """The table of AP on held-out images, or nothing when none were held out."""
    held_out = card.get("held_out")
    if not held_out:
        return []
    from ..eval.report import text_table

    objects = card["objects"]
    rows = [[name, objects[name], ap] for name, ap in held_out["ap"].items()]
    rows.append(["mean", sum(objects.values()), held_out["map"]])
    title = f"AP ({held_out['metric']}) on {held_out['images']} held-out images, before they joined the training"
    return [title, text_table(["class", "objects", "AP"], rows)]


def compression_lines(card: dict[str, Any]) -> list[str]:
    """What the fc layers were made of their compression, and what it cost, where they were compressed."""
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

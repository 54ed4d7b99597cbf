"""Draws the pictures of the documentation from a real photograph and the bundled model ``animals``.

``python docs/pictures.py [FOLDER]`` writes them to FOLDER (``docs/pictures`` when absent). The photographs come with
scikit-image: Chelsea the cat (by Stefan van der Walt, CC0) and an astronaut (by NASA, public domain).
"""

from __future__ import annotations

import itertools
import os
import shutil
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import sppnet
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import ConnectionPatch, Rectangle
from sppnet.data.boxes import iou
from sppnet.data.example_photographs import free_photographs
from sppnet.data.image import read_image, write_image
from sppnet.detector.pooling.levels import edges
from sppnet.detector.windows.projection import project
from sppnet.detector.windows.scales import resize, scale_boxes

INK, WINDOW, QUIET = "#222222", "#D55E00", "#0072B2"
LEVELS = (1, 2, 3, 6)

Point = tuple[float, float]


@dataclass(frozen=True)
class Scene:
    """One photograph on its way through the detector.

    Attributes
    ----------
    image, scaled : uint8 arrays (H, W, 3)
        The photograph, and at the scale of the map.
    feature_map : float array (C, h, w)
    window : float array (4,)
        The window that is followed, x1 y1 x2 y2 in pixels of the photograph.
    on_scaled, cells : arrays (4,)
        The window in the scaled photograph, and its first and last cells on the map, inclusive.
    windows : float array (N, 4)
        The first proposals.
    scores : float array (classes,)
        Of the window.
    detector, found
        The detector, and what it finds.
    """

    image: Any
    scaled: Any
    feature_map: Any
    window: Any
    on_scaled: Any
    cells: Any
    windows: Any
    scores: Any
    detector: Any
    found: Any


def follow(path: Path) -> Scene:
    """Run the detector on a photograph and keep what it computes for the window that scores best."""
    detector = sppnet.SPPDetector.load("animals")
    image = read_image(path)
    found = detector.detect(image)
    windows = detector.propose(image)
    detector.set_image(image)
    scores = detector.score_windows(windows)
    # A window smaller than the photograph shows more of what projection does.
    inside = (windows[:, 2] - windows[:, 0] < 0.8 * image.shape[1]) & (iou(windows, found.boxes[:1])[:, 0] > 0.35)
    best = np.flatnonzero(inside)[scores[inside].max(axis=1).argmax()]
    backbone, scale = detector.features.backbone, detector.features.options.scales[-1]
    scaled = resize(image, scale)[0]
    feature_map = backbone.feature_map(scaled).numpy()
    on_scaled = scale_boxes(windows[best : best + 1], image.shape[:2], scaled.shape[:2])
    cells = project(on_scaled, feature_map.shape[1:], backbone.stride, backbone.offset0)
    return Scene(
        image, scaled, feature_map, windows[best], on_scaled[0], cells[0], windows, scores[best], detector, found
    )


def outline(axes: Axes, box: Any, colour: str = WINDOW, width: float = 2.0) -> None:
    """Draw a box x1 y1 x2 y2."""
    x1, y1, x2, y2 = box
    axes.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, edgecolor=colour, linewidth=width))


def bare(axes: Axes, title: str) -> None:
    """A title, and no ticks."""
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_title(title, fontsize=10, color=INK)
    for spine in axes.spines.values():
        spine.set_color("#999999")


def strength(feature_map: Any) -> Any:
    """One number for each cell, (h, w): the norm over the channels."""
    return np.linalg.norm(feature_map, axis=0)


def show_map(axes: Axes, feature_map: Any) -> None:
    """Draw a map; padding makes a few cells in the corners far stronger than all others, which take no colours."""
    values = strength(feature_map)
    axes.imshow(values, cmap="viridis", vmax=np.percentile(values, 99.5))


def on_map(cells: Any) -> Any:
    """Inclusive cells as a box on a map that is drawn with ``imshow``."""
    return np.array([cells[0] - 0.5, cells[1] - 0.5, cells[2] + 0.5, cells[3] + 0.5])


def maxima(scene: Scene, n: int) -> Any:
    """The n x n maxima of the window, (n, n): the norm over the channels."""
    x0, y0, x1, y1 = scene.cells
    part = scene.feature_map[:, y0 : y1 + 1, x0 : x1 + 1]
    return strength(torch.nn.functional.adaptive_max_pool2d(torch.from_numpy(part), n).numpy())


def colour_range(scene: Scene) -> dict[str, Any]:
    """Colours that all levels share."""
    return {"vmin": 0.6 * maxima(scene, 6).min(), "vmax": maxima(scene, 1).max()}


def pipeline(scene: Scene) -> Figure:
    """From the photograph to the boxes, in six steps."""
    figure = Figure(figsize=(12.5, 2.6), layout="constrained")
    axes = figure.subplots(1, 6, gridspec_kw={"width_ratios": [1, 1, 1, 0.9, 0.8, 1]})
    axes[0].imshow(scene.image)
    bare(axes[0], "photograph")
    show_map(axes[1], scene.feature_map)
    bare(axes[1], "maps: convolutions, once")
    axes[2].imshow(scene.image, alpha=0.6)
    for box in scene.windows[:60]:
        outline(axes[2], box, QUIET, 0.5)
    outline(axes[2], scene.window)
    bare(axes[2], "2,000 windows")
    draw_pyramid(axes[3], scene)
    bare(axes[3], "pyramid: 50 maxima")
    height, width = scene.image.shape[:2]
    names, order = scene.detector.class_names, np.argsort(scene.scores)
    colours = [WINDOW if place == order[-1] else "#AAAAAA" for place in order]
    axes[4].barh([names[place] for place in order], scene.scores[order], color=colours)
    axes[4].axvline(0, color=INK, linewidth=0.8)
    axes[4].tick_params(labelsize=8, length=0)
    axes[4].set_xticks([])
    axes[4].set_title("SVM scores", fontsize=10, color=INK)
    for side in ("top", "right", "bottom"):
        axes[4].spines[side].set_visible(False)
    axes[5].imshow(scene.image)
    for box, label, probability in zip(scene.found.boxes, scene.found.labels, scene.found.probabilities, strict=True):
        outline(axes[5], np.clip(box, 3, [width - 4, height - 4, width - 4, height - 4]))
        tag = {"facecolor": WINDOW, "edgecolor": "none", "pad": 2}
        text = f"{names[label]} {probability:.2f}"
        axes[5].text(box[0] + 12, box[1] + 34, text, color="white", fontsize=9, bbox=tag)
    bare(axes[5], "boxes")
    for left, right in itertools.pairwise(axes):
        arrow = connection((1.01, 0.5), (-0.01, 0.5), "axes fraction", left, right)
        arrow.set(arrowstyle="-|>", mutation_scale=12, color=INK)
        figure.add_artist(arrow)
    return figure


def draw_pyramid(axes: Axes, scene: Scene) -> None:
    """The levels of the window's pyramid, each smaller than the one below it."""
    colours, top = colour_range(scene), 0.0
    for n in LEVELS:
        side = 0.6 + 0.4 * n
        left = (3.2 - side) / 2
        place = (left, left + side, top + side * 0.7, top)
        axes.imshow(maxima(scene, n), cmap="viridis", extent=place, aspect="auto", **colours)
        for step in range(n + 1):
            axes.plot([left, left + side], [top + step * side * 0.7 / n] * 2, color="white", linewidth=0.5)
            axes.plot([left + step * side / n] * 2, [top, top + side * 0.7], color="white", linewidth=0.5)
        top += side * 0.7 + 0.15
    axes.set_xlim(0, 3.2)
    axes.set_ylim(top, -0.1)


def projection(scene: Scene) -> Figure:
    """A window on the photograph, and its cells on the map."""
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.imshow(scene.scaled)
    outline(left, scene.on_scaled)
    height, width = scene.scaled.shape[:2]
    bare(left, f"the photograph at the map's scale: {width} x {height} pixels")
    show_map(right, scene.feature_map)
    rows, columns = scene.feature_map.shape[1:]
    for row in range(rows + 1):
        right.axhline(row - 0.5, color="white", linewidth=0.2)
    for column in range(columns + 1):
        right.axvline(column - 0.5, color="white", linewidth=0.2)
    outline(right, on_map(scene.cells))
    bare(right, f"its map: {columns} x {rows} cells, one every {scene.detector.features.backbone.stride} pixels")
    for one, other in zip(corners(scene.on_scaled), corners(on_map(scene.cells)), strict=True):
        line = connection(one, other, "data", left, right)
        line.set(color=WINDOW, linewidth=0.8, linestyle="--")
        figure.add_artist(line)
    return figure


def connection(one: Point, other: Point, kind: str, left: Axes, right: Axes) -> ConnectionPatch:
    """A line from a point of one panel to a point of another, in coordinates of this kind."""
    return ConnectionPatch(one, other, coordsA=kind, coordsB=kind, axesA=left, axesB=right)


def corners(box: Any) -> list[Point]:
    """The two right-hand corners of a box, from which lines go to the map."""
    return [(box[2], box[1]), (box[2], box[3])]


def pyramid(scene: Scene) -> Figure:
    """The cells of a window, and their maxima at each level."""
    figure = Figure(figsize=(11, 2.6), layout="constrained")
    axes = figure.subplots(1, 1 + len(LEVELS))
    x0, y0, x1, y1 = scene.cells
    part = strength(scene.feature_map)[y0 : y1 + 1, x0 : x1 + 1]
    axes[0].imshow(part, cmap="viridis")
    high, wide = part.shape
    # The bins of level 3: with rounding they may share a row or a column.
    for n, extent, draw in ((3, wide, axes[0].axvline), (3, high, axes[0].axhline)):
        for start, end in zip(*edges(extent, n), strict=True):
            for place in (start, end):
                draw(place - 0.5, color="white", linewidth=0.6, linestyle=":")
    bare(axes[0], f"the window: {wide} x {high} cells")
    colours = colour_range(scene)
    for axis, n in zip(axes[1:], LEVELS, strict=True):
        axis.imshow(maxima(scene, n), cmap="viridis", aspect=high / wide, **colours)
        bare(axis, f"level {n}: {n} x {n} bins")
    return figure


def detections(paths: list[Path], height: int = 360) -> Any:
    """Photographs with their detections, side by side at one height, uint8 (H, W, 3)."""
    detector, drawn = sppnet.SPPDetector.load("animals"), []
    for path in paths:
        image = read_image(path)
        # Drawn at the size at which it is shown, so that lines and letters are, too.
        width = round(image.shape[1] * height / image.shape[0])
        small = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
        drawn.append(detector.detect(small).draw(small))
        drawn.append(np.full((height, 8, 3), 255, np.uint8))
    return np.concatenate(drawn[:-1], axis=1)


def report(path: Path, photographs: Iterable[Path]) -> None:
    """Write a screenshot of the page of ``sppnet detect photos --report``; needs playwright and Chromium."""
    from playwright.sync_api import sync_playwright
    from sppnet.scripts.cli import main as sppnet_main

    path = path.absolute()
    with tempfile.TemporaryDirectory() as place, sync_playwright() as driver:
        os.chdir(place)
        Path("photos").mkdir()
        for photograph in photographs:
            shutil.copy(photograph, "photos")
        sppnet_main(["detect", "photos", "--report", "--no-draw", "-o", "found", "--quiet"])
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 960, "height": 640})
        page.goto(Path("found/report.html").absolute().as_uri())
        page.wait_for_load_state("networkidle")
        page.screenshot(path=path, type="jpeg", quality=85)
        browser.close()


def main(folder: Path) -> None:
    """Write all pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    photographs = {path.stem: path for path in free_photographs()}
    write_image(folder / "detections.jpg", detections([photographs["chelsea"], photographs["astronaut"]]))
    scene = follow(photographs["chelsea"])
    for name, draw in (("pipeline", pipeline), ("projection", projection), ("pyramid", pyramid)):
        draw(scene).savefig(
            folder / f"{name}.png", dpi=110, bbox_inches="tight", pad_inches=0.05, metadata={"Software": None}
        )
    report(folder / "report.jpg", photographs.values())


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "pictures")

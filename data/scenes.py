"""Generated scenes: photograph-like images of textured shapes with exact labels.

They replace a real dataset in tests, examples and first experiments. A class is a shape with
its texture (a striped disc, a chequered box, a spotted star, a ringed triangle). Size,
proportions, tilt, colours, light and surroundings are random, so neither colour nor position
reveals the class.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from .arrays import Array
from .errors import InputError
from .image import write_image
from .store import atomic_path
from .voc import write_annotation

Rng = np.random.Generator

# An object is difficult if others cover more than the first fraction of it, and dropped above the second.
_DIFFICULT_ABOVE = 0.6
_DROPPED_ABOVE = 0.9


@dataclass(frozen=True, eq=False)
class Scene:
    """A generated image and its labelled objects.

    Attributes
    ----------
    image : RGB uint8 array (H, W, 3)
    boxes : float32 array (N, 4)
        x1, y1, x2, y2, half-open, around each object's visible pixels.
    labels : int64 array (N,)
        Indices into the classes that the scene was drawn with.
    difficult : bool array (N,)
        Objects mostly covered by others.
    """

    image: NDArray[np.uint8]
    boxes: Array
    labels: Array
    difficult: Array


def make_scenes(
    root: str | Path,
    counts: Mapping[str, int],
    seed: int = 0,
    size: tuple[int, int] = (240, 320),
    classes: Sequence[str] | None = None,
) -> Path:
    """Write generated scenes as a dataset in VOC layout.

    Parameters
    ----------
    root : str or Path
        The folder to write; its ``JPEGImages/`` and so on are made.
    counts : mapping of str to int
        Number of scenes of each image set, such as ``{"train": 60, "val": 30}``.
    seed : int
        A scene depends only on the seed, its set and its number: the same call writes the same
        bytes, and a larger count does not change earlier scenes.
    size : (height, width)
        Approximate size of scenes; each differs a little, and some are in portrait format.
    classes : sequence of str, optional
        Some of ``CLASSES``; by default all.

    Returns
    -------
    Path
        ``root``.

    Raises
    ------
    InputError
        When a class is not in ``CLASSES``, or the folder has lists, images or labels that are not of scenes.
    """
    root = Path(root)
    names = CLASSES if classes is None else tuple(classes)
    unknown = [name for name in names if name not in CLASSES]
    if unknown or not names:
        raise InputError(f"no generated class {', '.join(unknown) or 'given'}; expected some of {', '.join(CLASSES)}")
    _refuse_other_files(root)
    for image_set, count in counts.items():
        ids = [f"{image_set}_{index:05d}" for index in range(count)]
        # First: by its list a stopped call is known to be of scenes.
        with atomic_path(root / "ImageSets/Main" / f"{image_set}.txt") as temporary:
            temporary.write_text("".join(f"{id}\n" for id in ids))
        for index, id in enumerate(ids):
            rng = np.random.default_rng([seed, index, *image_set.encode()])
            scene = draw_scene(rng, _vary_size(rng, size), names)
            write_image(root / "JPEGImages" / f"{id}.jpg", scene.image, quality=int(rng.integers(85, 96)))
            write_annotation(
                root / "Annotations" / f"{id}.xml",
                f"{id}.jpg",
                scene.image.shape[:2],
                scene.boxes,
                [names[label] for label in scene.labels],
                scene.difficult,
            )
    return root


def _refuse_other_files(root: Path) -> None:
    """Refuse a folder that holds a dataset which was not generated."""
    lists = sorted((root / "ImageSets/Main").glob("*.txt"))
    for path in lists:
        ours = re.compile(rf"{re.escape(path.stem)}_\d+")
        others = [id for id in path.read_text("utf-8", "replace").split() if not ours.fullmatch(id)]
        if others:
            raise InputError(f"{path}: lists {others[0]}, which is no generated scene; choose a folder of its own")
    sets = {path.stem for path in lists}
    for path in (path for part in ("JPEGImages", "Annotations") for path in sorted((root / part).glob("[!.]*"))):
        known = re.fullmatch(r"(.*)_\d+", path.stem)
        if known is None or known[1] not in sets:
            raise InputError(f"{path}: no generated scene; choose a folder of its own")


def draw_scene(rng: Rng, size: tuple[int, int] = (240, 320), classes: Sequence[str] | None = None) -> Scene:
    """Draw one scene of one to five objects.

    Parameters
    ----------
    rng : numpy Generator
        The only source of randomness.
    size : (height, width)
        Size of the image in pixels; at least 32 each.
    classes : sequence of str, optional
        Some of ``CLASSES``; by default all.
    """
    names = CLASSES if classes is None else tuple(classes)
    height, width = size
    if min(size) < 32:
        raise ValueError(f"size must be at least 32 x 32, not {height} x {width}")
    canvas = _background(rng, height, width)
    owner = np.full((height, width), -1)
    labels: list[int] = []
    extents: list[int] = []
    for _ in range(rng.integers(1, 6)):
        label = int(rng.integers(len(names)))
        thing = _place(rng, owner)
        inside = _paint(rng, canvas, names[label], thing)
        owner[inside] = len(labels)
        labels.append(label)
        extents.append(int(inside.sum()))
    boxes, kept, difficult = _visible(owner, extents)
    return Scene(_photograph(rng, canvas), boxes, np.array(labels, np.int64)[kept], difficult)


# --- shapes and textures: functions of object coordinates u, v in [-1, 1] ---------------------------------------------


def _disc(u: Array, v: Array) -> Array:
    return u * u + v * v < 1


def _box(u: Array, v: Array) -> Array:
    return np.maximum(np.abs(u), np.abs(v)) < 0.9


def _star(u: Array, v: Array) -> Array:
    """Five points, one of them up."""
    angle = np.mod(np.arctan2(u, -v), 2 * np.pi / 5)
    # The edge of a star runs straight from a point (radius 1) to a notch (radius 0.45).
    fold = np.minimum(angle, 2 * np.pi / 5 - angle)
    x, y = np.hypot(u, v) * np.cos(fold), np.hypot(u, v) * np.sin(fold)
    notch_x, notch_y = 0.45 * np.cos(np.pi / 5), 0.45 * np.sin(np.pi / 5)
    return (x - 1) * notch_y + y * (1 - notch_x) < 0


def _triangle(u: Array, v: Array) -> Array:
    return (v < 0.85) & (v > 2 * np.abs(u) - 0.95)


def _stripes(u: Array, v: Array, cycles: float) -> Array:
    return np.sin(2 * np.pi * cycles * (u + 0.3 * v))


def _checks(u: Array, v: Array, cycles: float) -> Array:
    return np.sin(np.pi * cycles * u) * np.sin(np.pi * cycles * v) * 2


def _spots(u: Array, v: Array, cycles: float) -> Array:
    return np.cos(2 * np.pi * cycles * u) + np.cos(2 * np.pi * cycles * v) - 0.7


def _rings(u: Array, v: Array, cycles: float) -> Array:
    return np.sin(2 * np.pi * cycles * np.hypot(u, v - 0.25))


_LOOKS: dict[str, tuple[Callable[[Array, Array], Array], Callable[[Array, Array, float], Array]]] = {
    "box": (_box, _checks),
    "disc": (_disc, _stripes),
    "star": (_star, _spots),
    "triangle": (_triangle, _rings),
}

CLASSES = tuple(_LOOKS)


# --- objects ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Thing:
    """Position of an object: centre, half sizes (pixels) and tilt (radians)."""

    x: float
    y: float
    half_width: float
    half_height: float
    tilt: float


def _place(rng: Rng, owner: Array) -> _Thing:
    """Choose a position for the next object: of several, usually the one that covers the fewest object pixels."""
    height, width = owner.shape
    tries = [_random_thing(rng, height, width) for _ in range(6)]
    if rng.random() < 0.15:
        return tries[0]
    return min(tries, key=lambda thing: _occupied(owner, thing))


def _random_thing(rng: Rng, height: int, width: int) -> _Thing:
    half = 0.5 * min(height, width) * math.exp(rng.uniform(math.log(0.22), math.log(0.7)))
    stretch = math.exp(rng.uniform(-0.3, 0.3))
    # Centres keep a distance from the edge: it cuts some objects, but never leaves only a sliver.
    margin = half * rng.uniform(0.6, 1.1)
    x = rng.uniform(min(margin, width / 2), max(width - margin, width / 2))
    y = rng.uniform(min(margin, height / 2), max(height - margin, height / 2))
    return _Thing(x, y, half * stretch, half / stretch, rng.uniform(-0.35, 0.35))


def _occupied(owner: Array, thing: _Thing) -> int:
    top, bottom = max(0, int(thing.y - thing.half_height)), max(0, int(thing.y + thing.half_height))
    left, right = max(0, int(thing.x - thing.half_width)), max(0, int(thing.x + thing.half_width))
    return int((owner[top:bottom, left:right] >= 0).sum())


def _paint(rng: Rng, canvas: Array, name: str, thing: _Thing) -> Array:
    """Paint an object and its shadow onto the canvas; returns the object's pixels as a bool array (H, W)."""
    softness = 0.06 * (thing.half_width + thing.half_height)
    whole = np.zeros(canvas.shape[:2], bool)
    window = _window(thing, 4 * softness + 2, whole)
    rows, columns = (axis.astype(np.float32) + 0.5 for axis in np.ogrid[window])
    across, down = columns - thing.x, rows - thing.y
    cos, sin = math.cos(thing.tilt), math.sin(thing.tilt)
    u = (cos * across + sin * down) / thing.half_width
    v = (cos * down - sin * across) / thing.half_height
    shape, texture = _LOOKS[name]
    inside = shape(u, v)

    # The blur would remove patterns finer than about six pixels a cycle.
    finest = min(thing.half_width, thing.half_height) / 6
    wave = np.clip(0.5 + 2.5 * texture(u, v, min(rng.uniform(1.8, 3.2), finest)), 0, 1)[..., None]
    dark, light = _two_colours(rng)
    direction = rng.uniform(0, 2 * math.pi)
    shading = np.clip(1 + 0.22 * (math.cos(direction) * u + math.sin(direction) * v), 0.6, 1.4)
    surface = (dark + (light - dark) * wave) * shading[..., None]
    surface += _clouds(rng, len(u), u.shape[1], 24, rng.uniform(4, 14))[..., None]

    cover = inside.astype(np.float32)
    shadow: Array = np.zeros_like(cover)
    shift = min(round(softness), *cover.shape)
    shadow[shift:, shift:] = cover[: cover.shape[0] - shift, : cover.shape[1] - shift]
    shadow = cv2.GaussianBlur(shadow, (0, 0), max(softness, 0.5))
    canvas[window] *= (1 - rng.uniform(0.1, 0.5) * shadow)[..., None]
    edge = cv2.GaussianBlur(cover, (0, 0), 0.6)[..., None]
    canvas[window] += edge * (surface - canvas[window])
    whole[window] = inside
    return whole


def _window(thing: _Thing, margin: float, image: Array) -> tuple[slice, slice]:
    """The part of the image that contains an object at any tilt, plus ``margin`` pixels."""
    height, width = image.shape
    reach = math.hypot(thing.half_width, thing.half_height) + margin
    rows = slice(max(0, int(thing.y - reach)), min(height, int(thing.y + reach) + 1))
    columns = slice(max(0, int(thing.x - reach)), min(width, int(thing.x + reach) + 1))
    return rows, columns


def _two_colours(rng: Rng) -> tuple[Array, Array]:
    """Two random colours, the second clearly brighter."""
    while True:
        pair = rng.uniform(10, 245, (2, 3))
        grey = pair @ (0.299, 0.587, 0.114)
        if abs(grey[1] - grey[0]) > 70:
            first, second = pair[np.argsort(grey)].astype(np.float32)
            return first, second


def _visible(owner: Array, extents: Sequence[int]) -> tuple[Array, Array, Array]:
    """Boxes of the visible parts, the indices of their objects, and which of them are difficult."""
    boxes, kept, difficult = [], [], []
    for index, extent in enumerate(extents):
        rows, columns = np.nonzero(owner == index)
        covered = 1 - len(rows) / max(extent, 1)
        if len(rows) == 0 or covered > _DROPPED_ABOVE:
            continue
        boxes.append([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
        kept.append(index)
        difficult.append(covered > _DIFFICULT_ABOVE)
    return np.array(boxes, np.float32).reshape(-1, 4), np.array(kept, np.int64), np.array(difficult, bool)


# --- surroundings and camera ------------------------------------------------------------------------------------------


def _clouds(rng: Rng, height: int, width: int, grain: float, strength: float = 1.0) -> Array:
    """Smooth noise, float32 (H, W), about -strength to strength, with features ``grain`` pixels wide and smaller."""
    noise = np.zeros((height, width), np.float32)
    for octave, weight in enumerate((0.6, 0.3, 0.15)):
        cell = max(grain / 2**octave, 1.0)
        shape = (int(height / cell) + 3, int(width / cell) + 3)
        coarse = (2 * rng.random(shape, np.float32) - 1) * (weight * strength)
        noise += cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return noise


def _background(rng: Rng, height: int, width: int) -> Array:
    """Clouds of three colours, and clutter of no class; float32 (H, W, 3)."""
    base, second, third = rng.uniform(30, 220, (3, 3)).astype(np.float32)
    canvas = np.broadcast_to(base, (height, width, 3)).copy()
    for colour, grain in ((second, 0.5), (third, 0.15)):
        weight = np.clip(0.5 + _clouds(rng, height, width, grain * width, 0.9), 0, 1)[..., None]
        canvas += weight * rng.uniform(0.3, 0.9) * (colour - canvas)
    canvas += _clouds(rng, height, width, 6, rng.uniform(2, 16))[..., None]
    for _ in range(rng.integers(4, 12)):
        _clutter(rng, canvas)
    return canvas


def _clutter(rng: Rng, canvas: Array) -> None:
    """Paint a stroke, a crooked patch or a soft blob onto the canvas."""
    height, width = canvas.shape[:2]
    colour = rng.uniform(10, 245, 3).astype(np.float32)
    kind = rng.integers(3)
    mask: Array = np.zeros((height, width), np.float32)
    centre = rng.uniform(0, 1, 2) * (width, height)
    reach = min(height, width) * rng.uniform(0.08, 0.4)
    if kind == 0:
        steps = rng.normal(0, reach / 2, (int(rng.integers(3, 8)), 2))
        points = (centre + np.cumsum(steps, axis=0)).astype(np.int32)
        cv2.polylines(mask, [points], bool(rng.integers(2)), 1.0, int(rng.integers(1, 6)), cv2.LINE_AA)
    elif kind == 1:
        points = (centre + rng.uniform(-reach, reach, (int(rng.integers(4, 8)), 2))).astype(np.int32)
        cv2.fillPoly(mask, [points], 1.0, cv2.LINE_AA)
    else:
        axes = (int(reach * rng.uniform(0.3, 1)), int(reach * rng.uniform(0.3, 1)))
        point = (int(centre[0]), int(centre[1]))
        cv2.ellipse(mask, point, axes, float(rng.uniform(0, 180)), 0, 360, 1.0, -1, cv2.LINE_AA)
        mask = cv2.GaussianBlur(mask, (0, 0), max(reach / 4, 0.5))
    x, y, columns, rows = cv2.boundingRect((mask > 0).astype(np.uint8))
    part = canvas[y : y + rows, x : x + columns]
    weight = mask[y : y + rows, x : x + columns, None] * rng.uniform(0.5, 1)
    grain = _clouds(rng, rows, columns, rng.uniform(4, 30), rng.uniform(0, 25))[..., None] if part.size else 0
    part += weight * (colour + grain - part)


def _photograph(rng: Rng, canvas: Array) -> NDArray[np.uint8]:
    """Simulate a camera: uneven light, contrast, slight blur, noise."""
    height, width = canvas.shape[:2]
    light = 1 + _clouds(rng, height, width, width, rng.uniform(0, 0.2))
    image = canvas * light[..., None]
    image = 128 + rng.uniform(0.75, 1.1) * (image - 128) + rng.uniform(-18, 18)
    image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.3, 0.9))
    image += rng.standard_normal(image.shape, np.float32) * rng.uniform(1, 6)
    return np.clip(np.round(image), 0, 255).astype(np.uint8)


def _vary_size(rng: Rng, size: tuple[int, int]) -> tuple[int, int]:
    height, width = (max(32, round(side * rng.uniform(0.85, 1.15))) for side in size)
    return (width, height) if rng.random() < 0.2 else (height, width)

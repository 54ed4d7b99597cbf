"""Model files that are damaged or forged: they load with their meaning, or are refused in one line with their name."""

import functools
import json
import struct

import numpy as np
import pytest
import sppnet
import torch
from random_models import random_model
from safetensors.torch import save
from sppnet.data.errors import InputError
from sppnet.detector.classification.network import SPPClassifier
from sppnet.detector.classification.options import ClassifierOptions
from sppnet.detector.convolutions.backbone import Backbone
from sppnet.detector.descent.options import LearnOptions
from sppnet.detector.detection.calibration import Calibration
from sppnet.detector.modelfile import read_model, write_model
from sppnet.detector.options import FeatureOptions
from sppnet.detector.windows.features import WindowFeatures
from sppnet.scripts.cli import main

IMAGE = np.random.default_rng(0).integers(0, 256, (80, 120, 3), np.uint8)
WINDOWS = [[5, 5, 60, 50], [30, 10, 110, 79], [0, 0, 120, 80]]

#: What a field of a header may hold instead of its value, as JSON text.
VALUES = [
    *["null", "[]", "{}", '"x"', '""', "-1", "0", "0.5", "1e308", "NaN", "Infinity", "true", "[null]", '[{"a": []}]'],
    *["9" * 5000, "-" + "9" * 400, "[" * 1100 + "]" * 1100, '{"a":' * 1100 + "1" + "}" * 1100],
    *['"' + "x" * 1_000_000 + '"', r'"\ud800"', r'"a\u001b[2Jb\nc"', '["a", "a"]', '["", "b"]', r'["a\u0000", "b"]'],
]


def detections(path):
    """What a detector detects; its scores must be numbers."""
    detector = sppnet.load(path)
    detector.set_image(IMAGE)
    if not np.isfinite(detector.score_windows(WINDOWS)).all():
        raise ArithmeticError("scores are not finite")
    return detector.detect(IMAGE, 0, WINDOWS).to_records()


def probabilities(path):
    found = sppnet.load(path).predict(IMAGE)
    if not np.isfinite(list(found.values())).all():
        raise ArithmeticError("probabilities are not finite")
    return found


def channels(path):
    """Means of the channels of a backbone that starts from a file."""
    found = Backbone("sppnet_small", path).feature_map(IMAGE).mean(dim=(1, 2))
    if not found.isfinite().all():
        raise ArithmeticError("maps are not finite")
    return found.tolist()


USES = {"detector": detections, "classifier": probabilities, "backbone": channels}


def detector_file(path):
    features = WindowFeatures(Backbone("sppnet_small"), FeatureOptions(scales=(64,), levels=(1, 2)))
    card = {"weights": "none", "images": 3, "held_out": {"images": 2, "metric": "area", "ap": {"a": 0.5}, "map": 0.5}}
    calibration = Calibration((1.0, 2.0), (0.0, 0.5), (0.5, 0.5))
    random_model("ab", features, boxes=0.01, card=card, calibration=calibration).save(path)


def classifier_file(path):
    network = SPPClassifier(["a", "b"], options=ClassifierOptions(levels=(1, 2), width=8, size=64)).eval()
    network.card = {"weights": "none", "training": LearnOptions().to_dict(), "held_out": {"images": 2, "map": 0.5}}
    network.save(path)


def backbone_file(path):
    training = LearnOptions(sizes=(64,)).to_dict()
    card = {"training": training, "held_out": {"images": 2, "explained": 0.5}, "version": "1", "images": 5}
    header = {"kind": "backbone", "backbone": "sppnet_small", "layer": "features.6", "stride": 16}
    tensors = {f"backbone.{name}": value for name, value in Backbone("sppnet_small").state().items()}
    write_model(path, {**header, "card": card | {"teacher": "zf5", "teacher_weights": "none"}}, tensors)


MAKERS = {"detector": detector_file, "classifier": classifier_file, "backbone": backbone_file}


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """Makes a sound model of a kind: its bytes, header and tensors, and what comes of it."""

    @functools.cache
    def make(kind):
        path = tmp_path_factory.mktemp("sound") / "m.safetensors"
        MAKERS[kind](path)
        return path.read_bytes(), *read_model(path, kind), USES[kind](path)

    return make


def unsealed(text, tensors):
    """The bytes of a model of an earlier version, without a checksum."""
    return save({name: value.contiguous() for name, value in tensors.items()}, {"sppnet": text})


def with_field(header, rng):
    """The header's text with another value in a random place."""
    changed = json.loads(json.dumps(header))
    place, depth = changed, rng.integers(1, 4)
    while True:
        keys = list(place) if isinstance(place, dict) else range(len(place))
        key = keys[rng.integers(len(keys))]
        depth -= 1
        if depth == 0 or not isinstance(place[key], dict | list) or not place[key]:
            break
        place = place[key]
    place[key] = "PLACE"
    value = VALUES[rng.integers(len(VALUES))]
    return f"{key} is {value[:20]}", json.dumps(changed).replace('"PLACE"', value)


def with_tensors(tensors, rng):
    """The tensors with one that is missing, has another name, shape or type, or is not finite."""
    changed, name = dict(tensors), list(tensors)[rng.integers(len(tensors))]
    # Half of the time one of the few that are not the backbone's.
    if rng.random() < 0.5:
        few = [name for name in tensors if not name.startswith("backbone.")] or list(tensors)
        name = few[rng.integers(len(few))]
    value = changed.pop(name)
    ways = ["drop", "rename", "longer", "shorter", "flat", "deeper", "int", "nan", "infinite", "negative", "empty"]
    way = rng.choice(ways)
    if way == "rename":
        changed[name + "x"] = value
    elif way != "drop":
        whole = value.float().reshape(value.shape or (1,))
        changed[name] = {
            "longer": lambda: torch.cat([whole, whole]),
            "shorter": lambda: whole[: len(whole) // 2],
            "flat": lambda: whole.flatten()[None],
            "deeper": lambda: whole[None],
            "int": lambda: whole.long(),
            "nan": lambda: torch.full_like(whole, torch.nan),
            "infinite": lambda: torch.full_like(whole, -torch.inf),
            "negative": lambda: torch.full_like(value.float(), -1),
            "empty": lambda: whole[:0],
        }[way]()
    return f"{way} {name}", changed


def damaged(content, header, tensors, count):
    """So many damaged models: what kind of damage it is, what was done, their bytes."""
    text = json.dumps(header)
    body = 8 + struct.unpack("<Q", content[:8])[0]
    rng = np.random.default_rng(0)
    for number in range(count):
        kind = ["bit", "byte of the header", "cut", "field", "field", "tensors"][number % 6]
        changed = bytearray(content)
        if kind == "bit":
            place = int(rng.integers(body, len(content)))
            changed[place] ^= 1 << int(rng.integers(8))
            yield kind, f"at {place}", bytes(changed)
        elif kind == "byte of the header":
            place = int(rng.integers(body))
            changed[place] = int(rng.integers(256))
            yield kind, f"at {place}", bytes(changed)
        elif kind == "cut":
            place = int(rng.integers(body if rng.random() < 0.5 else len(content)))
            yield kind, f"at {place}", content[:place]
        elif kind == "field":
            done, changed_text = with_field(header, rng)
            yield kind, done, unsealed(changed_text, tensors)
        else:
            done, others = with_tensors(tensors, rng)
            yield kind, done, unsealed(text, others)


def fault(use, path, accepted):
    """What is wrong with how a file is taken, or None; ``accepted``: what may come of it, or None for anything."""
    try:
        found = use(path)
    except InputError as error:
        line = str(error)
        return None if str(path) in line and "\n" not in line and len(line) < 1000 else f"says {line[:300]!r}"
    except Exception as error:
        return f"{type(error).__name__}: {str(error)[:200]}"
    return None if accepted is None or found in accepted else "loads"


def shown(path, capsys):
    """What is wrong with how ``sppnet info`` shows a file, or None."""
    try:
        code = main(["info", str(path)])
    except Exception as error:
        return f"{type(error).__name__}: {str(error)[:200]}"
    output = capsys.readouterr()
    told = code in (0, 2) and len(output.err.splitlines()) == (code == 2) and "\x1b" not in output.out
    return None if told else f"status {code}, says {output.err[:300]!r}"


def faults(kind, sound, count, folder, capsys):
    """All that is wrong with how damaged models of a kind are loaded and shown."""
    content, header, tensors, expected = sound(kind)
    wrong, path = [], folder / "damaged.safetensors"
    for damage, done, changed in damaged(content, header, tensors, count):
        path.write_bytes(changed)
        # Without a checksum another value may be as good as the one before. A byte of the header may mean nothing.
        accepted = {"bit": [], "cut": [], "byte of the header": [expected]}.get(damage)
        said = [fault(USES[kind], path, accepted)]
        said += [shown(path, capsys)] * (damage in ("byte of the header", "field"))
        wrong += [(damage, done, one) for one in said if one]
    return wrong


@pytest.mark.parametrize(("kind", "count"), [("detector", 72), ("classifier", 36), ("backbone", 24)])
def test_damaged_models_are_refused_in_one_line_or_mean_the_same(kind, count, sound, tmp_path, capsys):
    assert faults(kind, sound, count, tmp_path, capsys) == []


@pytest.mark.corpus
@pytest.mark.parametrize(("kind", "count"), [("detector", 500), ("classifier", 300), ("backbone", 200)])
def test_many_damaged_models(kind, count, sound, tmp_path, capsys):
    assert faults(kind, sound, count, tmp_path, capsys) == []


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("kind", [], "kind must be a text"),
        ("backbone", None, "backbone must be a text"),
        ("layer", -1, "layer must be a text"),
        ("features", [], "features must be an object with names and values, not"),
        ("classes", [None, "b"], "classes must be a list, each a text"),
        ("classes", ["a", "a"], r"classes must be one or more different names, not \['a', 'a'\]"),
        ("classes", ["", "b"], "classes must be a list, each a text of 1 to 1000 characters"),
        ("classes", ["a\x1b[2J", "b"], "classes must be .* without control characters"),
        ("classes", ["a" * 10_000_000, "b"], "classes must be .{0,300}$"),
        ("classes", [], r"classes must be one or more different names, not \[\]"),
        ("scorer", "softmax", r"score.weights must be floating-point numbers of the shape \(3, 800\), not"),
        ("scorer", "tree", "scorer must be one of svm, softmax, not 'tree'"),
        ("card", [], "card must be an object"),
        ("features", {"levels": [1, 3], "features": "pool5"}, r"do not fit the levels|windows have 1600 numbers"),
        ("features", {"levels": [1, 2], "features": "fc6"}, "the features are fc6, and there is no such fc layer"),
        ("features", {"levels": [1, 1, 1, 1, 1]}, ""),
        ("detection", {"nms": None}, "nms must be a number from 0 to 1, not None"),
        ("stride", 0, "the stride of a map must be a whole number"),
    ],
)
def test_a_field_that_cannot_be_is_named(sound, tmp_path, field, value, message):
    _, header, tensors, _ = sound("detector")
    path = tmp_path / "m.safetensors"
    write_model(path, {**header, field: value}, tensors)
    if not message:  # five bins, as before
        assert sppnet.load(path).bundle.features.levels == (1,) * 5
        return
    with pytest.raises(InputError, match=rf"m\.safetensors: not a valid sppnet model: .*{message}") as caught:
        sppnet.load(path)
    assert "\n" not in str(caught.value)


def test_weights_for_other_maps_are_refused_at_load(sound, tmp_path):
    _, header, tensors, _ = sound("detector")
    width = tensors["score.weights"].shape[1]
    other = tensors | {
        "score.weights": tensors["score.weights"][:, : width // 2],
        "box.weights": tensors["box.weights"][:, : width // 2],
    }
    write_model(tmp_path / "m.safetensors", header, other)
    with pytest.raises(InputError, match=rf"m\.safetensors: .*windows have {width} numbers, .* for {width // 2}"):
        sppnet.load(tmp_path / "m.safetensors")


def test_what_a_classifier_claims_is_not_allocated(sound, tmp_path):
    _, header, tensors, _ = sound("classifier")
    for options, message in (
        ({"levels": [100_000], "width": 8}, r"do not fit the levels \(100000,\)"),
        ({"levels": [1], "width": 10**12}, "fc layers take 160 numbers to 2 classes here, not 800 to 2"),
    ):
        write_model(tmp_path / "m.safetensors", {**header, "options": options}, tensors)
        with pytest.raises(InputError, match=rf"m\.safetensors: .*{message}"):
            sppnet.load(tmp_path / "m.safetensors")


def test_info_shows_a_model_with_any_card(sound, tmp_path, capsys):
    path = tmp_path / "m.safetensors"
    for kind in MAKERS:
        _, header, tensors, _ = sound(kind)
        for value in (None, [], 5, "x", {"a": None}, [[]], "\ud800", float("nan"), 10**400):
            keys = ("weights", "images", "training", "held_out", "choices", "compression", "about", "version")
            write_model(path, {**header, "card": dict.fromkeys(keys, value)}, tensors)
            assert shown(path, capsys) is None
            assert main(["info", str(path)]) == 0
            assert "sppnet_small" in capsys.readouterr().out

"""Options of networks and training: refused values, and the size of every epoch."""

import json

import pytest
from sppnet.data.errors import InputError
from sppnet.detector.classification.options import ClassifierOptions
from sppnet.detector.descent.options import LearnOptions

BOTH = [
    ClassifierOptions(levels=(1, 4), width=8, dropout=0.5, size=112, fit="warp", multi_label=True),
    LearnOptions(epochs=3, rate=0.2, sizes=(224, 180), size_rule="range", mixed=False, seed=4),
]


@pytest.mark.parametrize("options", BOTH, ids=lambda options: type(options).__name__)
def test_json_and_back(options):
    assert type(options).from_dict(json.loads(json.dumps(options.to_dict()))) == options
    with pytest.raises(InputError, match="unknown option 'sizs'"):
        type(options).from_dict({"sizs": [64]})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"levels": ()}, "level"),
        ({"levels": (0, 2)}, "level"),
        ({"width": 0}, "a width of at least 1 .* not 0"),
        ({"dropout": 1.0}, "dropout from 0 to below 1, not 512 and 1.0"),
        ({"dropout": float("nan")}, "dropout"),
        ({"size": 63}, "64 pixels or more, not 63"),
        ({"fit": "stretch"}, "fit must be one of any, crop, warp, not 'stretch'"),
    ],
)
def test_networks_that_cannot_be(values, message):
    with pytest.raises(ValueError, match=message):
        ClassifierOptions(**values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"epochs": 0}, "epochs must be at least 1"),
        ({"batch": 1}, "the batch 2 or more photographs, not 30 and 1"),
        ({"rate": 0.0}, "rate must be positive, .* not 0.0"),
        ({"rate": float("nan")}, "rate must be positive"),
        ({"rate": float("inf")}, "at most a million, not inf"),
        ({"momentum": 1.0}, "momentum must be at least 0 and less than 1"),
        ({"weight_decay": -0.1}, "not 0.9, -0.1, 1.0 and 3"),
        ({"warmup": -1.0}, "warm-up at least 0"),  # whose rate would be negative
        ({"warmup": float("nan")}, "warm-up at least 0"),
        ({"patience": 0}, "patience at least 1"),
        ({"optimizer": "lion"}, "optimizer must be one of sgd, adamw, not 'lion'"),
        ({"schedule": "linear"}, "schedule must be one of cosine, steps, plateau"),
        ({"size_rule": "random"}, "size_rule must be one of alternate, range, not 'random'"),
        ({"sizes": ()}, "sizes must be 64 pixels or more"),
        ({"sizes": (64, 63)}, "not 64,63"),
        ({"sizes": (180, 224)}, "the largest first, not 180,224"),
        ({"held_out": 1.0}, "held-out part"),
        ({"average": 1.0}, "averaging"),
        ({"smoothing": -0.1}, "smoothing must be at least 0"),
        ({"seed": -1}, "seed must be 0 or more, not -1"),
    ],
)
def test_training_that_cannot_be(values, message):
    with pytest.raises(InputError, match=message):
        LearnOptions(**values)


def test_a_twin_without_spp_has_the_finest_level_alone():
    assert ClassifierOptions(levels=(1, 4, 2)).pooled_levels == (1, 4, 2)
    for fit in ("crop", "warp"):
        assert ClassifierOptions(levels=(1, 4, 2), fit=fit).pooled_levels == (4,)


def sizes_of(options):
    return [options.size_at(epoch) for epoch in range(options.epochs)]


def test_sizes_alternate_and_the_last_epoch_has_the_largest():
    assert sizes_of(LearnOptions(epochs=5, sizes=(224, 180))) == [224, 180, 224, 180, 224]
    assert sizes_of(LearnOptions(epochs=4, sizes=(224, 180))) == [180, 224, 180, 224]
    assert sizes_of(LearnOptions(epochs=5, sizes=(96, 80, 64))) == [80, 96, 64, 80, 96]
    assert sizes_of(LearnOptions(epochs=2, sizes=(96,))) == [96, 96]
    assert sizes_of(LearnOptions(epochs=1, sizes=(96, 64), size_rule="range")) == [96]


def test_sizes_of_a_range_stay_inside_and_follow_the_seed():
    first = sizes_of(LearnOptions(epochs=200, sizes=(96, 64), size_rule="range"))
    assert first[-1] == 96
    assert set(first) == set(range(64, 97))  # each of the 33, in 199 draws
    assert first == sizes_of(LearnOptions(epochs=200, sizes=(96, 64), size_rule="range"))
    assert first != sizes_of(LearnOptions(epochs=200, sizes=(96, 64), size_rule="range", seed=1))
    assert set(sizes_of(LearnOptions(epochs=5, sizes=(80,), size_rule="range"))) == {80}

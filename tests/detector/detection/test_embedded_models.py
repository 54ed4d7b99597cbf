"""Bundled models: small, loadable, and with a stated origin."""

import numpy as np
import pytest
from sppnet.data.embedded import embedded_models
from sppnet.data.example_photographs import sample_photographs
from sppnet.detector.detection.bundle import Bundle
from sppnet.detector.detection.detector import SPPDetector, detector_of

MEGABYTES = {"animals": 10, "cells": 4}


@pytest.mark.parametrize("name", sorted({*MEGABYTES, *embedded_models()}))
def test_a_model_of_the_package(name):
    path = embedded_models().get(name)
    if path is None:
        pytest.skip(f"the package carries no model '{name}' yet")
    assert path.stat().st_size <= MEGABYTES[name] * 1e6
    detector = detector_of(Bundle.load(name), "cpu")
    assert set(detector.card["about"]) >= {"data", "teacher", "licence", "command", "seed", "limits"}
    image = np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)
    detector.set_image(image)
    scores = detector.score_windows([[0, 0, 120, 90], [10, 10, 50, 60]])
    assert scores.shape == (2, len(detector.class_names))
    assert np.isfinite(scores).all()


@pytest.mark.parametrize(
    ("photograph", "shown"), [("chelsea", ["cat"]), ("astronaut", ["person"]), ("coffee", []), ("rocket", [])]
)
def test_animals_on_photographs_that_everybody_has(photograph, shown):
    (path,) = [path for path in sample_photographs() if path.stem == photograph]
    found = SPPDetector.load().detect(path)
    assert [found.class_names[label] for label in found.labels] == shown

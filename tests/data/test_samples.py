"""Photographs that come with scikit-image."""

import pytest
from sppnet.data import samples
from sppnet.data.errors import InputError
from sppnet.data.image import read_image


def test_the_samples_are_photographs():
    paths = samples.sample_photographs()
    assert len(paths) >= 3
    for path in paths:
        assert read_image(path).shape[2] == 3


@pytest.mark.parametrize("name", ["find_spec", "_NAMES"])
def test_their_absence_is_said(monkeypatch, name):
    monkeypatch.setattr(samples, name, (lambda package: None) if name == "find_spec" else ())
    with pytest.raises(InputError, match="scikit-image"):
        samples.sample_photographs()

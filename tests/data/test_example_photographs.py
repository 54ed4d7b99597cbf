"""Photographs that come with scikit-image."""

import pytest
from sppnet.data import example_photographs
from sppnet.data.errors import InputError
from sppnet.data.image import read_image


def test_the_samples_are_photographs():
    paths = example_photographs.sample_photographs()
    assert len(paths) >= 3
    for path in paths:
        assert read_image(path).shape[2] == 3


def test_the_free_ones_are_those_whose_licence_is_stated():
    free = example_photographs.free_photographs()
    assert set(free) < set(example_photographs.sample_photographs())
    assert not any("motorcycle" in path.name for path in free)
    documented = pytest.importorskip("skimage.data")
    for path in free:
        about = getattr(documented, path.stem).__doc__
        assert "public domain" in about or "CC0" in about


@pytest.mark.parametrize("name", ["find_spec", "_NAMES"])
def test_their_absence_is_said(monkeypatch, name):
    monkeypatch.setattr(example_photographs, name, (lambda package: None) if name == "find_spec" else ())
    with pytest.raises(InputError, match="scikit-image"):
        example_photographs.sample_photographs()

"""Predictions for many photographs."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from sppnet.data.errors import ImageError
from sppnet.data.labelled import LabelledImage
from sppnet.detector.classification.predict import predict_all
from sppnet.detector.classification.views import from_crops, named_views, predict_views

NOWHERE = LabelledImage(Path("nowhere.png"), np.array([0]))


@pytest.mark.parametrize("views", ["one", "ten"])
@pytest.mark.parametrize("crops", [False, True])
def test_photographs_in_order_and_errors_in_their_places(settled, labelled, views, crops):
    network, looks = settled(), named_views(views, 64)
    images = list(labelled(4))
    found = list(predict_all(network, [images[0], NOWHERE, *images[1:]], looks, crops))
    assert isinstance(found[1], ImageError)
    assert "nowhere.png: no such file" in str(found[1])
    for image, prediction in zip(images, [found[0], *found[2:]], strict=True):
        assert prediction.image_size == image.image.shape[:2]
        assert prediction.probabilities.dtype == np.float32
        expected = (from_crops if crops else predict_views)(network, image.image, looks)
        np.testing.assert_array_equal(prediction.probabilities, expected)


def test_nothing_is_nothing(settled):
    assert list(predict_all(settled(), [], named_views("one", 64))) == []


def test_other_errors_are_not_swallowed(settled):
    broken = SimpleNamespace(image=np.zeros((3, 3, 3), np.float32))
    with pytest.raises(ValueError, match="uint8"):
        list(predict_all(settled(), [broken], named_views("one", 64)))


def test_no_more_is_read_than_is_asked_for(settled, labelled):
    """Of a thousand photographs two are looked at: a few more are read ahead, and the reader stops."""
    image = labelled(4)[0].image
    read = []

    def photographs():
        for number in range(1000):
            read.append(number)
            yield SimpleNamespace(image=image)

    predictions = predict_all(settled(), photographs(), named_views("one", 64))
    next(predictions)
    next(predictions)
    predictions.close()
    assert len(read) < 10

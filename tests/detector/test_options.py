"""Options survive a JSON round trip and refuse unknown keys."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from sppnet.data.errors import InputError
from sppnet.detector.descent.options import Augmentation, LearnOptions
from sppnet.detector.detection.calibration import Calibration
from sppnet.detector.options import BoxOptions, DetectOptions, FeatureOptions, SVMOptions, TrainOptions


@pytest.mark.parametrize("kind", [BoxOptions, DetectOptions, FeatureOptions, SVMOptions, TrainOptions])
def test_round_trip_through_json(kind):
    assert kind.from_dict(json.loads(json.dumps(kind().to_dict()))) == kind()


def test_tuples_come_back_as_tuples():
    options = FeatureOptions(scales=(480, 688), levels=(1, 2, 4))
    assert FeatureOptions.from_dict(json.loads(json.dumps(options.to_dict()))) == options


def test_the_kind_of_features_keeps_its_key_in_files():
    values = FeatureOptions(kind="fc7").to_dict()
    assert values["features"] == "fc7"
    assert "kind" not in values
    with pytest.raises(InputError, match="unknown option 'feature' for FeatureOptions; did you mean 'features'"):
        FeatureOptions.from_dict({"feature": "fc7"})


def test_unknown_key_names_the_nearest():
    with pytest.raises(InputError, match="unknown option 'scale' for FeatureOptions; did you mean 'scales'"):
        FeatureOptions.from_dict({"scale": [688]})


@pytest.mark.parametrize("part", [-0.1, 1.0])
def test_held_out_part_is_a_part(part):
    with pytest.raises(InputError, match="held-out part must be at least 0 and less than 1"):
        TrainOptions(held_out=part)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"scales": ()}, "scales"),
        ({"scales": (0,)}, "scales"),
        ({"levels": (0, 1)}, "levels"),
        ({"kind": "fc9"}, "pool5"),
    ],
)
def test_impossible_values_are_refused(values, message):
    with pytest.raises(InputError, match=message):
        FeatureOptions(**values)


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        (DetectOptions, {"max_windows": 0}, "max_windows must be a whole number from 1 to 1,000,000,000, not 0"),
        (DetectOptions, {"regressions": -1}, "regressions must be a whole number from 0 to 100, not -1"),
        (DetectOptions, {"nms": None}, "nms must be a number from 0 to 1, not None"),
        (DetectOptions, {"nms": "0.3"}, "nms must be a number from 0 to 1, not '0.3'"),
        (DetectOptions, {"nms": math.nan}, "nms must be a number from 0 to 1, not nan"),
        (DetectOptions, {"nms": True}, "nms must be a number from 0 to 1, not True"),
        (DetectOptions, {"max_per_class": 1e308}, "max_per_class must be a whole number from .* not 1e.308"),
        (DetectOptions, {"keep_above": math.inf}, "keep_above must be a number from .* not inf"),
        (DetectOptions, {"rescored": 1}, "rescored must be true or false, not 1"),
        (DetectOptions, {"proposals": {}}, "proposals must be a text of 1 to 1000 characters"),
        (
            DetectOptions,
            {"proposals": "a\x1b[2J"},
            r"proposals must be a text .* without control characters, not 'a\\x1b",
        ),
        (DetectOptions, {"proposals": "x" * 100_000}, "proposals must be a text .{0,200}$"),
        (FeatureOptions, {"scales": 480}, "scales must be a list, each a whole number from 1 to 16,384, not 480"),
        (FeatureOptions, {"scales": [480, "a"]}, "scales must be a list, each a whole number"),
        (FeatureOptions, {"levels": [1] * 101}, "1 to 100 scales and levels, not 3 and 101"),
        (FeatureOptions, {"features": ["fc7"]}, r"features must be one of pool5, fc6, fc7, not \('fc7',\)"),
        (FeatureOptions, {"crop": "224"}, "crop must be a whole number from 64 to 4,096 or none, not '224'"),
        (SVMOptions, {"C": "1"}, "C must be a number, not '1'"),
        (SVMOptions, {"solver": None}, "solver must be one of coordinate descent, liblinear, not None"),
        (TrainOptions, {"folds": 2.5}, "folds must be a whole number or none, not 2.5"),
        (Augmentation, {"area": [0.1]}, "area must be a list of 2, each a number, not"),
        (LearnOptions, {"sizes": [None]}, "sizes must be a list, each a whole number, not"),
        (Calibration, {"slopes": [1.0]}, "'intercepts' is missing in Calibration"),
    ],
)
def test_values_of_another_type_or_out_of_range_are_refused_in_one_line(kind, values, message):
    with pytest.raises(InputError, match=message) as caught:
        kind.from_dict(values)
    assert "\n" not in str(caught.value)


def test_python_takes_the_same_values_and_no_others():
    assert DetectOptions(nms=np.float32(0.5), max_windows=np.int64(5)).max_windows == 5
    assert FeatureOptions(scales=[480]).scales == [480]
    with pytest.raises(InputError, match=r"nms must be a number from 0 to 1, not 1\.5"):
        DetectOptions(nms=1.5)
    with pytest.raises(InputError, match="nms must be"):
        replace(DetectOptions(), nms=-1)

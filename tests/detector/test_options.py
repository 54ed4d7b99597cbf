"""Options survive a JSON round trip and refuse unknown keys."""

import json

import pytest
from sppnet.data.errors import InputError
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


@pytest.mark.parametrize("values", [{"max_windows": 0}, {"regressions": -1}])
def test_detection_takes_a_window_and_no_negative_passes(values):
    with pytest.raises(InputError, match="max_windows must be at least 1 and regressions at least 0, not"):
        DetectOptions(**values)

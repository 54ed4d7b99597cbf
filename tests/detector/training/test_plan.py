"""Training plans: refused options, their dict, and how ``train`` makes a plan from its arguments."""

import json

import pytest
from sppnet.data.errors import InputError
from sppnet.detector.options import (
    Compression,
    FeatureOptions,
    FineTuneOptions,
    SVMOptions,
    TrainOptions,
)
from sppnet.detector.training import train as training
from sppnet.detector.training.plan import TrainPlan
from sppnet.detector.training.train import train

#: The default layers of mobilenet_v2.
TWO = "features.14.conv.0,features.18"

FC7 = FeatureOptions(kind="fc7")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"scorer": "softmax"}, "needs the features fc7"),
        ({"scorer": "softmax", "features": FC7, "finetune": FineTuneOptions(epochs=0)}, "fc7, fine-tuned"),
        ({"scorer": "margin"}, "one of svm, softmax, not 'margin'"),
        ({"compression": Compression(bfloat16=True)}, "no fc layers to compress"),
    ],
)
def test_options_that_do_not_go_together_are_refused(given, message):
    with pytest.raises(InputError, match=message):
        TrainPlan(**given)


def test_it_says_what_the_model_depends_on_and_nothing_else():
    plain = TrainPlan().to_dict()
    assert json.loads(json.dumps(plain)) == plain
    assert "fine_tuning" not in plain
    assert TrainPlan(finetune=FineTuneOptions(width=7)).to_dict() == plain
    tuned = TrainPlan(features=FC7, scorer="softmax", finetune=FineTuneOptions(width=7)).to_dict()
    assert tuned["fine_tuning"]["width"] == 7
    assert "svm" not in tuned
    small = TrainPlan(features=FC7, compression=Compression.parse("svd=8,bfloat16")).to_dict()
    assert small["compression"] == "svd=8,bfloat16"


@pytest.mark.parametrize(
    ("changes", "mirrored"),
    [
        ({}, True),
        ({"features": FeatureOptions()}, False),
        ({"finetune": FineTuneOptions(epochs=0)}, False),
        ({"finetune": FineTuneOptions(mirror=False)}, False),
    ],
)
def test_mirror_images_are_wanted_where_fc_layers_learn_from_them(changes, mirrored):
    assert TrainPlan(**{"features": FC7, **changes}).mirrors == mirrored


def test_choices_take_the_place_of_parts_of_the_plan(monkeypatch, tmp_path):
    seen = []

    class StopError(Exception):
        pass

    def backbone(name, **options):
        seen.append((name, options))
        raise StopError

    monkeypatch.setattr(training, "Backbone", backbone)
    monkeypatch.setattr("sppnet.detector.convolutions.weights.find_spec", lambda package: None)
    monkeypatch.setattr(training, "check_classes", lambda samples, names: None)
    dataset = type("Dataset", (list,), {"class_names": ("a",)})()
    plan = TrainPlan("alexnet", weights="none", options=TrainOptions(seed=3))
    for given, choices in [
        (None, {}),
        (None, {"backbone": "vgg16", "layer": None, "stride": 32}),
        (plan, {}),
        (plan, {"layer": "x"}),
    ]:
        with pytest.raises(StopError):
            train(dataset, given, out=tmp_path / "m.safetensors", svm=SVMOptions(C=1), **choices)
    assert seen == [
        ("mobilenet_v2", {"weights": "imagenet", "layer": TWO, "stride": None, "seed": 0}),
        ("vgg16", {"weights": "imagenet", "layer": "features.29", "stride": 32, "seed": 0}),
        ("alexnet", {"weights": "none", "layer": "features.11", "stride": None, "seed": 3}),
        ("alexnet", {"weights": "none", "layer": "x", "stride": 16, "seed": 3}),
    ]
    with pytest.raises(TypeError, match="bakcbone"):
        train(dataset, out=tmp_path / "m.safetensors", bakcbone="alexnet")

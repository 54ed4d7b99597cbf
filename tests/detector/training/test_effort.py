"""What a training chooses by itself: by the objects, by cross-validation, and never what the user has set."""

import logging
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from detector_options import SMALL, SMALL_FC
from sppnet.data.image import write_image
from sppnet.data.sample import Sample
from sppnet.detector.convolutions.backbone import Backbone
from sppnet.detector.detection.bundle import Bundle
from sppnet.detector.options import DetectOptions, FeatureOptions, SVMOptions, TrainOptions
from sppnet.detector.training import effort, stages
from sppnet.detector.training import run as training
from sppnet.detector.training.effort import fit_to_objects
from sppnet.detector.training.mining import Miner
from sppnet.detector.training.plan import CHOICES, TrainPlan
from sppnet.detector.training.search import Trial
from sppnet.detector.training.stages import Stages
from sppnet.detector.training.train import train
from sppnet.eval.voc_ap import VOCResult

#: What is tried.
ROUNDS = ({"C": (0.001, 0.1)}, {"regressions": (1, 3)})

#: Layers of mobilenet_v2 with strides of 8, 16 and 32 pixels.
THREE_MAPS = "features.7.conv.0,features.14.conv.0,features.18"

#: Options that take an effort: as small as possible, scored on folds.
FOLDS = SMALL | {"options": TrainOptions(folds=3)}


@pytest.fixture(scope="module")
def photograph(tmp_path_factory):
    """The file of a photograph of 640 x 480 pixels."""
    path = tmp_path_factory.mktemp("photographs") / "a.jpg"
    write_image(path, np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8))
    return path


def objects(path, sides, labels=None):
    """A sample with square objects of these sides in pixels."""
    boxes = np.array([[10, 10, 10 + side, 10 + side] for side in sides], np.float32).reshape(-1, 4)
    labels = np.zeros(len(sides), np.int64) if labels is None else np.array(labels)
    return Sample(path.stem, path, boxes, labels, np.zeros(len(sides), bool))


def fitted(samples, tmp_path, **options):
    plan = TrainPlan("alexnet", effort="quick", **options)
    return fit_to_objects(plan, samples, tmp_path, quiet=True)


@pytest.mark.parametrize(
    ("sides", "labels", "scales"),
    [
        # At 688, 480 and 320 pixels a side of 224 pixels is 156, 224 and 336 of 480.
        ([336] * 8 + [156] * 2, None, (320, 480, 688)),
        ([336] * 3 + [100] * 7, None, (320, 480, 960)),
        ([100] * 10, None, (960,)),
        ([160] * 10, None, (688,)),
        ([20] * 10, None, (960,)),
        # A class counts as much as another, however many objects it has.
        ([100] * 98 + [336] * 2, [0] * 98 + [1] * 2, (480, 960)),
        ([100] * 98 + [480] * 2, [0] * 98 + [1] * 2, (480, 960)),
        ([100] * 98 + [480] * 2, None, (960,)),
    ],
)
def test_scales_are_those_that_objects_need(photograph, tmp_path, sides, labels, scales):
    plan, choices = fitted([objects(photograph, sides, labels)], tmp_path, fixed=frozenset({"proposals"}))
    assert plan.features.scales == scales
    assert [one.name for one in choices] == ["scales"]


@pytest.mark.parametrize(
    ("fast", "dense", "method", "windows"),
    [
        (0.95, 1.0, "fast", 2000),
        (0.5, 0.9, "dense", 4000),
        (0.5, 0.4, "fast", 2000),
        (0.94, 0.96, "fast", 2000),
        (0.94, 0.98, "dense", 4000),
    ],
)
def test_dense_windows_are_for_objects_that_others_miss(
    photograph, tmp_path, monkeypatch, fast, dense, method, windows
):
    asked = []

    def recall(samples, name, most, work, quiet):
        asked.append((name, most))
        return {"fast": fast, "dense": dense}[name]

    monkeypatch.setattr(effort, "_least_recall", recall)
    plan, choices = fitted([objects(photograph, [100])], tmp_path, fixed=frozenset({"scales"}))
    assert (plan.detection.proposals, plan.detection.max_windows) == (method, windows)
    assert asked[0] == ("fast", 2000)
    assert all("%" in one.why for one in choices)


def test_many_photographs_have_one_scale_and_a_held_out_part_if_it_must_be_quick(photograph, tmp_path, monkeypatch):
    monkeypatch.setattr(effort, "QUICKLY", 2)
    monkeypatch.setattr(effort, "_least_recall", lambda samples, name, most, *rest: {"fast": 0.5, "dense": 1.0}[name])
    samples = [objects(photograph, [100])] * 3
    plan, _ = fitted(samples, tmp_path)
    assert (plan.features.scales, plan.options.held_out) == ((480,), 0.1)
    assert (plan.detection.proposals, plan.detection.max_windows) == ("dense", 2000)
    assert not plan.folded(3)
    plan, _ = fitted(samples, tmp_path, fixed=frozenset({"scales"}), options=TrainOptions(folds=3))
    assert (plan.features.scales, plan.options.held_out) == ((320, 480, 688), None)
    plan, _ = fit_to_objects(TrainPlan("alexnet", effort="normal"), samples, tmp_path, quiet=True)
    assert (plan.features.scales, plan.options.held_out) == ((960,), None)
    assert plan.detection.max_windows == 4000


@pytest.mark.parametrize(
    ("network", "options", "layers"),
    [
        ("mobilenet_v2", {}, THREE_MAPS),
        ("mobilenet_v2", {"fixed": frozenset({"layer"})}, None),
        ("mobilenet_v2", {"stride": 16}, None),
        ("mobilenet_v2", {"layer": "features.18"}, "features.18"),
        ("mobilenet_v2", {"features": FeatureOptions(method="warp", crop=224)}, None),
        ("squeezenet1_1", {}, None),
    ],
)
def test_few_photographs_are_seen_on_a_third_map(photograph, tmp_path, network, options, layers):
    samples = [objects(photograph, [336])]
    plan, choices = fit_to_objects(TrainPlan(network, effort="normal", **options), samples, tmp_path, quiet=True)
    assert plan.layer == layers
    chosen = {one.name: one.value for one in choices if one.name in ("layer", "stride")}
    assert chosen == ({"layer": THREE_MAPS, "stride": 32} if layers == THREE_MAPS else {})
    if chosen:
        maps = Backbone(network, layer=plan.layer, stride=plan.stride)
        assert [grid.stride for grid in maps.grids] == [8, 16, 32]


def test_photographs_without_an_object_do_no_harm(photograph, tmp_path):
    samples = [objects(photograph, []), objects(photograph, [336])]
    plan, _ = fitted(samples, tmp_path)
    assert plan.features.scales == (320, 480, 688)


def test_recall_is_that_of_the_class_that_is_covered_least(photograph, tmp_path, monkeypatch):
    boxes = np.array([[10, 10, 60, 60], [10, 10, 90, 90]], np.float32)

    class Proposer:
        name = "fake"

        def options(self):
            return {}

        def __call__(self, image, image_id=None):
            return boxes

    monkeypatch.setattr(effort, "make_proposer", lambda *arguments, **options: Proposer())
    samples = [objects(photograph, [50, 80, 300, 300], [0, 0, 0, 1]), objects(photograph, [50], [1])]
    assert effort._least_recall(samples[:1], "fast", 2, tmp_path, True) == 0
    assert effort._least_recall(samples, "fast", 2, tmp_path, True) == 0.5
    assert effort._least_recall([objects(photograph, [])], "fast", 2, tmp_path, True) == 1


@pytest.mark.parametrize(
    ("images", "each", "expected"),
    [(20, 1, 20), (300, 1, 100), (300, 10, 50), (300, 99, 30), (40, 99, 40), (50, 99, 30)],
)
def test_a_search_needs_no_more_photographs_than_show_some_hundred_objects(photograph, images, each, expected):
    assert effort.searched([objects(photograph, [50] * each)] * images) == expected


def test_what_the_user_has_set_stays(scenes, tmp_path):
    plan = TrainPlan(
        features=FeatureOptions(scales=(100,)),
        detection=DetectOptions(max_windows=7),
        effort="normal",
        fixed=frozenset(CHOICES),
    )
    assert fit_to_objects(plan, list(scenes), tmp_path, quiet=True) == (plan, [])


@pytest.fixture(scope="module")
def searched(scenes, tmp_path_factory):
    """The folder of a training that searched: model.safetensors and its caches in work."""
    folder = tmp_path_factory.mktemp("searched")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(effort.ROUNDS, "normal", ROUNDS)
        patch.setattr(effort, "SEARCHED", 7)
        train(
            scenes,
            TrainPlan(effort="normal", fixed=frozenset({"scales", "proposals", "ridge"})),
            out=folder / "model.safetensors",
            work=folder / "work",
            **FOLDS,
        )
    return folder


def test_the_choice_can_be_repeated_without_a_search(scenes, searched, tmp_path):
    found = Bundle.load(searched / "model.safetensors")
    names = [one["name"] for one in found.card["choices"]]
    assert names == ["mirror", "C", "regressions"]
    assert found.card["effort"] == "normal"
    values = {one["name"]: one["value"] for one in found.card["choices"]}
    plan = replace(TrainPlan(), **{name: value for name, value in FOLDS.items() if name != "quiet"}).changed(**values)
    again = train(scenes, plan, out=tmp_path / "model", work=tmp_path / "work", quiet=True).bundle
    assert again.tensors().keys() == found.tensors().keys()
    assert all(torch.equal(value, again.tensors()[name]) for name, value in found.tensors().items())
    assert again.calibration == found.calibration
    assert again.detection == found.detection
    assert again.card == {name: value for name, value in found.card.items() if name not in ("effort", "choices")}


def test_a_search_is_not_made_twice(scenes, searched, tmp_path, monkeypatch):
    found = Bundle.load(searched / "model.safetensors")
    monkeypatch.setitem(effort.ROUNDS, "normal", ROUNDS)
    monkeypatch.setattr(effort, "SEARCHED", 7)
    monkeypatch.setattr(effort, "search", None)
    plan = TrainPlan(effort="normal", fixed=frozenset({"scales", "proposals", "ridge"}))
    again = train(scenes, plan, out=tmp_path / "model", work=searched / "work", **FOLDS).bundle
    assert again.header() == found.header()


def test_candidates_that_learn_from_fewer_images_weigh_losses_as_they_would_with_all(
    scenes, searched, tmp_path, monkeypatch
):
    monkeypatch.setitem(effort.ROUNDS, "normal", ({"C": (0.001, 0.1)}, {"ridge": (1000.0, 30.0)}))
    monkeypatch.setattr(effort, "SEARCHED", 7)
    shutil.copytree(searched / "work", tmp_path / "work", ignore=shutil.ignore_patterns("stages"))
    costs, ridges = [], []
    without, regressors = Miner.without, Stages.regressors_of
    monkeypatch.setattr(
        Miner, "without", lambda miner, group, options: costs.append(options.C) or without(miner, group, options)
    )
    monkeypatch.setattr(
        Stages,
        "regressors_of",
        lambda stages, wanted: ridges.extend(options.ridge for options, _ in wanted) or regressors(stages, wanted),
    )
    plan = TrainPlan(effort="normal", fixed=frozenset({"scales", "proposals"}))
    train(scenes, plan, out=tmp_path / "model", work=tmp_path / "work", **FOLDS)
    # Seven of twelve scenes, rounded up: three of each fold.
    assert costs[:6] == pytest.approx([0.001 * 12 / 9] * 3 + [0.1 * 12 / 9] * 3)
    assert costs[-1] in (0.001, 0.1)
    # Those of the candidates and, as the first round does not try the ridge, those of the final model.
    assert ridges[:4] == pytest.approx([1000 * 9 / 12, 1000, 1000 * 9 / 12, 30 * 9 / 12])
    assert ridges[-1] in (1000, 30)


def test_windows_of_regressors_are_pooled_once(scenes, searched, tmp_path, monkeypatch):
    monkeypatch.setitem(effort.ROUNDS, "normal", ({"C": (0.001, 0.1)}, {"regressions": (1, 2)}))
    monkeypatch.setattr(effort, "SEARCHED", 7)
    shutil.copytree(searched / "work", tmp_path / "work", ignore=shutil.ignore_patterns("stages"))
    pooled, original = [], stages.regression_windows
    monkeypatch.setattr(
        stages,
        "regression_windows",
        lambda images, label, *rest: pooled.append(label) or original(images, label, *rest),
    )
    plan = TrainPlan(effort="normal", fixed=frozenset({"scales", "proposals"}))
    train(scenes, plan, out=tmp_path / "model", work=tmp_path / "work", **FOLDS)
    assert pooled == list(range(len(scenes.class_names)))


@pytest.mark.parametrize("better", ["pool5", "fc7"])
def test_fc_layers_are_compared_with_pooled_features(scenes, searched, tmp_path, monkeypatch, better):
    """Each has learnt from the same folds, and what is chosen is trained as if it had been asked for."""
    found = {}

    def choose(plan, rounds, judge, sizes):
        assert list(rounds) == [{"features": ("pool5", "fc7")}]
        plans = [plan.changed(features=kind) for kind in ("fc7", "pool5")]
        for one, judged in zip(plans, judge(plans), strict=True):
            found[one.features.kind] = VOCResult(tuple(of_class.curve() for of_class in judged)).mean_ap("voc07")
        return plan.changed(features=better), []

    monkeypatch.setitem(effort.ROUNDS, "best", ({"features": ("pool5", "fc7")},))
    monkeypatch.setattr(effort, "search", choose)
    options = FOLDS | {"finetune": SMALL_FC["finetune"]}
    plan = TrainPlan(effort="best", fixed=frozenset({"scales", "proposals", "mirror"}))
    shutil.copytree(searched / "work", tmp_path / "work", ignore=shutil.ignore_patterns("stages"))
    bundle = train(scenes, plan, out=tmp_path / "model", work=tmp_path / "work", **options).bundle
    assert bundle.features.kind == better
    assert bundle.card["held_out"]["map"] == found[better]
    assert found["fc7"] != found["pool5"]
    options["features"] = replace(options["features"], kind=better)
    alone = train(scenes, out=tmp_path / "alone", work=tmp_path / "work", **options).bundle
    assert all(torch.equal(values, alone.tensors()[name]) for name, values in bundle.tensors().items())
    assert bundle.calibration == alone.calibration


def test_pyramids_are_compared(scenes, searched, tmp_path, monkeypatch):
    """What is chosen is trained as if it had been asked for, and a stored choice is used again."""
    pyramids, found, better = [(1, 2), (3,)], {}, (3,)

    def choose(plan, rounds, judge, sizes):
        for one, judged in zip(pyramids, judge([plan.changed(pyramid=levels) for levels in pyramids]), strict=True):
            found[one] = VOCResult(tuple(of_class.curve() for of_class in judged)).mean_ap("voc07")
        tried = [Trial({"pyramid": levels}, found[levels], float(levels == better), 0.0) for levels in pyramids]
        return plan.changed(pyramid=better), [tried]

    monkeypatch.setitem(effort.ROUNDS, "best", ({"pyramid": tuple(pyramids)},))
    monkeypatch.setattr(effort, "search", choose)
    options = FOLDS | {"features": replace(FOLDS["features"], levels=pyramids[0])}
    plan = TrainPlan(effort="best", fixed=frozenset({"scales", "proposals", "mirror"}))
    shutil.copytree(searched / "work", tmp_path / "work", ignore=shutil.ignore_patterns("stages"))
    bundle = train(scenes, plan, out=tmp_path / "model", work=tmp_path / "work", **options).bundle
    assert bundle.features.levels == better
    assert bundle.card["held_out"]["map"] == found[better]
    monkeypatch.setattr(effort, "search", None)
    again = train(scenes, plan, out=tmp_path / "again", work=tmp_path / "work", **options).bundle
    assert again.header() == bundle.header()
    options["features"] = replace(options["features"], levels=better)
    alone = train(scenes, out=tmp_path / "alone", work=tmp_path / "work", **options).bundle
    assert all(torch.equal(values, alone.tensors()[name]) for name, values in bundle.tensors().items())


def test_options_that_exclude_fc_layers_keep_pooled_features():
    best = TrainPlan(effort="best")
    assert {"features": ("pool5", "fc7")} in effort.open_rounds(best, 100)
    for plan in (replace(best, learning_curve=True), replace(best, fixed=frozenset({"features"}))):
        assert not any("features" in one for one in effort.open_rounds(plan, 100))


def test_rounds_need_photographs_to_score_on():
    for images in (100, 1001):
        assert effort.open_rounds(TrainPlan(effort="normal"), images)
    for plan in (TrainPlan(), TrainPlan(effort="quick"), TrainPlan(effort="best", features=FeatureOptions(kind="fc7"))):
        assert not effort.open_rounds(plan, 100)
    for share, rounds in ((0.0, 0), (0.1, 4)):
        plan = TrainPlan(effort="best", options=TrainOptions(held_out=share))
        assert len(effort.open_rounds(plan, 100)) == rounds


def test_a_held_out_part_serves_as_well(scenes, searched, tmp_path, monkeypatch):
    """Candidates learn from the other images, all of them."""
    monkeypatch.setitem(effort.ROUNDS, "normal", ROUNDS)
    monkeypatch.setattr(effort, "SEARCHED", 2)
    monkeypatch.setattr(effort, "SEARCHED_LEAST", 2)
    left, judged, without, judge = [], [], Miner.without, training.judge_parts
    monkeypatch.setattr(
        Miner, "without", lambda miner, group, options: left.append(set(group)) or without(miner, group, options)
    )
    monkeypatch.setattr(
        training, "judge_parts", lambda of, split, *rest: judged.append((of.split, split)) or judge(of, split, *rest)
    )
    shutil.copytree(searched / "work", tmp_path / "work", ignore=shutil.ignore_patterns("stages"))
    plan = TrainPlan(effort="normal", fixed=frozenset({"scales", "proposals"}))
    bundle = train(scenes, plan, out=tmp_path / "model", work=tmp_path / "work", **SMALL).bundle
    choices = {one["name"]: one["why"] for one in bundle.card["choices"]}
    assert list(choices) == ["C", "regressions"]
    assert all("cross-validation" not in why for why in choices.values())
    (whole, compared), *_ = judged
    assert [len(part) for part in whole.parts] == [3]
    assert [len(part) for part in compared.parts] == [2]
    # Two values of C, then one; the final SVMs, and those that are scored.
    assert left == [set(whole.scored)] * 3 + [set(), set(whole.scored)]
    assert bundle.card["held_out"]["images"] == 3


@pytest.mark.parametrize(("network", "layers"), [("alexnet", [None]), ("mobilenet_v2", [None, THREE_MAPS])])
def test_a_plan_with_another_effort_is_what_that_would_choose(photograph, tmp_path, network, layers):
    many = [objects(photograph, [336])] * 151
    quick, _ = fit_to_objects(TrainPlan(network, effort="quick"), many, tmp_path, quiet=True)
    assert (quick.features.scales, quick.options.held_out, quick.layer) == ((480,), 0.1, layers[0])
    for kind in ("normal", "best"):
        chosen, _ = fit_to_objects(TrainPlan(network, effort=kind), many, tmp_path, quiet=True)
        assert chosen.layer == layers[-1]
        assert effort.with_effort(quick, kind, many) == chosen
        assert effort.with_effort(chosen, "quick", many) == quick
    own = TrainPlan(network, effort="quick", options=TrainOptions(held_out=0.3), fixed=frozenset({"held_out"}))
    assert effort.with_effort(own, "normal", many).options.held_out == 0.3


def test_a_search_that_was_stopped_ends_with_the_same_file(scenes, searched, tmp_path, monkeypatch):
    monkeypatch.setitem(effort.ROUNDS, "normal", ROUNDS)
    monkeypatch.setattr(effort, "SEARCHED", 7)
    shutil.copytree(searched / "work", tmp_path / "work", ignore=shutil.ignore_patterns("stages"))
    plan = TrainPlan(effort="normal", fixed=frozenset({"scales", "proposals", "ridge"}))
    judge, calls = training.judge_parts, iter(range(9))

    def stopping(*arguments):
        if next(calls) == 1:
            raise KeyboardInterrupt
        return judge(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(training, "judge_parts", stopping)
        with pytest.raises(KeyboardInterrupt):
            train(scenes, plan, out=tmp_path / "model", work=tmp_path / "work", **FOLDS)
    train(scenes, plan, out=tmp_path / "model", work=tmp_path / "work", **FOLDS)
    assert (tmp_path / "model").read_bytes() == (searched / "model.safetensors").read_bytes()


@pytest.mark.parametrize("options", [{"options": TrainOptions(held_out=0)}, {"svm": SVMOptions(C=0.01)}])
def test_without_held_out_images_or_open_options_nothing_is_searched(scenes, tmp_path, monkeypatch, caplog, options):
    monkeypatch.setattr(effort, "search", None)
    fixed = frozenset(CHOICES) if "svm" in options else frozenset(CHOICES) - {"C"}
    plan = TrainPlan(effort="best", fixed=fixed)
    choices = FOLDS | options | {"quiet": False}
    with caplog.at_level(logging.INFO, "sppnet"):
        bundle = train(scenes, plan, out=tmp_path / "model", work=tmp_path / "work", **choices).bundle
    assert bundle.card["choices"] == []
    assert ("no options are compared" in caplog.text) is ("options" in options)

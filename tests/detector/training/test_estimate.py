"""The estimate of what a training takes: time, as it counts and is measured, and disk; and giving the disk back."""

from types import SimpleNamespace

import numpy as np
import pytest
from sppnet.data.image import write_image
from sppnet.data.sample import Sample
from sppnet.detector.options import DetectOptions, FeatureOptions, FineTuneOptions, TrainOptions
from sppnet.detector.training.estimate import Speed, measure, stages_of, work_bytes
from sppnet.detector.training.plan import TrainPlan
from sppnet.detector.training.run import remove_work
from sppnet.proposals.backends import make_proposer
from sppnet.proposals.precomputed import PrecomputedBoxes

SPEED = Speed(proposals=1.0, maps=2.0, windows=0.5, products=0.01, width=1000)

ROUNDS = [{"C": (1, 2, 3)}, {"regressions": (1, 2), "ridge": (1, 2, 3)}]


def seconds(stages):
    total = {}
    for label, of_stage in stages:
        total[label] = total.get(label, 0) + of_stage
    return total


def test_time_grows_with_photographs_and_mirror_images():
    few, many = (seconds(stages_of(TrainPlan(), SPEED, count, [100], [], count)) for count in (10, 30))
    assert (few["proposals"], few["feature maps"]) == (10, 20)
    for label in ("proposals", "feature maps", "hard negatives", "held-out images"):
        assert many[label] == pytest.approx(3 * few[label])
    mirrored = seconds(stages_of(TrainPlan().changed(mirror=True), SPEED, 10, [100], [], 10))
    assert mirrored["feature maps"] == 2 * few["feature maps"]
    assert mirrored["hard negatives"] == 2 * few["hard negatives"]
    assert (mirrored["proposals"], mirrored["held-out images"]) == (few["proposals"], few["held-out images"])


def test_other_efforts_differ_by_their_pixels_and_their_maps():
    two = TrainPlan("mobilenet_v2", features=FeatureOptions(scales=(300, 400)))
    three = TrainPlan(
        "mobilenet_v2", layer="features.7,features.14,features.18", features=FeatureOptions(scales=(250,))
    )
    assert SPEED.for_plan(two, two) == SPEED
    found = SPEED.for_plan(three, two)
    # A quarter of the pixels, 54 + 54 + 106 channels instead of 54 + 106.
    more = 214 / 160
    assert (found.proposals, found.maps, found.width) == (1.0, 0.5, round(1000 * more))
    assert (found.windows, found.products) == pytest.approx((0.5 * more, 0.01 * more))
    assert found.for_plan(two, three).windows == pytest.approx(SPEED.windows)


def test_regressors_cost_no_more_than_their_windows_at_most():
    few, many, most = (
        seconds(stages_of(TrainPlan(), SPEED, 10, [count], [], 10))["box regressors"] for count in (10, 1000, 10**6)
    )
    assert 0 < few < many == most
    assert seconds(stages_of(TrainPlan(), SPEED, 10, [10, 10], [], 10))["box regressors"] == 2 * few


def test_a_search_pools_once_for_each_round_and_mines_once():
    stages = stages_of(TrainPlan(), SPEED, 10, [100], ROUNDS, 10)
    labels = [label for label, _ in stages]
    assert labels.count("hard negatives") == 1
    assert [label for label in labels if "compared" in label] == ["3 candidates compared", "6 candidates compared"]
    plain = seconds(stages_of(TrainPlan(), SPEED, 10, [100], [], 10))
    found = seconds(stages)
    # The default ridge in the first round, three in the second, whose windows are pooled once; the last regressors are
    # those of the search.
    assert 2 * plain["box regressors"] < found["box regressors"] < 4 * plain["box regressors"]
    assert 10 * 0.5 * 2 < found["3 candidates compared"] + found["6 candidates compared"] < 10 * 0.5 * 11
    fewer = seconds(stages_of(TrainPlan(), SPEED, 20, [100], ROUNDS, 10))
    assert fewer["3 candidates compared"] == found["3 candidates compared"]


def test_a_held_out_part_is_all_that_is_scored():
    folds = seconds(stages_of(TrainPlan(), SPEED, 200, [100], [], 200))
    part = seconds(stages_of(TrainPlan(options=TrainOptions(held_out=0.25)), SPEED, 200, [100], [], 200))
    many = seconds(stages_of(TrainPlan(), SPEED, 2000, [100], [], 2000))
    assert part["held-out images"] == folds["held-out images"] / 4 == many["held-out images"] / 4


def test_another_pyramid_is_mined_and_regressed_anew():
    with_one, with_two = ([*ROUNDS, {"pyramid": pyramids}] for pyramids in (((1, 2), (3,)), ((1, 2), (3,), (6,))))
    labels = [label for label, _ in stages_of(TrainPlan(), SPEED, 10, [100], with_one, 10)]
    assert labels.count("hard negatives") == 2
    assert labels[-2] == "2 candidates compared"
    once, one, two = (
        seconds(stages_of(TrainPlan(), SPEED, 10, [100], rounds, 10)) for rounds in (ROUNDS, with_one, with_two)
    )
    for label in ("hard negatives", "box regressors"):
        assert two[label] - one[label] == pytest.approx(one[label] - once[label])
        assert one[label] > once[label]
    assert two["3 candidates compared"] - once["3 candidates compared"] == 1.5 * one["2 candidates compared"]


def test_fc_layers_are_fine_tuned_six_times():
    stages = stages_of(TrainPlan(), SPEED, 100, [100], [{"C": (1, 2)}, {"features": ("pool5", "fc7")}], 100)
    labels = [label for label, _ in stages]
    assert labels.count("fine-tuning") == 6
    assert labels.count("hard negatives") == 1 + 6
    of_all, *of_folds = (time for label, time in stages if label == "fine-tuning")
    # An epoch has a hundred batches, however few the photographs are.
    assert of_folds == pytest.approx([of_all] * 5, rel=0.1)
    wide = TrainPlan(finetune=FineTuneOptions(width=4096))
    assert (
        seconds(stages_of(wide, SPEED, 100, [100], [{"features": ("pool5", "fc7")}], 100))["fine-tuning"] > 3 * of_all
    )


def test_it_is_measured_on_photographs(features, tmp_path):
    samples = []
    for number in range(2):
        path = tmp_path / f"{number}.jpg"
        write_image(path, np.random.default_rng(number).integers(0, 256, (96, 128, 3), np.uint8))
        samples.append(Sample(path.stem, path, np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros(0, bool)))
    speed = measure(samples, features, make_proposer("fast", 50, seed=0))
    assert min(speed.proposals, speed.maps, speed.windows, speed.products) > 0
    assert speed.width == features.pooled_width
    np.savez(tmp_path / "boxes.npz", **{sample.path.stem: np.array([[0, 0, 50, 50]]) for sample in samples})
    assert measure(samples, features, PrecomputedBoxes(tmp_path / "boxes.npz", "half-open")).windows > 0


@pytest.mark.parametrize("mirror", [False, True])
def test_disk_is_that_of_maps_in_half_precision_and_of_proposals(mirror):
    grids = [SimpleNamespace(channels=10, stride=16), SimpleNamespace(channels=6, stride=32)]
    features = SimpleNamespace(backbone=SimpleNamespace(grids=grids))
    plan = TrainPlan(
        features=FeatureOptions(scales=(320,)),
        detection=DetectOptions(max_windows=500),
        options=TrainOptions(mirror=mirror),
    )
    maps = 2 * (20 * 30 * 10 + 10 * 15 * 6) + 2 * (20 * 20 * 10 + 10 * 10 * 6)
    assert work_bytes([(640, 960), (50, 50)], plan, features) == maps * (1 + mirror) + 2 * 500 * 4 * 4


def test_only_what_a_training_made_is_removed(tmp_path):
    for work, rest in ((tmp_path / "own", []), (tmp_path / "shared", ["mine.txt"])):
        (work / "maps").mkdir(parents=True)
        for name in ("maps/a.npy", "held-out.json", *rest):
            (work / name).write_text("")
        remove_work(work)
        assert [path.name for path in work.rglob("*")] == rest
        assert work.exists() == bool(rest)

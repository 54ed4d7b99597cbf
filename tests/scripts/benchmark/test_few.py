"""``sppnet benchmark few``: both sides on generated scenes, with a planted clock."""

import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sppnet.data.detections import Detections
from sppnet.data.errors import InputError
from sppnet.data.scenes import make_scenes
from sppnet.data.voc import VOCDataset
from sppnet.detector.convolutions.weights import read_weights
from sppnet.detector.options import TrainOptions
from sppnet.detector.training.split import choose_split
from sppnet.scripts.benchmark import faster_rcnn, few
from sppnet.scripts.benchmark.faster_rcnn import FROZEN, NETWORK, VARIANTS, FineTuning, Settings, build, detect, seeded
from sppnet.scripts.benchmark.few import chart, table
from sppnet.scripts.cli import build_parser, main
from torchvision.models import mobilenet_v2

CLASSES = ("box", "disc")
TINY = {
    "fpn": replace(VARIANTS["fpn"], sides=(64, 96), test_side=64, longest=128, proposals=(50, 20, 50, 20)),
    "320": replace(VARIANTS["320"], sides=(64,), test_side=64, longest=128, proposals=(50, 20, 50, 20)),
}
OPTIONS = (
    "--test-set test --classes box,disc --weights none --backbone sppnet_small --scales 96 --effort quick --device cpu "
    "--quiet"
)


class Clock:
    """Each reading is a second after the last."""

    def __init__(self):
        self.readings = 0

    def __call__(self):
        self.readings += 1
        return float(self.readings)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    root = tmp_path_factory.mktemp("few") / "scenes"
    return make_scenes(root, {"trainval": 10, "test": 3}, seed=5, size=(72, 96), classes=CLASSES)


@pytest.fixture(scope="module")
def samples(scenes):
    return list(VOCDataset(scenes, "trainval", CLASSES))


@pytest.fixture(scope="module")
def state():
    return read_weights(NETWORK, "none", 0)[1]


def made(state, name="320", seed=0):
    with seeded(seed, "cpu"):
        return build(TINY[name], len(CLASSES), state, "the state", windows=8)


def training(model, learnt, held_out, seconds, name="320", **options):
    settings = options.pop("settings", Settings(batch=2, windows=8))
    return FineTuning(model, TINY[name], learnt, held_out, CLASSES, seconds, "cpu", settings=settings, **options)


def trained(state, samples, seconds=40.0, name="320", **options):
    """A model, and what its training returned."""
    model = made(state, name)
    with seeded(0, "cpu"):
        told = training(model, samples[:8], samples[8:], seconds, name, clock=Clock(), **options).run()
    return model, told


# --- the opponent's network -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TINY)
def test_opponent_starts_from_the_given_weights(state, name):
    """On an image its deepest map is that of torchvision's own network."""
    usual = mobilenet_v2(weights=None).eval()
    usual.load_state_dict(state)
    body = made(state, name).eval().backbone.body
    image = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        maps = body(image)
        expected = usual.features(image)
    assert len(maps) == len(TINY[name].blocks)
    torch.testing.assert_close(list(maps.values())[-1], expected)


@pytest.mark.parametrize("name", TINY)
def test_each_variant_learns_the_later_layers_and_leaves_the_early_ones_and_the_statistics(state, samples, name):
    before = {key: value.clone() for key, value in made(state, name).state_dict().items()}
    model, told = trained(state, samples, name=name, settings=Settings(batch=2, windows=8))
    assert told["steps"] > 5
    assert told["steps_left_out"] == 0
    moved = {key for key, value in model.state_dict().items() if not torch.equal(value, before[key])}
    convolutions = {key for key, _ in model.named_parameters()}
    early = {key for key in convolutions if key.startswith(tuple(f"backbone.body.{i}." for i in range(FROZEN)))}
    assert early
    assert moved <= convolutions - early  # frozen batch normalisation has no parameters
    for part in (f"backbone.body.{FROZEN}.", "backbone.fpn.", "rpn.", "roi_heads."):
        assert any(key.startswith(part) for key in moved), part


def test_weights_of_another_network_are_refused(scenes):
    with pytest.raises(InputError, match="the network's tensors are missing"):
        build(TINY["320"], 2, read_weights("squeezenet1_1", "none", 0)[1], "other.pth", windows=8)


def test_weights_without_a_classifier_and_in_half_precision_do(state):
    half = {name: value.half() for name, value in state.items() if name.startswith("features.")}
    build(TINY["320"], 2, half, "half.safetensors", windows=8)


# --- its training -----------------------------------------------------------------------------------------------------


def test_rate_rises_and_falls_to_zero_over_the_time():
    settings = Settings(rate=0.1, warm_up=0.2)
    rates = [settings.rate_at(part) for part in np.linspace(0, 1, 11)]
    assert rates[0] == 0
    assert rates[1] < rates[2] == max(rates)
    assert all(np.diff(rates[2:]) < 0)
    assert rates[-1] == pytest.approx(0, abs=1e-12)


def planted(aps=(), seconds=30.0, **settings):
    """A training whose steps take one second and whose checks two; the rates of its steps."""
    now, rates, values = [100.0], [], iter(aps)
    module = torch.nn.Module()
    module.weight = torch.nn.Parameter(torch.zeros(1))

    def step(batch, weights, descent, rate):
        now[0] += 1
        rates.append(rate)
        with torch.no_grad():
            module.weight.fill_(len(rates))
        return 1.0 / len(rates), True

    def score():
        now[0] += 2
        return next(values)

    held_out = ["photograph"] * bool(aps)
    one = training(module, [], held_out, seconds, settings=Settings(**settings), clock=lambda: now[0])
    one._batches, one._step, one._score = lambda: iter(lambda: "batch", None), step, score
    return one.run(), module, rates


def test_time_is_kept_with_a_check_in_the_middle_and_one_at_the_end():
    told, _, rates = planted(aps=[0.1, 0.2])
    records = told["records"]
    assert [record["seconds"] for record in records] == [3, 6, 9, 12, 15, 18, 21, 24, 27]
    assert [record["steps"] for record in records] == [3, 6, 9, 12, 15, 16, 19, 22, 25]
    assert [record["ap"] for record in records] == [None] * 4 + [0.1] + [None] * 3 + [0.2]
    assert told["seconds"] == 29  # one more step could take too long
    assert told["steps"] == len(rates) == 25
    assert rates[-1] < 0.02 * max(rates)


def test_there_are_more_checks_if_they_take_a_small_part_of_the_time():
    told, *_ = planted(aps=[0.1] * 9, seconds=300.0)
    scored = [record["seconds"] for record in told["records"] if record["ap"] is not None]
    assert scored == [150, 180, 210, 240, 270, 297]


def test_best_state_is_kept_and_of_two_equal_ones_the_later():
    told, module, _ = planted(aps=[0.1, 0.6, 0.6, 0.5, 0.5], check_share=0.4)
    records = told["records"]
    assert records[told["chosen"]]["ap"] == 0.6
    assert records[-1]["ap"] == 0.5
    assert [record["ap"] for record in records[told["chosen"] :]].count(0.6) == 1
    assert module.weight.item() == records[told["chosen"]]["steps"] < told["steps"]


def test_without_held_out_photographs_the_last_state_is_kept_and_no_time_goes_into_checks():
    told, module, _ = planted()
    assert told["chosen"] is None
    assert {record["ap"] for record in told["records"]} == {None}
    assert module.weight.item() == told["steps"] == 29


def test_losses_are_means_since_the_record_before():
    told, *_ = planted()
    first, second = (record["steps"] for record in told["records"][:2])
    expected = np.mean([1.0 / step for step in range(first + 1, second + 1)])
    assert told["records"][1]["loss"] == pytest.approx(expected)


def test_shortest_time_is_one_step():
    told, *_ = planted(aps=[0.4, 0.5], seconds=1e-6)
    assert told["steps"] == 1
    assert told["chosen"] == 0


def test_step_without_a_finite_gradient_is_left_out(state, samples):
    model = made(state)
    one = training(model, samples, [], 9.0)
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    before = [weight.clone() for weight in weights]
    descent = torch.optim.SGD(weights, 0.0)
    model.roi_heads.box_predictor.register_forward_hook(lambda *_: (_[2][0] * float("nan"), _[2][1]))
    loss, taken = one._step(next(one._batches()), weights, descent, 0.1)
    assert np.isnan(loss)
    assert not taken
    assert all(torch.equal(*pair) for pair in zip(weights, before, strict=True))


def test_batches_have_one_format_and_every_photograph_comes_once_in_a_round(state, tmp_path):
    root = make_scenes(tmp_path, {"train": 24}, seed=1, size=(72, 96), classes=CLASSES)
    data = list(VOCDataset(root, "train", CLASSES))
    one = training(made(state, "fpn"), data, [], 9.0, "fpn")
    batches, sides, shapes = one._batches(), set(), []
    for _ in range(12):
        batch = next(batches)
        sides.add(one.model.transform.min_size)
        tall = {image.shape[1] > image.shape[2] for image, _ in batch}
        assert len(batch) == 2
        assert len(tall) == 1
        shapes += [tuple(image.shape[1:]) for image, _ in batch]
    assert sides == {(64,), (96,)}
    # Two that wait for a third of their format come a round later.
    assert len(set(shapes)) >= 20


def test_examples_have_no_difficult_objects_and_boxes_move_with_the_mirrored_image(samples):
    sample = replace(samples[0], difficult=np.arange(len(samples[0].boxes)) == 0)
    image, target = faster_rcnn._example(sample, mirror=False)
    mirrored, of_mirrored = faster_rcnn._example(sample, mirror=True)
    assert len(target["boxes"]) == len(sample.boxes) - 1
    assert target["labels"].tolist() == (sample.labels[1:] + 1).tolist()
    torch.testing.assert_close(mirrored, image.flip(-1))
    width = image.shape[-1]
    torch.testing.assert_close(of_mirrored["boxes"][:, 0], width - target["boxes"][:, 2])
    torch.testing.assert_close(of_mirrored["boxes"][:, 1::2], target["boxes"][:, 1::2])


def test_photograph_without_objects_can_be_learnt_from(state, samples):
    empty = replace(samples[0], difficult=np.ones(len(samples[0].boxes), bool))
    told = training(made(state), [empty, empty], [], 4.0, clock=Clock()).run()
    assert told["steps_left_out"] == 0


def test_training_depends_on_the_seed_and_the_clock_alone(state, samples):
    torch.manual_seed(1)
    first, told = trained(state, samples, 12.0)
    torch.manual_seed(2)
    again, told_again = trained(state, samples, 12.0)
    assert told == told_again
    assert all(torch.equal(*pair) for pair in zip(first.parameters(), again.parameters(), strict=True))
    other, _ = trained(state, samples, 12.0, seed=1)
    assert not torch.equal(
        first.roi_heads.box_predictor.bbox_pred.weight, other.roi_heads.box_predictor.bbox_pred.weight
    )


def test_seeded_leaves_the_random_numbers_of_the_caller():
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    with seeded(0, "cpu"):
        torch.rand(5)
    assert torch.equal(torch.rand(2), expected)


def test_it_learns_and_its_boxes_are_in_pixels_of_the_photograph(state, samples):
    sample = max(samples, key=lambda one: len(one.boxes))
    settings = Settings(batch=1, windows=16, rate=0.05)
    model = made(state)
    with seeded(0, "cpu"):
        told = training(model, [sample], [], 60.0, settings=settings, clock=Clock()).run()
    assert told["records"][-1]["loss"] < 0.8 * told["records"][0]["loss"]
    found = detect(model, TINY["320"], sample.image, CLASSES)
    assert found.class_names == CLASSES
    height, width = sample.image.shape[:2]
    assert (found.boxes >= 0).all()
    assert (found.boxes <= [width, height, width, height]).all()
    # The network sees it at its own size.
    assert found.boxes.max() > 64


# --- the command ------------------------------------------------------------------------------------------------------


def arguments(scenes, *more):
    return build_parser().parse_args(["benchmark", "few", str(scenes), *OPTIONS.split(), *more])


@pytest.fixture(scope="module")
def result(scenes):
    """Both sides; our training takes a second of the clock, and the shorter time of the opponents is less."""
    with pytest.MonkeyPatch.context() as patch:
        for name, variant in TINY.items():
            patch.setitem(VARIANTS, name, variant)
        return few.measure(arguments(scenes, "--minutes", "0.2,0.01,0.2"), Clock())


def test_result_has_both_sides_with_their_settings(result, scenes):
    assert result["classes"] == list(CLASSES)
    assert result["trained_on"] == {"set": f"{scenes} trainval", "images": 10}
    assert result["tested_on"] == {"set": f"{scenes} test", "images": 3}
    assert result["minutes"] == [0.01, 0.2]
    assert result["failed"] == []
    ours = result["sppnet"]
    assert ours["plan"]["backbone"] == "sppnet_small"
    assert ours["seconds"] == 1
    assert list(result["opponents"]) == ["fpn", "320"]
    for name, opponent in result["opponents"].items():
        assert opponent["variant"]["blocks"] == TINY[name].blocks
        assert opponent["settings"]["batch"] == Settings.batch
        short, long = opponent["trainings"]
        assert (short["minutes"], long["minutes"]) == (0.01, 0.2)
        assert short["steps"] == 1 < long["steps"]
        assert (long["learnt_from"], long["held_out"]) == (8, 2)
    for side in (ours, short, long):
        assert side["seconds_a_photograph"]["median"] > 0
        assert 0 <= side["voc"]["map"] <= 1
        assert set(side["voc07"]["ap"]) == set(CLASSES)
    json.dumps(result)


def test_table_has_a_row_for_each_time_and_side_and_none_of_ours_before_it_is_done(result, scenes):
    lines = table(result).splitlines()
    assert lines[0] == f"trained on {scenes} trainval (10 images), tested on {scenes} test (3 images), cpu"
    ap = f"{result['sppnet']['voc']['map']:.3f}"
    assert lines[1] == f"sppnet: sppnet_small, weights none, scales 96, trained in 1 s, area AP {ap}"
    assert lines[2] == ("Faster R-CNN: mobilenet_v2, weights none, learns from 8 images, the best state on 2 others")
    rows = [line.rsplit(maxsplit=5) for line in lines[5:-1]]
    assert [row[:2] for row in rows] == [
        [side, minutes] for minutes in ("0.01", "0.2") for side in ("sppnet", "Faster R-CNN fpn", "Faster R-CNN 320")
    ]
    ours = result["sppnet"]
    assert rows[0][2:] == ["-"] * 4
    assert rows[3][2:5] == [f"{ours['voc']['map']:.3f}", f"{ours['voc07']['map']:.3f}", "1"]
    last = result["opponents"]["320"]["trainings"][1]
    assert rows[5][2:5] == [f"{last['voc']['map']:.3f}", f"{last['voc07']['map']:.3f}", f"{last['seconds']:.0f}"]
    assert lines[-1] == "'-': sppnet had not finished"


def test_chart_shows_a_step_and_a_point_for_each_training(result):
    planted = {**result, "sppnet": {**result["sppnet"], "seconds": 6.0, "voc": {"map": 0.75}}}
    axes = chart(planted).axes[0]
    ours, *others = axes.lines
    assert ours.get_xdata() == pytest.approx([0.1, 0.1, 0.2])
    assert ours.get_ydata() == pytest.approx([0.0, 0.75, 0.75])
    assert [line.get_xdata().tolist() for line in others] == [[0.01, 0.2]] * 2
    late = chart({**planted, "sppnet": {**planted["sppnet"], "seconds": 60.0}}).axes[0]
    assert late.lines[0].get_xdata() == pytest.approx([1, 1, 1])


@pytest.fixture
def quick(monkeypatch):
    """Plants trainings of no cost; the photographs that each opponent learns from and checks on.

    Our detector finds every object of the test set, the opponent none.
    """
    calls = []

    def train(dataset, plan, *, out, **options):
        truth = {}

        def look(image, threshold):
            sample = truth[image.tobytes()]
            return Detections(sample.boxes, np.ones(len(sample.boxes)), sample.labels, CLASSES)

        for sample in VOCDataset(dataset.root, "test", CLASSES):
            if sample.path.stat().st_size:
                truth[sample.image.tobytes()] = sample
        chosen = plan.changed(scales=(77,), C=0.5)
        options = {"features": chosen.features, "detection": chosen.detection}
        bundle = SimpleNamespace(backbone="planted", layer="planted", stride=32, **options)
        return SimpleNamespace(detect=look, bundle=bundle, card={**chosen.learning(), "choices": []})

    def run(self):
        calls.append(self)
        return {"seconds": self.seconds, "learnt_from": len(self.learnt), "held_out": len(self.held_out)}

    monkeypatch.setattr("sppnet.detector.training.train.train", train)
    monkeypatch.setattr(FineTuning, "run", run)
    monkeypatch.setattr(faster_rcnn, "detect", lambda *_: Detections.empty(CLASSES))
    return calls


def test_sides_are_scored_on_the_test_set_and_the_opponent_checks_on_our_first_fold(quick, scenes):
    found = few.measure(arguments(scenes, "--minutes", "1", "--opponents", "320", "--seed", "3"))
    plan = found["sppnet"]["plan"]
    assert (plan["features"]["scales"], plan["svm"]["C"], plan["backbone"]) == ([77], 0.5, "planted")
    assert found["sppnet"]["voc"]["map"] == found["sppnet"]["voc07"]["map"] == 1
    (training,) = found["opponents"]["320"]["trainings"]
    assert training["voc"]["map"] == training["voc07"]["map"] == 0
    (call,) = quick
    data = list(VOCDataset(scenes, "trainval", CLASSES))
    fold = choose_split(data, 2, TrainOptions(seed=3), folded=True).parts[0]
    assert [sample.id for sample in call.held_out] == [data[index].id for index in fold]
    others = {sample.id for sample in data} - {sample.id for sample in call.held_out}
    assert {sample.id for sample in call.learnt} == others
    assert call.seconds == 60
    assert call.seed == 3


def test_without_early_stopping_the_opponent_learns_from_all(quick, scenes):
    found = few.measure(arguments(scenes, "--minutes", "1", "--opponents", "320", "--no-early-stopping"))
    (call,) = quick
    assert len(call.learnt) == 10
    assert call.held_out == []
    assert "weights none, learns from all 10 images" in table(found)


def test_checks_take_no_more_than_some_photographs_of_a_fold(quick, scenes, monkeypatch):
    monkeypatch.setattr(faster_rcnn, "HELD_OUT", 1)
    few.measure(arguments(scenes, "--minutes", "1", "--opponents", "320"))
    assert (len(quick[0].learnt), len(quick[0].held_out)) == (8, 1)


def test_opponents_have_trainings_of_their_own_from_the_same_start(quick, scenes):
    few.measure(arguments(scenes, "--minutes", "1,2", "--opponents", "320"))
    first, second = quick
    assert first.model is not second.model
    assert all(torch.equal(*pair) for pair in zip(first.model.parameters(), second.model.parameters(), strict=True))


@pytest.mark.usefixtures("quick")
def test_files_are_written_and_an_unreadable_photograph_is_named_once(scenes, tmp_path, capsys):
    root = shutil.copytree(scenes, tmp_path / "scenes")
    broken = sorted((root / "JPEGImages").glob("test_*"))[0]
    broken.write_bytes(b"")
    file, plot = tmp_path / "few.json", tmp_path / "few.svg"
    call = ["benchmark", "few", str(root), *OPTIONS.split(), "--minutes", "1", "--json", str(file), "--plot", str(plot)]
    assert main(call) == 1
    out, err = capsys.readouterr()
    assert err.count("\n") == 1
    assert str(broken) in err
    assert out.splitlines()[-1] == f"test images that could not be read, taken for empty: {broken}"
    report = json.loads(file.read_text())
    assert report["machine"]["packages"]["torchvision"]
    assert report["result"]["failed"] == [str(broken)]
    assert 0 < report["result"]["sppnet"]["voc"]["map"] < 1
    assert "minutes of training" in plot.read_text()


@pytest.mark.parametrize(
    ("options", "weights"),
    [
        ([], "none"),
        (["--weights", "imagenet"], "imagenet"),
        (["--weights", "a.pth"], "imagenet"),
        (["--weights", "a.pth", "--backbone", "mobilenet_v2"], "a.pth"),
        (["--weights", "a.pth", "--opponent-weights", "b.pth"], "b.pth"),
    ],
)
def test_weights_of_the_opponents(options, weights):
    assert few.opponent_weights(arguments("scenes", *options)) == weights


def test_both_sides_have_the_same_network_by_default():
    args = build_parser().parse_args(["benchmark", "few", "scenes"])
    assert args.backbone == few.plan_of(args).backbone == NETWORK
    assert few.opponent_weights(args) == args.weights == "imagenet"
    assert args.minutes == (3, 10, 30)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--opponents", "yolo"], "argument --opponents: expected any of fpn,320, got 'yolo'"),
        (["--minutes", "3,0"], "argument --minutes: expected positive numbers with commas between them, got '3,0'"),
        (["--plot", "few.pdf"], "--plot writes SVG or PNG; expected a name that ends in .svg or .png, not few.pdf"),
        (["--test-set", "trainval"], "10 of its 10 images are in the training set"),
        (["--classes", "box,cat"], "no object to learn from for cat"),
        (["--opponent-weights", "none.txt"], "weights must be 'imagenet', 'none' or a .safetensors, .pth or .pt file"),
        (["--opponent-weights", "absent.pth"], "absent.pth: cannot be read as a state dict (no such file)"),
    ],
)
def test_wrong_call_is_one_line(scenes, capsys, options, message):
    assert status(["benchmark", "few", str(scenes), *OPTIONS.split(), *options]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1


def test_opponents_weights_are_not_written_over(scenes, tmp_path, capsys):
    weights = tmp_path / "weights.safetensors"
    weights.write_bytes(b"mine")
    call = ["benchmark", "few", str(scenes), *OPTIONS.split(), "--opponent-weights", str(weights)]
    assert status([*call, "--json", str(weights)]) == 2
    assert str(weights) in capsys.readouterr().err
    assert weights.read_bytes() == b"mine"


def status(call):
    try:
        return main(call)
    except SystemExit as end:
        return end.code

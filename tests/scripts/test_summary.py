"""What a training says: the contents of the set, its last words, and names and options that are refused before it."""

import numpy as np
import pytest
from sppnet.data.sample import Sample
from sppnet.data.scenes import make_scenes
from sppnet.scripts.cli import main
from sppnet.scripts.summary import contents, next_commands, summary


def said(width=10**6, **counts):
    shown = {name: dict(zip(("shown", "right", "objects"), three, strict=True)) for name, three in counts.items()}
    return summary({"held_out": {"shown": shown}}, width)


def test_one_class():
    assert said(cat=(200, 160, 240)) == (
        "On photographs that it had not learnt from, the detector finds 67 % of the objects among what it shows by "
        "default, and 80 % of what it shows is right."
    )


def test_the_best_and_the_weakest_of_several():
    text = said(cat=(100, 90, 100), cow=(0, 0, 50), dog=(50, 20, 60), hen=(3, 1, 4))
    assert "finds 52 % of the objects" in text
    assert "Best is cat (90 % found, 90 % right), weakest cow (0 % found, none shown)." in text
    assert "Too few objects to judge: hen (4)." in text


def test_few_objects_say_little():
    text = said(cat=(18, 12, 20))
    # 2 * sqrt(0.59 * 0.41 / 20) is 0.22.
    assert "20 objects are few: these figures may be 22 points off, probabilities are rough" in text
    assert "few" not in said(cat=(90, 80, 100))
    assert "0 % of the objects" in said(cat=(0, 0, 3))
    assert "nothing of what it shows is right" in said(cat=(0, 0, 3))


def test_what_more_photographs_are_likely_to_bring():
    shown = {"cat": {"shown": 200, "right": 160, "objects": 240}}
    points = [{"images": 20, "map": 0.6}, {"images": 40, "map": 0.7}, {"images": 80, "map": 0.76}]
    card = {"images": 100, "held_out": {"shown": shown}, "learning_curve": points}
    # From 40 to 80 it gained 6 points, and so it does from 100 to 200.
    assert summary(card, 999).endswith(
        "Learning from 20, 40 and 80 photographs gives a mean AP of 0.600, 0.700 and 0.760. If it goes on like this, "
        "another 100 photographs bring about 6 points."
    )
    points[2]["map"] = 0.69
    assert summary(card, 999).endswith("Another 100 photographs will hardly change it.")
    points[:] = [{"images": 20, "map": None}, points[2]]
    assert "Learning from" not in summary(card)


@pytest.mark.parametrize("card", [{}, {"held_out": {"images": 3}}, {"held_out": {"shown": {}}}])
def test_nothing_is_known_without_a_score(card):
    assert "how good it is remains unknown" in summary(card)


def test_lines_are_short():
    assert max(map(len, said(60, cat=(18, 12, 20), dog=(30, 30, 30)).splitlines())) <= 60


def test_the_next_commands_can_be_typed():
    assert next_commands("my model.safetensors")[1:] == [
        "  sppnet detect PHOTOGRAPHS --model 'my model.safetensors' -o found",
        "  sppnet evaluate DATASET --model 'my model.safetensors'",
    ]


def test_contents_count_what_can_be_learnt():
    def sample(*objects):
        boxes, labels, difficult = zip(*objects, strict=True) if objects else ([], [], [])
        boxes = np.array(boxes, np.float32).reshape(-1, 4)
        return Sample("a", None, boxes, np.array(labels, np.int64), np.array(difficult, bool))

    wide, high = ([0, 0, 30, 10], 0), ([5, 5, 15, 45], 0)
    samples = [sample((*wide, False), (*high, False), ([0, 0, 9, 9], 1, True)), sample((*wide, True)), sample()]
    assert contents(samples, ["cat", "dog"]) == [
        "3 photographs to learn from",
        "class  photographs  objects  difficult  median size",
        "-----  -----------  -------  ---------  -----------",
        "cat              1        2          1      20 x 25",
        "dog              0        0          1            -",
    ]


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    root = tmp_path_factory.mktemp("scenes")
    make_scenes(root, {"train": 6}, seed=0, size=(96, 128))
    return root


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--classes", "disk"], "no object of disk in the set train; did you mean disc? its classes are box, disc, "),
        (["--classes", "zebra"], "no object of zebra in the set train; its classes are box, disc, "),
        (["--epochs", "8"], "--epochs belongs to fine-tuned fc layers, which --features pool5 does not have"),
        (["--fc-width=64"], "--fc-width belongs to fine-tuned fc layers"),
        (["--folds", "3", "--held-out", "0.2"], "on folds or on a held-out part, not on both"),
        (["--learning-curve", "--features", "fc7"], "a learning curve needs the features pool5"),
    ],
)
def test_a_mistake_is_told_before_the_work(scenes, tmp_path, capsys, options, message):
    command = ["train", str(scenes), "--set", "train", "--out", str(tmp_path / "m.safetensors"), "--weights", "none"]
    assert main([*command, *options]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1
    assert not (tmp_path / "m.safetensors.work").exists()

"""Several processes against one: the same curves within rounding, resumed on another number; and how they end."""

import os
import socket
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import astuple
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from small_training import DoubleTraining, SmallTraining
from sppnet.data.errors import InputError
from sppnet.data.labelled import LabelledImage, LabelledImages
from sppnet.detector.classification.network import SPPClassifier
from sppnet.detector.classification.options import ClassifierOptions
from sppnet.detector.convolutions.backbone import Backbone
from sppnet.detector.convolutions.truncation import cut, to_learn
from sppnet.detector.descent.options import Augmentation, LearnOptions
from sppnet.detector.descent.processes import leading
from sppnet.detector.distillation import Distillation
from sppnet.detector.head.head import Head
from sppnet.detector.options import FineTuneOptions
from sppnet.detector.training.finetune import FineTuner

TESTS = Path(__file__).parents[2]
FOLLOW = (
    f"import os, sys; sys.path.insert(0, {str(TESTS)!r}); from sppnet.scripts.cli import prepare; prepare(os.environ); "
    "from sppnet.detector.descent.processes import follow; follow()"
)


@contextmanager
def others(size, *lines):
    """This process leads a number of processes, as it would in torchrun; gives the others.

    They must end well, and say nothing; or end with an error, and say a line with these words.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    environments = [{**shared, "RANK": rank, "LOCAL_RANK": rank} for rank in range(size)]
    environments = [{name: str(value) for name, value in one.items()} for one in environments]
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environments[0].items():
            patch.setenv(name, value)
        processes = [
            subprocess.Popen(
                [sys.executable, "-c", FOLLOW],
                env=os.environ | {"OMP_NUM_THREADS": "1"} | one,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            for one in environments[1:]
        ]
        try:
            with leading():
                yield processes
        finally:
            try:
                said = [process.communicate(timeout=60)[0] for process in processes]
            finally:
                for process in processes:
                    process.kill()
    # Killed by a test, or ended with this one.
    assert {process.returncode for process in processes} <= ({1} if lines else {0, -9})
    assert [len(text.splitlines()) for text in said] == [len(lines)] * len(processes)
    assert all(line in text for text in said for line in lines)


@pytest.fixture(scope="module")
def trainings(training_images, photographs):
    """Makes a training of each kind; the rows of its batches do not divide evenly."""

    def fine_tuning(**more):
        options = {"width": 32, "epochs": 3, "batch": 17, "positives_in_batch": 5, "batches_in_epoch": 2, "rate": 0.02}
        options, images = FineTuneOptions(**options | more), training_images(7)
        head = Head(images.features.pooled_width, options.width, 4, options.dropout, seed=1, scale=0.05)
        return FineTuner(images, range(5), (5, 6), head, options, 0, lambda line: None)

    def classification(multi_label=False, **learn):
        kept, held_out = photographs(15, multi_label=multi_label), photographs(6, 1, multi_label)
        options = ClassifierOptions(levels=(1, 2), width=32, size=64, multi_label=multi_label)
        network = SPPClassifier(("red", "green", "blue"), options=options).double()
        learn = LearnOptions(**{"epochs": 3, "batch": 7, "sizes": (64,), "mixed": False} | learn)
        return DoubleTraining(network, kept, held_out, learn, Augmentation("paper"), lambda line: None)

    def several_labels():
        training = classification(True, smoothing=0.1, average=0.8, schedule="plateau", patience=1)
        # Some photographs count for no class: the shares of the processes are not their numbers of photographs.
        training.photographs._targets[::3] = -1
        return training

    def distillation():
        teacher, student = Backbone("sppnet_small", seed=1), to_learn(cut("sppnet_small"))
        learn = LearnOptions(epochs=2, batch=5, sizes=(64,), mixed=False, optimizer="adamw", rate=0.001, average=0.8)
        kept, held_out = photographs(11), photographs(4, 1)
        return Distillation(student, teacher, kept, held_out, learn, Augmentation("paper"), lambda line: None)

    return {
        "layers": SmallTraining,
        "fine-tuning": fine_tuning,
        "classification": classification,
        "several labels": several_labels,
        "distillation": distillation,
    }


#: Largest relative difference of losses. In single precision sums in another order differ in the seventh digit, and
#: every step makes that more; in double precision it shows that there is no other difference. The loss of several
#: labels is rounded to single precision.
ROUNDING = {
    "layers": 1e-12,
    "classification": 1e-9,
    "several labels": 1e-6,
    "fine-tuning": 1e-5,
    "distillation": 1e-4,
}

RESUMED = ("fine-tuning", "classification", "distillation")

BY_THREE = ("layers", "fine-tuning", "several labels")


def run(training, state=None):
    """The training at its end, and its state after the first epoch."""
    if state is not None:
        training.restore(state)
    states = []
    training.run(lambda: states.append(training.state()))
    return training, states[0]


def refusal(training, after_epoch=lambda: None):
    with pytest.raises(InputError) as refused:
        training.run(after_epoch)
    return str(refused.value)


@pytest.fixture(scope="module")
def ended(trainings):
    """What became of the trainings, by name and number of processes."""
    found = {(name, 1): run(make()) for name, make in trainings.items()}
    with others(2) as processes:
        found |= {(name, 2): run(make()) for name, make in trainings.items()}
        found |= {(name, "1, then 2"): run(trainings[name](), found[name, 1][1]) for name in RESUMED}
        found["lost"] = refusal(trainings["fine-tuning"](), processes[0].kill)
    found |= {(name, "2, then 1"): run(trainings[name](), found[name, 2][1]) for name in RESUMED}
    with others(3):
        found |= {(name, 3): run(trainings[name]()) for name in BY_THREE}
        found["too small"] = refusal(trainings["fine-tuning"](positives_in_batch=2))
        found["diverged"] = refusal(trainings["fine-tuning"](rate=1e6))
    return found


def curve(training):
    return np.array([[np.nan if value is None else value for value in astuple(one)] for one in training.history])


@pytest.mark.parametrize(
    ("name", "processes"),
    [
        *product(ROUNDING, [2]),
        *product(RESUMED, ["1, then 2", "2, then 1"]),
        *product(BY_THREE, [3]),
    ],
)
def test_the_losses_are_those_of_one_process(ended, name, processes):
    one, several = ended[name, 1][0], ended[name, processes][0]
    np.testing.assert_allclose(curve(several), curve(one), rtol=ROUNDING[name])
    assert list(several.network.state_dict()) == list(one.network.state_dict())
    assert not several.network.training


def test_the_layers_are_those_of_one_process(ended):
    """Weights after two steps, and the statistics of batch norms."""
    one, several = (ended["layers", processes][0].network.state_dict() for processes in (1, 3))
    for name, value in one.items():
        torch.testing.assert_close(several[name], value, rtol=1e-10, atol=1e-12)
    assert float(one["maps.running_mean"].abs().max()) > 0.1
    assert int(one["maps.num_batches_tracked"]) == 2


def test_the_checkpoints_have_the_names_of_one_process(ended):
    assert ended["several labels", 2][1].keys() == ended["several labels", 1][1].keys()


def test_a_lost_process_is_one_line(ended):
    assert ended["lost"] == "one of the 2 processes of torchrun was lost; the same call goes on after the last epoch"


def test_another_process_says_why_it_ends(trainings, tmp_path):
    training = trainings["classification"]()
    # The first process has the pixels, the others read them.
    training.photographs.images = LabelledImages([LabelledImage(tmp_path / "no.png", [0])] * 15, ("one",), False)
    with others(2, f"sppnet: error: process 1 of torchrun: {tmp_path / 'no.png'}: "):
        assert refusal(training).startswith("one of the 2 processes of torchrun was lost")


def test_an_error_ends_all_processes(ended):
    assert ended["diverged"] == "fine-tuning diverged in epoch 1: a rate of 1e+06 is too high"


def test_a_batch_has_a_row_for_each_process(ended):
    assert ended["too small"] == (
        "a batch of 2 cannot be divided among 3 processes: start fewer processes, or take larger batches"
    )


def test_torchrun_runs_a_command_once(labelled, tmp_path):
    photographs = tmp_path / "photographs"
    for index, image in enumerate(labelled(9)):
        folder = photographs / f"class{index % 3}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / image.path.name).write_bytes(image.path.read_bytes())
    out = tmp_path / "model.safetensors"
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    torchrun += ["--log-dir", str(tmp_path / "log"), "-m", "sppnet"]
    call = ["classify", "train", str(photographs), "--out", str(out), "--backbone", "sppnet_small", "--weights", "none"]
    call += ["--sizes", "64", "--epochs", "1", "--batch", "3", "--device", "cpu", "--held-out", "0.34"]
    done = subprocess.run([*torchrun, *call], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    scored, wrote = done.stdout.splitlines()
    assert scored.startswith("one view of 3 held-out images: top-1 ")
    assert wrote == f"wrote {out}"
    assert done.stderr.count("epoch 1 of 1: 64 pixels") == 1
    assert "warning" not in done.stderr.lower()
    assert SPPClassifier.load(out).class_names == ("class0", "class1", "class2")

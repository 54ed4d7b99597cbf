"""Distillation: a student imitates its teacher; the loss against loops; networks that do not fit are refused."""

import json

import numpy as np
import pytest
import torch
from sppnet.data.errors import InputError
from sppnet.detector import distillation as module
from sppnet.detector.convolutions.backbone import Backbone
from sppnet.detector.convolutions.normalisation import normalised
from sppnet.detector.convolutions.reduction import reduced_channels
from sppnet.detector.convolutions.truncation import cut, default_layers, to_learn
from sppnet.detector.descent.options import TEACHER, Augmentation, LearnOptions
from sppnet.detector.distillation import Distillation, distil
from sppnet.detector.modelfile import read_header, read_model
from sppnet.detector.recipes import RECIPES
from torch import nn

LEARN = {"epochs": 2, "batch": 4, "sizes": (64,), "mixed": False, "held_out": 0.25, "optimizer": "adamw"}


@pytest.fixture
def convolutions(photographs):
    """Makes a network with random weights whose batch norms have seen photographs."""

    def make(noise=0.0):
        network, generator = to_learn(cut("sppnet_small"), seed=3), torch.Generator().manual_seed(0)
        norms = [part for part in network.modules() if isinstance(part, nn.BatchNorm2d)]
        with torch.no_grad():
            for part in norms:
                part.weight.fill_(1)  # blocks do not start as their shortcuts alone
                part.momentum = None
            for parameter in network.parameters():
                if parameter.ndim == 4:
                    parameter += noise * parameter.std() * torch.randn(parameter.shape, generator=generator)
            for batch in photographs(12).centres("crop", 4):
                network.train()(normalised(batch.images))
        for part in norms:
            part.momentum = 0.1
        return network.eval()

    return make


@pytest.fixture
def teacher(convolutions):
    return Backbone("sppnet_small", convolutions().state_dict())


@pytest.fixture
def distillation(photographs, teacher):
    def make(student=None, held_out=None, report=lambda line: None, **learn):
        student = to_learn(cut("sppnet_small")) if student is None else student
        options = LearnOptions(**LEARN | {"held_out": 0.0} | learn)
        return Distillation(student, teacher, photographs(12), held_out, options, Augmentation("none"), report)

    return make


def slow_difference(student, teacher, images):
    """Mean of the squared differences, cell by cell."""
    found, wanted = student(images), teacher(images)
    squares = []
    for image in range(len(images)):
        for channel in range(found.shape[1]):
            difference = found[image, channel] - wanted[image, channel]
            squares.extend((difference**2).flatten().tolist())
    return np.mean(squares)


def test_the_loss_is_the_difference_as_a_part_of_the_variance(distillation, photographs, teacher):
    learnt = distillation()
    learnt.network.eval()
    batch = next(iter(photographs(12).centres("crop", 3)))
    images = normalised(batch.images)
    with torch.no_grad():
        expected = slow_difference(learnt.network, teacher, images) / learnt.variance
        assert float(learnt._loss(images, batch)) == pytest.approx(expected, rel=1e-4)


def test_channels_are_measured_on_the_photographs(distillation, photographs, teacher):
    learnt = distillation()
    maps = torch.cat([teacher(normalised(batch.images)) for batch in photographs(12).centres("crop", 12)])
    columns = maps.permute(1, 0, 2, 3).flatten(1).double()
    torch.testing.assert_close(learnt.mean, columns.mean(dim=1).float(), rtol=1e-4, atol=1e-5)
    assert learnt.variance == pytest.approx(float(columns.var(dim=1, correction=0).mean()), rel=1e-3)


def test_a_silent_teacher_has_a_loss_too(photographs, teacher):
    for parameter in teacher.parameters():
        parameter.data.zero_()
    options = LearnOptions(**LEARN | {"held_out": 0.0})
    student = to_learn(cut("sppnet_small"))
    learnt = Distillation(student, teacher, photographs(12), None, options, Augmentation("none"), lambda line: None)
    assert learnt.variance == 1


class Silent(nn.Module):
    """The teacher's shape, nothing in it."""

    def __init__(self, value):
        super().__init__()
        self.value = nn.Parameter(value)

    def forward(self, images):
        return self.value[None, :, None, None].expand(len(images), -1, 4, 4)


def test_a_copy_explains_everything_and_the_mean_nothing(distillation, photographs, convolutions):
    same = distillation(convolutions(), photographs(12))
    with torch.no_grad():
        loss, explained, _ = same._score()
    assert loss == pytest.approx(0, abs=1e-6)
    assert explained == pytest.approx(1, abs=1e-6)
    learnt = distillation(Silent(same.mean.clone()), photographs(12))
    loss, explained, _ = learnt._score()
    assert explained == pytest.approx(0, abs=1e-3)
    assert loss == pytest.approx(1, abs=1e-3)


def test_a_student_becomes_like_its_teacher(distillation, photographs, convolutions):
    """From the teacher's weights and noise: one with random weights is hard to imitate from nothing."""
    lines = []
    learnt = distillation(convolutions(0.5), photographs(9, seed=1), report=lines.append, epochs=15, rate=0.001)
    with learnt._kept():
        before = learnt._score()[1]
    learnt.run()
    assert before < -0.2
    assert learnt.history[-1].held_out_score > 0.1
    assert lines[-1].endswith(f"explained variance {learnt.history[-1].held_out_score:.3f}")


def test_maps_must_have_one_shape(distillation):
    with pytest.raises(ValueError, match=r"must have the shape of the teacher's, \(160, 4, 4\), not \(288, 4, 4\)"):
        distillation(to_learn(cut("sppnet_medium")))


# --- from files to a file ---------------------------------------------------------------------------------------------


@pytest.fixture
def paths(labelled):
    return [image.path for image in labelled(12)]


@pytest.fixture
def weights(teacher, tmp_path):
    path = tmp_path / "teacher.pt"
    torch.save(teacher.state(), path)
    return path


def test_the_file_serves_as_weights(paths, weights, tmp_path):
    out = tmp_path / "student.safetensors"
    distil(paths, out, "sppnet_small", "sppnet_small", weights, LearnOptions(**LEARN), quiet=True)
    backbone = Backbone("sppnet_small", out)
    header, tensors = read_model(out, "backbone")
    assert backbone.state().keys() == {name.removeprefix("backbone.") for name in tensors}
    card = header["card"]
    assert (header["backbone"], header["layer"], card["teacher"]) == ("sppnet_small", backbone.layer, "sppnet_small")
    assert (card["images"], card["held_out"]["images"], card["failed"]) == (9, 3, [])
    assert LearnOptions.from_dict(json.loads(json.dumps(card["training"]))) == LearnOptions(**LEARN)
    work = tmp_path / "student.safetensors.work"
    assert {path.name for path in work.iterdir()} >= {"loss.svg", "accuracy.svg", "history.csv"}
    assert (work / "accuracy.svg").read_text().count(">explained variance<") == 2  # the line's name and the axis's


def test_a_run_that_was_stopped_ends_with_the_same_file(paths, weights, tmp_path, monkeypatch):
    """AdamW's own state is kept, too."""
    learn = LearnOptions(**LEARN | {"average": 0.9})
    whole, resumed = tmp_path / "whole.safetensors", tmp_path / "resumed.safetensors"
    distil(paths, whole, "sppnet_small", "sppnet_small", weights, learn, quiet=True)
    write = module.write_curves

    def stop(folder, history, *words):
        write(folder, history, *words)
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "write_curves", stop)
    with pytest.raises(KeyboardInterrupt):
        distil(paths, resumed, "sppnet_small", "sppnet_small", weights, learn, quiet=True)
    monkeypatch.setattr(module, "write_curves", write)
    assert not resumed.exists()
    distil(paths, resumed, "sppnet_small", "sppnet_small", weights, learn, quiet=True)
    assert resumed.read_bytes() == whole.read_bytes()


@pytest.mark.usefixtures("messages")
def test_a_broken_photograph_is_named_and_left_out(paths, weights, tmp_path, capsys):
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"not a photograph")
    out = tmp_path / "student.safetensors"
    learn = LearnOptions(**LEARN | {"epochs": 1, "held_out": 0.0})
    distil([*paths, broken], out, "sppnet_small", "sppnet_small", weights, learn, quiet=True)
    assert str(broken) in capsys.readouterr().err
    card = read_header(out)["card"]
    assert card["failed"] == [str(broken)]
    assert card["held_out"] == {"images": 0, "loss": None, "explained": None}


def test_maps_that_differ_are_refused_at_once(paths, tmp_path):
    with pytest.raises(InputError, match=r"sppnet_medium \(288 channels at stride 16, .*\) must be like"):
        distil(paths, tmp_path / "m.safetensors", "sppnet_medium", "sppnet_small", "none")


def test_the_student_made_for_mobilenet_is_like_it():
    student, teacher = cut("sppnet_student").map, cut("mobilenet_v2", "features.14.conv.0").map
    assert (student.channels, student.stride, student.offset0) == (teacher.channels, teacher.stride, teacher.offset0)
    assert student.extent >= teacher.extent


@pytest.mark.parametrize("student", ["sppnet_student_480", "sppnet_student_small_480"])
def test_the_default_teacher_is_reduced_to_the_students_map(student, paths, tmp_path):
    """Both maps of the teacher, their principal components beside each other, with a mean square of 1."""
    out, seen = tmp_path / "student.safetensors", []

    class Watched(Distillation):
        def __init__(self, network, teacher, photographs, *rest):
            super().__init__(network, teacher, photographs, *rest)
            batch = next(photographs.training(64, Augmentation("none"), 9, [0]))
            seen.append(teacher(normalised(batch.images)))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "Distillation", Watched)
        distil(paths, out, student, teacher_weights="none", learn=LearnOptions(**LEARN | {"epochs": 1}), quiet=True)
        distil(paths, out, student, teacher_weights="none", learn=LearnOptions(**LEARN | {"epochs": 1}), quiet=True)
    assert torch.equal(*seen)  # the stored components are used again
    squares = seen[0].square().mean(dim=(0, 2, 3))
    assert float(squares[:160].sum()) / 240 == pytest.approx(1, rel=0.5)
    assert float(squares[160:].sum()) / 240 == pytest.approx(1, rel=0.5)
    card = read_header(out)["card"]
    assert (card["teacher"], card["teacher_channels"]) == ("efficientnet_lite0", 480)
    assert card["teacher_layer"].count(",") == 1


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_the_students_of_the_bundled_models_are_like_their_teachers(recipe):
    teacher = Backbone(TEACHER, layer=default_layers(TEACHER))
    student = recipe.plan.backbone
    module._check_alike(cut(student).map, student, teacher, reduced_channels(teacher, None))


def test_other_channels_than_the_students_are_refused(paths, tmp_path):
    wanted = (
        r"\(480 channels at stride 16, .*\) must be like that of efficientnet_lite0 \(160\+100 channels at stride 16, "
    )
    with pytest.raises(InputError, match=wanted):
        distil(paths, tmp_path / "m.safetensors", teacher_weights="none", channels=(160, 100))

"""Training to a model file: stored results, resuming, and errors."""

import csv
import os

import numpy as np
import pytest
from sppnet import __version__
from sppnet.data.errors import InputError
from sppnet.data.labelled import LabelledImage, LabelledImages
from sppnet.detector.classification import train as module
from sppnet.detector.classification.network import SPPClassifier
from sppnet.detector.classification.options import ClassifierOptions
from sppnet.detector.classification.train import train_classifier
from sppnet.detector.descent.options import Augmentation, LearnOptions
from sppnet.detector.modelfile import read_header

SMALL = ClassifierOptions(levels=(1, 2), width=16)
LEARN = {"epochs": 2, "batch": 4, "sizes": (64,), "mixed": False, "held_out": 0.25}


def trained(images, out, network=SMALL, validation=None, quiet=True, work=None, augmentation=None, **learn):
    return train_classifier(
        images,
        out,
        network=network,
        learn=LearnOptions(**LEARN | learn),
        augmentation=augmentation,
        validation=validation,
        quiet=quiet,
        work=work,
    )


def history_of(folder):
    with open(folder / "history.csv", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def done(labelled, tmp_path_factory):
    """A run that was not stopped."""
    out = tmp_path_factory.mktemp("done") / "model.safetensors"
    return trained(labelled(16), out), out


@pytest.fixture
def stopping(monkeypatch):
    """Makes a run stop after so many epochs."""
    write = module.write_curves

    def stop(epochs):
        def written(folder, history, *words):
            write(folder, history, *words)
            if len(history) == epochs:
                raise KeyboardInterrupt

        monkeypatch.setattr(module, "write_curves", written)

    yield stop
    monkeypatch.setattr(module, "write_curves", write)


def test_the_file_is_the_network(done, labelled):
    network, out = done
    assert not network.training
    image = labelled(16)[0].image
    assert SPPClassifier.load(out).predict(image) == network.predict(image)
    assert network.class_names == ("red", "green", "blue")
    assert (network.size, network.multi_label, network.input_fit, network.levels) == (64, False, "any", (1, 2))


def test_the_card_says_where_it_comes_from(done):
    network, out = done
    card = read_header(out)["card"]
    assert card == network.card
    last = history_of(out.parent / "model.safetensors.work")[-1]
    assert card["version"] == __version__
    assert (card["images"], card["held_out"]["images"]) == (12, 4)
    assert sum(card["classes"].values()) == 12
    assert list(card["classes"]) == ["red", "green", "blue"]
    assert (card["weights"], card["failed"]) == ("none", [])
    assert LearnOptions.from_dict(card["training"]) == LearnOptions(**LEARN)
    assert Augmentation.from_dict(card["augmentation"]) == Augmentation()
    assert card["held_out"].keys() == {"images", "loss", "top1", "top5"}
    assert card["held_out"]["loss"] == pytest.approx(float(last["held_out_loss"]), rel=1e-5)
    assert card["held_out"]["top1"] == pytest.approx(float(last["held_out_score"]), rel=1e-5)


def test_curves_are_kept(done):
    _, out = done
    work = out.parent / "model.safetensors.work"
    assert sorted(path.suffix for path in work.glob("[!.]*")) == [".csv", ".npz", ".svg", ".svg"]
    rows = history_of(work)
    assert [row["number"] for row in rows] == ["1", "2"]
    assert all(row["size"] == "64" and float(row["loss"]) > 0 and row["held_out_top5"] == "" for row in rows)
    for name, words in {"loss.svg": ["training", "held out"], "accuracy.svg": ["top-1", "accuracy"]}.items():
        text = (work / name).read_text()
        assert "<svg" in text
        assert all(f">{word}<" in text for word in words)
    assert ">top-5<" not in (work / "accuracy.svg").read_text()


def test_from_six_classes_on_there_is_a_top5_accuracy(labelled, tmp_path):
    names = ("red", "green", "blue", "cyan", "pink", "grey")
    network = trained(labelled(12).renamed(names), tmp_path / "m.safetensors", epochs=1)
    top1, top5 = (network.card["held_out"][key] for key in ("top1", "top5"))
    assert top1 <= top5 <= 1
    (row,) = history_of(tmp_path / "m.safetensors.work")
    assert float(row["held_out_top5"]) == pytest.approx(top5, rel=1e-5)
    assert ">top-5<" in (tmp_path / "m.safetensors.work" / "accuracy.svg").read_text()


def test_again_gives_the_same_file(done, labelled, tmp_path):
    _, out = done
    trained(labelled(16), tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == out.read_bytes()


@pytest.mark.usefixtures("messages")
def test_a_stopped_run_goes_on_to_the_same_file(done, labelled, tmp_path, stopping, monkeypatch, capsys):
    _, out = done
    other = tmp_path / "model.safetensors"
    stopping(1)
    with pytest.raises(KeyboardInterrupt):
        trained(labelled(16), other, work=tmp_path / "work")
    assert not other.exists()
    assert len(history_of(tmp_path / "work")) == 1
    monkeypatch.undo()
    trained(labelled(16), other, work=tmp_path / "work", quiet=False)
    said = capsys.readouterr().err
    assert "resuming after epoch 1" in said
    assert "epoch 2 of 2" in said
    assert "epoch 1 of 2" not in said
    assert other.read_bytes() == out.read_bytes()
    # And once more, when nothing is left to do.
    other.unlink()
    trained(labelled(16), other, work=tmp_path / "work", quiet=False)
    said = capsys.readouterr().err
    assert "resuming after epoch 2" in said
    assert "of 2:" not in said
    assert other.read_bytes() == out.read_bytes()


def test_a_stopped_run_with_averaging_and_sizes_goes_on_to_the_same_file(labelled, tmp_path, stopping, monkeypatch):
    learn = {"average": 0.9, "sizes": (80, 64), "epochs": 3}
    whole, other = tmp_path / "whole.safetensors", tmp_path / "other.safetensors"
    trained(labelled(12), whole, **learn)
    stopping(2)
    with pytest.raises(KeyboardInterrupt):
        trained(labelled(12), other, **learn)
    monkeypatch.undo()
    trained(labelled(12), other, **learn)
    assert other.read_bytes() == whole.read_bytes()
    assert [row["size"] for row in history_of(tmp_path / "other.safetensors.work")] == ["80", "64", "80"]


@pytest.fixture
def checkpointed(labelled, tmp_path):
    """A finished run of one epoch, and what another run under its work folder says."""
    images = labelled(8)
    trained(images, tmp_path / "first.safetensors", work=tmp_path / "work", epochs=1)

    def again(capsys, images=images, **changes):
        capsys.readouterr()
        options = {"epochs": 1} | changes
        trained(images, tmp_path / "second.safetensors", work=tmp_path / "work", quiet=False, **options)
        return capsys.readouterr().err

    return images, again


@pytest.mark.usefixtures("messages")
def test_other_options_do_not_go_on_from_it(checkpointed, capsys, tmp_path):
    _, again = checkpointed
    assert "resuming after epoch 1" in again(capsys)
    for changes in (
        {"rate": 0.05},
        {"epochs": 2},
        {"seed": 1},
        {"network": ClassifierOptions(levels=(1, 2), width=17)},
        {"augmentation": Augmentation("none")},
    ):
        assert "going on" not in again(capsys, **changes)


@pytest.mark.usefixtures("messages")
def test_other_photographs_do_not_go_on_from_it(checkpointed, capsys):
    images, again = checkpointed
    shown = [LabelledImage(image.path, image.labels) for image in images]
    dealt = [LabelledImage(shown[0].path, (shown[0].labels + 1) % 3), *shown[1:]]
    for other in (dealt, shown[:-1], shown[::-1]):
        assert "going on" not in again(capsys, LabelledImages(other, images.class_names, multi_label=False))
    assert "going on" not in again(capsys, LabelledImages(shown, ("red", "green", "azure"), multi_label=False))
    assert "resuming after epoch 1" in again(capsys, LabelledImages(shown, images.class_names, multi_label=False))
    stat = shown[3].path.stat()
    os.utime(shown[3].path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 10**9))
    assert "going on" not in again(capsys)


def test_difficult_objects_are_no_others(labelled):
    (image, *_) = labelled(4, multi_label=True)
    names = ("red", "green", "blue")
    described = [
        module.described(LabelledImages([LabelledImage(image.path, *labels)], names, multi_label=True))
        for labels in [(np.array([0]),), (np.zeros(0, np.int64), np.array([0])), (np.zeros(0, np.int64),)]
    ]
    assert described[0] != described[1] != described[2] != described[0]


def test_a_validation_set_takes_the_place_of_a_held_out_part(labelled, tmp_path):
    # With classes of its own order, and one less.
    validation = labelled(9, seed=1).only(("blue", "red"))
    network = trained(labelled(9), tmp_path / "a.safetensors", validation=validation, epochs=1)
    assert (network.card["images"], network.card["held_out"]["images"]) == (9, 6)
    with pytest.raises(InputError, match="unknown class 'green'"):
        trained(labelled(9).only(("blue", "red")), tmp_path / "b.safetensors", validation=labelled(9, seed=1))
    for images, other, message in [
        (labelled(9), labelled(9, multi_label=True), "one label each, held-out photographs any number of labels"),
        (labelled(9, multi_label=True), labelled(9), "any number of labels each, held-out photographs one label"),
    ]:
        with pytest.raises(InputError, match=message):
            trained(images, tmp_path / "b.safetensors", validation=other)
    assert not (tmp_path / "b.safetensors").exists()


def test_nothing_held_out(labelled, tmp_path):
    network = trained(labelled(8), tmp_path / "a.safetensors", held_out=0.0, epochs=1)
    assert network.card["images"] == 8
    assert network.card["held_out"] is None
    work = tmp_path / "a.safetensors.work"
    assert not (work / "accuracy.svg").exists()
    assert ">held out<" not in (work / "loss.svg").read_text()
    (row,) = history_of(work)
    assert (row["held_out_loss"], row["held_out_score"], row["held_out_top5"]) == ("", "", "")


def test_several_labels(labelled, tmp_path):
    images = labelled(16, multi_label=True)
    network = trained(images, tmp_path / "a.safetensors", network=ClassifierOptions(levels=(1,), width=8), epochs=1)
    assert network.multi_label  # it follows from the photographs
    assert network.card["held_out"]["metric"] == "voc07"
    assert network.card["held_out"].keys() == {"images", "loss", "metric", "map"}
    rest, _ = images.split(0.25, 0)
    assert list(network.card["classes"].values()) == (rest.targets == 1).sum(axis=0).tolist()
    drawn = (tmp_path / "a.safetensors.work" / "accuracy.svg").read_text()
    assert all(f">{word}<" in drawn for word in ("mAP", "mean average precision"))


def test_without_spp(labelled, tmp_path):
    options = ClassifierOptions(levels=(1, 2), width=8, fit="warp")
    network = trained(labelled(8), tmp_path / "a.safetensors", network=options, epochs=1)
    assert (network.levels, network.size) == ((2,), 64)
    assert network.card["augmentation"]["warp"] is True
    with pytest.raises(InputError, match="without SPP a network takes one size of images, not 80,64"):
        trained(labelled(8), tmp_path / "b.safetensors", network=options, sizes=(80, 64))


def test_the_network_is_made_for_the_sizes_learnt_from(labelled, tmp_path):
    options = ClassifierOptions(levels=(1,), width=8, size=224)
    network = trained(labelled(8), tmp_path / "a.safetensors", network=options, sizes=(80, 64), epochs=1)
    assert SPPClassifier.load(tmp_path / "a.safetensors").size == network.size == 80


def test_photographs_that_cannot_be_read_are_on_the_card(labelled, tmp_path):
    images = labelled(8)
    absent = [LabelledImage(tmp_path / f"{name}.png", np.array([0])) for name in "ab"]
    broken = LabelledImages([*images, absent[0]], images.class_names, multi_label=False)
    validation = LabelledImages([*labelled(4, seed=1), absent[1]], images.class_names, multi_label=False)
    network = trained(broken, tmp_path / "m.safetensors", validation=validation, epochs=1)
    assert network.card["failed"] == [str(tmp_path / "a.png"), str(tmp_path / "b.png")]
    assert (network.card["images"], network.card["held_out"]["images"]) == (8, 4)


def test_what_cannot_be_trained_leaves_no_file(labelled, tmp_path):
    out = tmp_path / "m.safetensors"
    with pytest.raises(InputError, match="there is one class, red; a classifier needs two or more"):
        trained(labelled(8).only(("red",)), out)
    with pytest.raises(InputError, match="needs a list of classes"):
        trained(LabelledImages([], (), multi_label=False), out)
    with pytest.raises(InputError, match="2 or more readable photographs, not 1"):
        trained(labelled(8).subset([0]), out)
    with pytest.raises(InputError, match="no photograph is held out"):
        trained(labelled(8).subset([0, 1, 2]), out, schedule="plateau", held_out=0.01)
    assert not out.exists()


def test_training_goes_on_where_no_held_out_photograph_can_be_read(labelled, tmp_path):
    gone = LabelledImage(tmp_path / "gone.png", np.array([0]))
    held_out = LabelledImages([gone], labelled(8).class_names, multi_label=False)
    network = trained(labelled(8), tmp_path / "m.safetensors", validation=held_out)
    assert network.card["held_out"] is None
    assert network.card["failed"] == [gone.name]

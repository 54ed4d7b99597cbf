"""Photographs: read once, cropped and collected in batches."""

import numpy as np
import pytest
import torch
from sppnet.data.errors import ImageError
from sppnet.data.image import write_image
from sppnet.data.labelled import LabelledImage, LabelledImages
from sppnet.detector.convolutions.backbone import Backbone
from sppnet.detector.convolutions.normalisation import normalised
from sppnet.detector.descent import photographs as module
from sppnet.detector.descent.augment import at_size, centre_crop, training_crop, warped
from sppnet.detector.descent.options import Augmentation
from sppnet.detector.descent.photographs import Photographs, centre_view

PAPER = Augmentation("paper")


@pytest.fixture
def numbered(tmp_path):
    """Makes a set whose photographs are of one colour each, which tells the number."""

    def make(count, shape=(70, 80)):
        images = []
        for index in range(count):
            write_image(tmp_path / f"{index}.png", np.full((*shape, 3), 10 * index, np.uint8))
            images.append(LabelledImage(tmp_path / f"{index}.png", np.array([index % 2])))
        return LabelledImages(images, ("even", "odd"), multi_label=False)

    return make


def numbers(batches):
    """Which photographs the crops of each batch are of."""
    return [(batch.images.flatten(1).float().mean(dim=1) / 10).round().long().tolist() for batch in batches]


def test_an_epoch_shows_each_photograph_once(numbered):
    kept = Photographs(numbered(12), 64, "reading", quiet=True)
    none = Augmentation("none")
    batches = list(kept.training(64, none, 4, [0, 1]))
    shown = numbers(batches)
    assert [len(batch) for batch in shown] == [4, 4, 4]
    order = [index for batch in shown for index in batch]
    assert sorted(order) == list(range(12)) != order
    for batch, who in zip(batches, shown, strict=True):
        assert batch.targets.tolist() == [index % 2 for index in who]
        assert (batch.images.shape, batch.images.dtype) == ((4, 64, 64, 3), torch.uint8)
    # The order is the seed's alone, whatever the size and the augmentation.
    assert numbers(kept.training(80, none, 4, [0, 1])) == shown
    assert numbers(kept.training(64, none, 4, [0, 2])) != shown


def test_more_threads_make_the_same_batches(numbered):
    kept = Photographs(numbered(9), 64, "reading", quiet=True)
    one, three = (list(kept.training(64, Augmentation("strong"), 2, [0, 1], workers)) for workers in (1, 3))
    assert len(one) == len(three) == 4
    for a, b in zip(one, three, strict=True):
        assert torch.equal(a.images, b.images)
        assert torch.equal(a.targets, b.targets)


def test_a_last_batch_that_is_not_full_is_left_out(numbered):
    kept = Photographs(numbered(5), 64, "reading", quiet=True)
    assert [len(batch.targets) for batch in kept.training(64, PAPER, 2, [0])] == [2, 2]
    assert [len(batch.targets) for batch in kept.training(64, PAPER, 64, [0])] == [5]


@pytest.mark.parametrize("side", [64, 80])
def test_crops_are_cut_at_one_size_and_resized_to_another(photographs, side):
    kept = photographs(6)
    (batch,) = kept.training(side, PAPER, 6, [3, 1])
    order = np.random.default_rng([3, 1]).permutation(6)
    for image, index in zip(batch.images, order.tolist(), strict=True):
        crop = training_crop(kept[index], 64, PAPER, np.random.default_rng([3, 1, index]))
        np.testing.assert_array_equal(image.numpy(), at_size(crop, side))


@pytest.mark.parametrize("multi_label", [False, True])
def test_photographs_that_are_read_again_give_the_same_batches(labelled, monkeypatch, multi_label):
    images = labelled(7, multi_label=multi_label)
    kept = Photographs(images, 64, "reading", quiet=True)
    # Room for two of the seven.
    monkeypatch.setattr(module, "_KEPT", sum(kept[index].nbytes for index in range(2)))
    two = Photographs(images, 64, "reading", quiet=True)
    assert [pixels is not None for pixels in two._kept[:2]] == [True, True]
    monkeypatch.setattr(module, "_KEPT", 0)
    none = Photographs(images, 64, "reading", quiet=True)
    assert not any(pixels is not None for pixels in none._kept)
    for other in (two, none):
        for ours, theirs in [
            (kept.training(64, PAPER, 3, [0]), other.training(64, PAPER, 3, [0])),
            (kept.centres("any", 3), other.centres("any", 3)),
        ]:
            for batch, same in zip(ours, theirs, strict=True):
                assert torch.equal(batch.images, same.images)
                assert torch.equal(batch.targets, same.targets)


def test_a_photograph_that_goes_away_is_an_error_that_names_it(numbered, monkeypatch):
    monkeypatch.setattr(module, "_KEPT", 0)
    kept = Photographs(numbered(3), 64, "reading", quiet=True)
    kept.images[1].path.unlink()
    with pytest.raises(ImageError, match=r"1\.png: no such file"):
        list(kept.centres("any", 3))


@pytest.mark.usefixtures("messages")
def test_unreadable_files_are_named_and_left_out(numbered, capsys):
    images = numbered(5)
    images[1].path.write_bytes(b"no image")
    images[4].path.unlink()
    kept = Photographs(images, 64, "reading", quiet=True)
    assert len(kept) == len(kept.images) == 3
    assert list(kept.failed) == [images[1].name, images[4].name]
    assert capsys.readouterr().err.splitlines() == [f"sppnet: {reason}" for reason in kept.failed.values()]
    assert all(name in reason for name, reason in kept.failed.items())
    (batch,) = kept.centres("any", 5)
    assert numbers([batch]) == [[0, 2, 3]]
    assert batch.targets.tolist() == [0, 0, 1]
    for image in images:
        image.path.unlink(missing_ok=True)
    gone = Photographs(images, 64, "reading", quiet=True)
    assert (len(gone), len(gone.failed)) == (0, 5)


def test_no_photographs_are_no_batches():
    kept = Photographs(LabelledImages([], ("a", "b"), multi_label=False), 64, "reading", quiet=True)
    assert len(kept) == 0
    assert list(kept.centres("any", 4)) == []


def test_targets_of_several_labels_keep_what_is_not_to_be_learnt(tmp_path):
    write_image(tmp_path / "a.png", np.zeros((64, 64, 3), np.uint8))
    image = LabelledImage(tmp_path / "a.png", np.array([2]), np.array([0]))
    kept = Photographs(LabelledImages([image], ("a", "b", "c"), multi_label=True), 64, "reading", quiet=True)
    (batch,) = kept.centres("any", 4)
    assert batch.targets.tolist() == [[-1, 0, 1]]
    assert batch.targets.dtype == torch.int8


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 2), (64, 64), (90, 130)])
def test_centres_of_all_shapes(shape):
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    around = centre_crop(image, 64, 73)
    np.testing.assert_array_equal(centre_view(image, 64, "any"), around)
    np.testing.assert_array_equal(centre_view(image, 64, "crop"), around)
    np.testing.assert_array_equal(centre_view(image, 64, "warp"), warped(image, 64))


def test_centres_come_in_order(photographs):
    kept = photographs(5)
    for fit in ("any", "crop", "warp"):
        batches = list(kept.centres(fit, 2))
        assert [len(batch.targets) for batch in batches] == [2, 2, 1]
        expected = [centre_view(kept[index], 64, fit) for index in range(5)]
        np.testing.assert_array_equal(torch.cat([batch.images for batch in batches]).numpy(), expected)
        assert torch.cat([batch.targets for batch in batches]).tolist() == kept.images.labels.tolist()


def test_large_photographs_are_kept_smaller(numbered):
    kept = Photographs(numbered(1, shape=(200, 300)), 64, "reading", quiet=True)
    assert kept[0].shape == (146, 219, 3)
    # The shorter side of a strip too is what crops need, not less.
    kept = Photographs(numbered(1, shape=(150, 3000)), 64, "reading", quiet=True)
    assert kept[0].shape == (146, 2920, 3)
    kept = Photographs(numbered(1, shape=(140, 3000)), 64, "reading", quiet=True)
    assert kept[0].shape == (140, 3000, 3)


def test_normalised_is_the_backbones_preprocessing():
    images = np.random.default_rng(0).integers(0, 256, (3, 64, 70, 3), np.uint8)
    before = images.copy()
    tensor = normalised(torch.from_numpy(images))
    backbone = Backbone("sppnet_small")
    assert torch.equal(tensor, torch.cat([backbone.preprocess(image) for image in images]))
    assert tensor.is_contiguous(memory_format=torch.channels_last)
    np.testing.assert_array_equal(images, before)

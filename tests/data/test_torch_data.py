"""Data sets in torch's form: values, loaders with and without workers, torchvision's transforms and detectors."""

import json
import pickle

import numpy as np
import pytest
import torch
from PIL import Image
from sppnet.data.coco import COCODataset
from sppnet.data.folder import FolderDataset
from sppnet.data.image import read_image
from sppnet.data.labelled import LabelledImage, LabelledImages
from sppnet.data.sample import Sample, SampleList
from sppnet.data.scenes import make_scenes
from sppnet.data.voc import VOCDataset
from torch.utils.data import DataLoader
from torchvision import tv_tensors
from torchvision.transforms import v2


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    return VOCDataset(make_scenes(tmp_path_factory.mktemp("scenes"), {"train": 5}, size=(60, 80)), "train")


@pytest.fixture
def planted(tmp_path):
    """Two images of different sizes: one with a plain and a difficult object, one without any."""
    samples = []
    for name, size, boxes, labels, difficult in (
        ("a", (40, 30), [[0, 0, 10, 20], [4.5, 5, 40, 30]], [2, 0], [False, True]),
        ("b", (20, 50), [], [], []),
    ):
        pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
        boxes = np.array(boxes, np.float32).reshape(-1, 4)
        samples.append(
            Sample(name, tmp_path / f"{name}.png", boxes, np.array(labels, np.int64), np.array(difficult, bool))
        )
    return SampleList(samples, ("cat", "cow", "dog"))


def same_target(one, other):
    assert one.keys() == other.keys()
    for key in one:
        if key == "image_id":
            assert one[key] == other[key]
        else:
            assert torch.equal(one[key], other[key])
            assert one[key].dtype == other[key].dtype


def test_items_are_what_torchvision_expects(planted):
    data = planted.to_torch()
    assert len(data) == 2
    image, target = data[0]
    assert torch.equal(image, torch.from_numpy(planted[0].image).permute(2, 0, 1) / 255)
    assert image.dtype == torch.float32
    expected = {
        "boxes": torch.tensor([[0, 0, 10, 20], [4.5, 5, 40, 30]]),
        "labels": torch.tensor([3, 1]),
        "image_id": 0,
        "area": torch.tensor([200.0, 35.5 * 25]),
        "iscrowd": torch.tensor([0, 1]),
    }
    same_target(target, expected)
    same_target(planted.to_torch(first_label=0)[0][1], expected | {"labels": torch.tensor([2, 0])})
    without = {key: value if key == "image_id" else value[:1] for key, value in expected.items()}
    same_target(planted.to_torch(difficult=False)[0][1], without)


def test_an_image_without_objects_keeps_shapes_and_types(planted):
    for image, target in (planted.to_torch()[1], planted.to_torch(lambda *pair: pair)[1]):
        assert image.shape == (3, 50, 20)
        assert target["image_id"] == 1
        assert target["boxes"].shape == (0, 4)
        assert target["boxes"].dtype == torch.float32
        for name, dtype in (("labels", torch.int64), ("area", torch.float32), ("iscrowd", torch.int64)):
            assert target[name].shape == (0,)
            assert target[name].dtype == dtype


def test_changing_an_item_leaves_the_dataset_alone(planted):
    before = planted[0].boxes.copy()
    data = planted.to_torch()
    data[0][1]["boxes"].zero_()
    data[0][1]["labels"].zero_()
    np.testing.assert_array_equal(planted[0].boxes, before)
    assert data[0][1]["labels"].tolist() == [3, 1]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_gives_what_the_items_are(scenes, workers):
    data = scenes.to_torch()
    loader = DataLoader(data, batch_size=2, num_workers=workers, collate_fn=data.collate)
    images, targets = [sum(part, ()) for part in zip(*loader, strict=True)]
    assert len(images) == len(targets) == 5
    for i, (image, target) in enumerate(zip(images, targets, strict=True)):
        expected_image, expected = data[i]
        assert torch.equal(image, expected_image)
        same_target(target, expected)


def test_workers_can_be_started_afresh(scenes):
    """A worker that is not forked gets the data set as a pickle."""
    data = pickle.loads(pickle.dumps(scenes.to_torch(v2.RandomHorizontalFlip(p=1))))
    same_target(data[1][1], scenes.to_torch(v2.RandomHorizontalFlip(p=1))[1][1])


def test_transforms_move_boxes_with_their_image(planted):
    image, target = planted.to_torch(v2.RandomHorizontalFlip(p=1))[0]
    assert isinstance(image, tv_tensors.Image)
    assert image.dtype == torch.uint8
    np.testing.assert_array_equal(image.permute(1, 2, 0).numpy(), planted[0].image[:, ::-1])
    assert isinstance(target["boxes"], tv_tensors.BoundingBoxes)
    assert target["boxes"].tolist() == [[30, 0, 40, 20], [0, 5, 35.5, 30]]
    assert target["labels"].tolist() == [3, 1]
    image, target = planted.to_torch(v2.Compose([v2.Resize((60, 80)), v2.ToDtype(torch.float32, scale=True)]))[0]
    assert image.shape == (3, 60, 80)
    assert 0 <= image.min() < image.max() <= 1
    assert target["boxes"].tolist() == [[0, 0, 20, 40], [9, 10, 80, 60]]


def test_what_goes_with_a_box_can_be_dropped_with_it(planted):
    def cut(image, target):
        """The left quarter of the image, where the second object is 5.5 pixels wide."""
        return v2.functional.crop(image, 0, 0, 30, 10), {
            **target,
            "boxes": v2.functional.crop(target["boxes"], 0, 0, 30, 10),
        }

    clean = v2.SanitizeBoundingBoxes(
        min_size=6, labels_getter=lambda pair: [pair[1][name] for name in ("labels", "area", "iscrowd")]
    )
    _, target = planted.to_torch(lambda image, target: clean(*cut(image, target)))[0]
    assert target["boxes"].tolist() == [[0, 0, 10, 20]]
    assert [target[name].tolist() for name in ("labels", "area", "iscrowd")] == [[3], [200], [0]]


def test_coco_images_keep_their_numbers(tmp_path):
    for name in ("a.png", "b.png"):
        Image.new("RGB", (20, 10)).save(tmp_path / name)
    content = {
        "images": [{"id": 900, "file_name": "a.png"}, {"id": 7, "file_name": "b.png"}],
        "categories": [{"id": 18, "name": "dog"}],
        "annotations": [{"image_id": 900, "category_id": 18, "bbox": [1, 2, 3, 4], "iscrowd": 1}],
    }
    (tmp_path / "coco.json").write_text(json.dumps(content))
    data = COCODataset(tmp_path / "coco.json", tmp_path)
    assert [target["image_id"] for _, target in data.to_torch()] == [900, 7]
    assert [target["iscrowd"].tolist() for _, target in data.to_torch()] == [[1], []]
    assert data.subset([1]).to_torch()[0][1]["image_id"] == 7


def test_subsets_and_folders(planted, tmp_path):
    assert [target["labels"].tolist() for _, target in planted.subset([1, 0]).to_torch()] == [[], [3, 1]]
    folder = FolderDataset(tmp_path).to_torch()
    assert [target["boxes"].shape for _, target in folder] == [(0, 4), (0, 4)]


def test_a_detector_of_torchvision_learns_from_a_batch(scenes):
    from torchvision.models.detection import FasterRCNN
    from torchvision.models.detection.rpn import AnchorGenerator

    torch.manual_seed(0)
    backbone = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, stride=8, padding=1), torch.nn.ReLU())
    backbone.out_channels = 8
    anchors = AnchorGenerator(sizes=((16, 32),), aspect_ratios=((1.0,),))
    network = FasterRCNN(
        backbone,
        1 + len(scenes.class_names),
        rpn_anchor_generator=anchors,
        min_size=60,
        max_size=100,
        box_roi_pool=None,
    )
    data = scenes.to_torch()
    images, targets = next(iter(DataLoader(data, batch_size=5, collate_fn=data.collate)))
    losses = network(list(images), list(targets))
    assert losses
    assert all(torch.isfinite(loss) for loss in losses.values())
    sum(losses.values()).backward()
    assert backbone[0].weight.grad.abs().sum() > 0


def labelled(planted, multi_label):
    paths = [sample.path for sample in planted]
    if multi_label:
        images = [
            LabelledImage(paths[0], np.array([2, 0])),
            LabelledImage(paths[1], np.zeros(0, np.int64), ignored=np.array([1])),
        ]
    else:
        images = [LabelledImage(path, np.array([label])) for path, label in zip(paths, (2, 1), strict=True)]
    return LabelledImages(images, planted.class_names, multi_label)


@pytest.mark.parametrize("workers", [0, 2])
def test_photographs_of_a_class_each(planted, workers):
    data = labelled(planted, False)
    image, target = data.to_torch()[0]
    assert torch.equal(image, torch.from_numpy(read_image(data[0].path)).permute(2, 0, 1) / 255)
    assert target == 2
    transforms = v2.Compose([v2.Resize((8, 8)), v2.ToDtype(torch.float32, scale=True)])
    (images, targets), *others = DataLoader(data.to_torch(transforms), batch_size=2, num_workers=workers)
    assert others == []
    assert images.shape == (2, 3, 8, 8)
    assert targets.tolist() == [2, 1]
    assert targets.dtype == torch.int64


def test_photographs_of_many_classes_each(planted):
    data = labelled(planted, True).to_torch()
    images, targets = next(iter(DataLoader(data, batch_size=2, collate_fn=data.collate)))
    assert [image.shape for image in images] == [(3, 30, 40), (3, 50, 20)]
    assert [target.tolist() for target in targets] == [[1, 0, 1], [0, -1, 0]]
    assert targets[0].dtype == torch.float32

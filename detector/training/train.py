"""Training from photographs to a model file: checks, what the objects decide, and the run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...data.errors import InputError
from ...data.sample import Dataset, Sample
from ...data.store import locked
from ...proposals.backends import Proposer, make_proposer
from ..convolutions.backbone import Backbone
from ..convolutions.truncation import default_layers
from ..convolutions.weights import best_backbone
from ..detection.detector import Detector, detector_of
from ..options import AUTO, STRIDE
from ..values import check_value
from .crew import Crew
from .effort import Choice, fit_to_objects
from .plan import TrainPlan
from .run import Run


def train(
    dataset: Dataset,
    plan: TrainPlan | None = None,
    *,
    out: str | Path,
    proposer: Proposer | None = None,
    work: str | Path | None = None,
    device: str = "cpu",
    quiet: bool = False,
    crew: Crew | None = None,
    **choices: Any,
) -> Detector:
    """Train a detector and save it.

    Proposals and feature maps are stored under ``work`` by the content of the images. So an
    interrupted run resumes, and a run on more images computes only the new ones.

    The detector learns from all images. It is scored (VOC07 AP, in the model's card) and calibrated with detectors that
    have not learnt from the images in question: of few images, each fold is scored by a detector that has learnt from
    the others; of many, or for fine-tuned fc layers, a share is held out (:func:`.split.choose_split`). Calibrated
    scores become probabilities, and the threshold of each class has the best expected F1. The fc layers are never
    trained on held-out images; they come from the epoch with the lowest held-out loss. With folds they are fine-tuned
    again without each, for all epochs.

    Parameters
    ----------
    dataset : Dataset
        Labelled photographs, e.g. :class:`sppnet.VOCDataset`.
    plan : TrainPlan, optional
        Network, features and options of all stages; by default those of :class:`.plan.TrainPlan`.
    out : path
        Model file to write.
    proposer : Proposer, optional
        Source of the training windows, e.g. :class:`sppnet.proposals.precomputed.PrecomputedBoxes`; by default the
        method of the plan's ``detection``. (The trained detector always uses that method.)
    work : path, optional
        Folder of caches; by default ``out`` with ``.work`` added.
    device : str
        ``"cpu"`` or ``"cuda"``.
    quiet : bool
        No progress bars, and only warnings to the logger ``sppnet``.
    crew : Crew, optional
        Who does the work on single images, such as :class:`.cluster.crew.RayCrew`; by default this process. Others
        collect hard negatives in rounds (:mod:`.rounds`), so the SVMs are those of one process but for the tolerance.
    **choices
        Attributes of :class:`.plan.TrainPlan` that override the plan's; None keeps the plan's.

    Returns
    -------
    SPPDetector, or WarpDetector for that method

    Raises
    ------
    InputError
        When the dataset has no images, a class has no positive, weights or options do not fit, or another run has the
        folder ``work``.

    Examples
    --------
    >>> sppnet.train(dataset, out="mine.safetensors", backbone="mobilenet_v2")  # doctest: +SKIP
    """
    plan = replace(plan or TrainPlan(), **{name: value for name, value in choices.items() if value is not None})
    if plan.backbone == AUTO:
        plan = replace(plan, backbone=best_backbone(plan.weights, quiet))
    # Checked before any download or computation: a class name that no label has is the most common mistake.
    check_classes(list(dataset), dataset.class_names)
    work = Path(work) if work is not None else Path(f"{out}.work")
    chosen: list[Choice] = []
    # Before the first computation, which is for nothing if the weights do not fit.
    network = _network(plan).to(device)
    with locked(work):
        if plan.effort is not None:
            given = {"proposals", "max_windows"} if proposer is not None else set()
            plan, chosen = fit_to_objects(replace(plan, fixed=plan.fixed | given), list(dataset), work, quiet)
            if any(one.name == "layer" for one in chosen):
                network = _network(plan).to(device)
        if plan.features.method == "warp" and plan.features.crop is None:
            plan = replace(plan, features=replace(plan.features, crop=network.input_size))
        run = Run(
            dataset=dataset,
            plan=plan,
            backbone=network,
            proposer=proposer or make_proposer(plan.detection.proposals, plan.detection.max_windows, seed=0),
            work=work,
            quiet=quiet,
            choices=tuple(chosen),
            crew=crew,
        )
        bundle = run.bundle()
        bundle.save(out)
    return detector_of(bundle, device)


def _network(plan: TrainPlan) -> Backbone:
    """The network of a plan, up to its layers."""
    layer = plan.layer or default_layers(plan.backbone, plan.stride)
    stride = STRIDE if plan.layer and plan.stride is None else plan.stride
    return Backbone(plan.backbone, weights=plan.weights, layer=layer, seed=plan.options.seed, stride=stride)


def check_classes(samples: Sequence[Sample], class_names: Sequence[str]) -> None:
    """Check that every class can be learned from the data.

    Raises
    ------
    InputError
        When there are no images or no classes, or some classes have only difficult objects or none; it names them.
    """
    if not samples:
        raise InputError("the training set has no images")
    if not class_names:
        raise InputError("the training set has no labelled object")
    for name in class_names:
        check_value("the name of a class", name, str)
    seen = {int(label) for sample in samples for label in sample.labels[~sample.difficult]}
    absent = [name for label, name in enumerate(class_names) if label not in seen]
    if absent:
        raise InputError(
            f"no object to learn from for {', '.join(absent)} in {len(samples)} images "
            "(objects marked difficult do not count); leave such classes out with --classes"
        )

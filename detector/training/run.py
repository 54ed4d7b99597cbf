"""One training run, from photographs to a model: stages that resume, and the choice of options on their results."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import cache, cached_property, partial
from pathlib import Path
from shutil import rmtree
from typing import Any

import numpy as np
import torch

from ... import __version__
from ...data.image import image_size
from ...data.outputs import report_disk
from ...data.progress import expecting, log, readable_time, track
from ...data.sample import Dataset, Sample
from ...data.store import file_key
from ...eval.voc_ap import Judged
from ...proposals.backends import Proposer
from ..convolutions.backbone import Backbone
from ..detection.bundle import Bundle
from ..detection.detector import features_of
from ..head.compression import compress, learns_in_bfloat16
from ..head.head import Head
from ..head.pretrained import start_from_classifier
from ..options import EFFORTS, BoxOptions, Compression, SVMOptions
from ..windows.features import Features, Planes
from .crew import BLOCK, Crew, Shared
from .effort import Choice, choose_by_scores, open_rounds, searched, with_effort
from .estimate import measure, stages_of, work_bytes
from .images import TrainingImages
from .mining import Miner
from .plan import TrainPlan
from .preparation import Preparation, prepare
from .reduction import reduce_maps
from .sampling import sample_rows
from .scores import judge_parts, score_parts
from .split import Split, choose_split
from .stages import Groups, Regressors, Stages

#: Name of the file in the folder of the training with what was found in held-out photographs.
HELD_OUT_FOUND = "held-out.json"

#: What a training makes in its folder.
_PARTS = ("proposals", "maps", "rows", "stages", HELD_OUT_FOUND, ".lock")

#: ``DetectOptions.keep_above`` of a softmax, log-odds: a probability of 0.1 %.
SOFTMAX_KEEP_ABOVE = -7.0


def remove_work(work: Path) -> None:
    """Remove what a training has made in its folder, and the folder unless there is something else in it."""
    for path in (work / part for part in _PARTS):
        if path.is_dir():
            rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    with suppress(OSError):
        work.rmdir()


@dataclass(frozen=True, eq=False)
class Run:
    """One training run: a plan applied to a dataset.

    Attributes
    ----------
    dataset : Dataset
    plan : TrainPlan
    backbone : Backbone
        On the device of the training; its maps are reduced in place.
    proposer : Proposer
    work : Path
        Folder of caches and checkpoints.
    quiet : bool
    choices : tuple of Choice
        What the labelled objects have decided already.
    crew : Crew or None
        Who does the work on single images, if not this process.
    """

    dataset: Dataset
    plan: TrainPlan
    backbone: Backbone
    proposer: Proposer
    work: Path
    quiet: bool
    choices: tuple[Choice, ...] = ()
    crew: Crew | None = None

    @cached_property
    def pooled(self) -> Features[Any]:
        """What all stages need; the scored features are computed from it."""
        return features_of(self.backbone, replace(self.plan.features, kind="pool5"))

    def bundle(self) -> Bundle:
        """Run all stages that are not complete yet."""
        samples = list(self.dataset)
        keys = [file_key(sample.path) for sample in track(samples, "reading", quiet=self.quiet)]
        plan, scale, folder = self.plan, min(self.plan.features.scales), self.work / "stages"
        reduce_maps(self.backbone, plan.channels, samples, keys, scale, folder, plan.options.seed, self.quiet)
        self._report_disk(samples)
        with expecting(self._expected(samples)):
            return self._chosen(self._images(samples, keys))

    def _report_disk(self, samples: Sequence[Sample]) -> None:
        """Say how much disk the folder will take, and warn if there is less."""
        some = samples[:: max(1, len(samples) // 100)]
        needed = work_bytes([image_size(one.path) for one in some], self.plan, self.pooled) * len(samples) / len(some)
        report_disk(self.work, needed, self.quiet)

    def _expected(self, samples: Sequence[Sample]) -> list[tuple[str, float]]:
        """Stages to come and their seconds, if there may be a search; says how long each effort would take."""
        plan = self.plan
        if plan.effort is None or not plan.searchable or self.crew is not None:
            return []
        labels = np.concatenate([one.labels[~one.difficult] for one in samples])
        objects = np.bincount(labels, minlength=len(self.dataset.class_names)).tolist()
        speed = measure(samples, self.pooled, self.proposer)
        stages = {}
        for effort in EFFORTS:
            variant = with_effort(plan, effort, samples)
            its_speed, rounds = speed.for_plan(variant, plan), open_rounds(variant, len(samples))
            stages[effort] = stages_of(variant, its_speed, len(samples), objects, rounds, searched(samples))
        told = ", ".join(f"{readable_time(sum(of for _, of in stages[effort]))} with {effort}" for effort in EFFORTS)
        log(f"time on this machine, if nothing is there yet: about {told}", self.quiet)
        return stages[plan.effort]

    def _chosen(self, images: TrainingImages) -> Bundle:
        """Choose the options that are open, and train with them."""
        plan, names = self.plan, self.dataset.class_names
        split = choose_split(images.samples, len(names), plan.options, plan.folded(len(images)))
        if self.crew is not None:
            images = images.visited_by(self._shared(self.crew, images, split).each)
        stages = cache(lambda features: replace(self, plan=replace(plan, features=features))._stages(images, split))
        if plan.effort is not None and plan.searchable and split.parts:
            miner = cache(lambda features: stages(features).miner(stages(features).images.features, plan.svm))

            def judge(among: Split, plans: Sequence[TrainPlan]) -> list[list[Judged]]:
                """Those with the same features at once, whose windows are pooled once."""
                judged: dict[TrainPlan, list[Judged]] = {}
                for features in dict.fromkeys(one.features for one in plans):
                    alike = [one for one in plans if one.features == features]
                    found = self._judged(stages(features), partial(miner, features), among, alike)
                    judged |= dict(zip(alike, found, strict=True))
                return [judged[one] for one in plans]

            chosen, choices = choose_by_scores(plan, stages(plan.features), judge)
            return replace(self, plan=chosen, choices=(*self.choices, *choices))._trained(stages(chosen.features))
        if plan.effort not in (None, "quick"):
            why = "a search needs photographs to score on, and SVMs on pool5 of SPP-net"
            log(f"no options are compared, whatever the effort: {why}", self.quiet)
        return self._trained(stages(plan.features))

    def _shared(self, crew: Crew, images: TrainingImages, split: Split) -> Shared:
        """The images that are learnt from, given to the crew."""
        if not self.plan.options.mirror:
            return Shared(images, crew, split.order)
        return Shared(images.with_mirrors(), crew, (*split.order, *(index + len(images) for index in split.order)))

    def _stages(self, images: TrainingImages, split: Split) -> Stages:
        """The stages of this run's features."""
        images = images.seen_through(self.pooled)
        return Stages(images, self.dataset.class_names, self.plan.options, split, self.work / "stages", self.quiet)

    def _judged(
        self, stages: Stages, miner: Callable[[], Miner], split: Split, plans: Sequence[TrainPlan]
    ) -> list[list[Judged]]:
        """What the detectors of several plans find in the parts of ``split``, each having learnt from the others.

        The plans have the same features. C and the ridge weigh the sum of all losses against the norm: with fewer
        images to learn from, they are adjusted so that the mean loss has the same weight as with all.
        """
        # Images that are not compared on, to save time.
        outside = set(stages.split.scored) - set(split.scored)
        parts = [(*part, *sorted(outside)) for part in split.parts]
        share = (len(split.order) - len(outside)) / len(split.order)
        runs = []
        for plan in plans:
            svm, boxes = replace(plan.svm, C=plan.svm.C / share), replace(plan.boxes, ridge=share * plan.boxes.ridge)
            runs.append(replace(self, plan=replace(plan, svm=svm, boxes=boxes)))
        if plans[0].features.kind == "pool5":
            # Those of the final model, too, which is likely to have the same options if there is no choice.
            final = [(plans[0].boxes, stages.split.parts)] if len({plan.boxes for plan in plans}) == 1 else []
            candidates = self._candidates(stages, miner(), runs, parts, final)
        else:
            candidates = [run._models(stages, parts, {})[1:] for run in runs]
        return judge_parts(stages, split, candidates, f"{len(plans)} candidates compared")

    def _candidates(
        self,
        stages: Stages,
        miner: Miner,
        runs: Sequence[Run],
        parts: Groups,
        more_regressors: Sequence[tuple[BoxOptions, Groups]],
    ) -> list[list[Bundle]]:
        """The models of several runs without each of some parts; all have the same hard negatives.

        Further regressors are computed and stored along with theirs, whose windows are pooled once.
        """
        boxes = list(dict.fromkeys(run.plan.boxes for run in runs))
        wanted = [*((options, parts) for options in boxes), *more_regressors]
        regressors = dict(zip(boxes, (of[1:] for of in stages.regressors_of(wanted)), strict=False))
        planes: dict[SVMOptions, list[Planes]] = {}
        for options in track(dict.fromkeys(run.plan.svm for run in runs), "SVMs of candidates", quiet=self.quiet):
            solved = [miner.without(part, options) for part in parts]
            planes[options] = [Planes(torch.from_numpy(weights), torch.from_numpy(b)) for weights, b in solved]
        candidates = []
        for run in runs:
            of_parts = zip(planes[run.plan.svm], regressors[run.plan.boxes], strict=True)
            candidates.append([run._assemble(None, *models, {}) for models in of_parts])
        return candidates

    def _trained(self, stages: Stages) -> Bundle:
        """Train with the options that are decided."""
        plan, images, split = self.plan, stages.images, stages.split
        card = self._card(images)
        final, *partial = self._models(stages, split.parts, card)
        if split.parts:
            card["held_out"], calibration = score_parts(stages, partial, self.work / HELD_OUT_FOUND)
            final = replace(final, calibration=calibration)
        if plan.learning_curve and split.parts:
            card["learning_curve"] = self._learning_curve(stages)
        if plan.compression is None:
            return final
        rows = sample_rows(images, split.learnt or split.order, plan.options.seed)
        final = final.compressed(plan.compression, rows)
        if split.parts:
            scores, calibration = score_parts(stages, [one.compressed(plan.compression, rows) for one in partial])
            final.card["compression"] |= {f"held_out_{name}": scores[name] for name in ("map", "calibration")}
            final = replace(final, calibration=calibration)
        return final

    def _images(self, samples: Sequence[Sample], keys: Sequence[str]) -> TrainingImages:
        """Training images with proposals and feature maps, computed if not cached."""
        caches = Preparation(self.work, self.proposer, self.pooled, self.plan.mirrors)
        label = "feature maps" if self.pooled.options.method == "spp" else "warped windows"
        if self.crew is not None:
            starts = range(0, len(samples), BLOCK)
            blocks = [(samples[start : start + BLOCK], keys[start : start + BLOCK]) for start in starts]
            done = self.crew.map(prepare, [self.crew.put(caches)], blocks)
            for _ in track(done, f"proposals and {label}", len(samples), self.quiet, int):
                pass
        sizes = [image_size(sample.path) for sample in samples]
        proposals = [caches.proposals(sample) for sample in track(samples, "proposals", quiet=self.quiet)]
        # A crew has seen to it that all maps are there and whole: to do so again would be to read them all here.
        if self.crew is None:
            for i, key in track(list(enumerate(keys)), label, quiet=self.quiet):
                caches.fill(samples[i], key, proposals[i])
        return TrainingImages(samples, keys, sizes, proposals, caches.cache)

    def _start(self, scale: float) -> Head:
        """Initial fc layers: those of the backbone's own classifier, or random ones."""
        plan, options, classes = self.plan, self.plan.finetune, len(self.dataset.class_names)
        network, levels, seed = self.backbone, plan.features.levels, plan.options.seed
        head = start_from_classifier(network, plan.weights, levels, classes, options.dropout, seed)
        if head is None:
            head = Head(self.pooled.pooled_width, options.width, classes, options.dropout, seed, scale)
        return head

    def _models(self, stages: Stages, left_out: Groups, card: dict[str, Any]) -> list[Bundle]:
        """The model of all images, and those without some images each; uncalibrated."""
        regressors = stages.regressors(self.plan.boxes, left_out)
        heads = self._heads(stages, left_out)
        planes = self._planes(stages, heads, left_out)
        return [self._assemble(*parts, card) for parts in zip(heads, planes, regressors, strict=True)]

    def _learning_curve(self, stages: Stages) -> list[dict[str, Any]]:
        """Mean AP over the folds of detectors that have learnt from a part of the other images, and from all."""
        curve = []
        for share in (0.25, 0.5, 1.0):
            left_out = stages.split.smaller(share, self.plan.options.seed)
            models = self._models(stages, left_out, {})[1:]
            learnt = len(stages.split.order) - sum(map(len, left_out)) / len(left_out)
            curve.append({"images": round(learnt), "map": score_parts(stages, models)[0]["map"]})
        return curve

    def _heads(self, stages: Stages, left_out: Groups) -> list[Head | None]:
        """The fc layers of :meth:`_models`, if there are any.

        Those of several groups are fine-tuned without each, for all epochs. A single group is a held-out part: it
        decides on the epoch, and no model's layers learn from it.
        """
        options, split = self.plan.finetune, stages.split
        if self.plan.features.kind == "pool5":
            return [None] * (1 + len(left_out))
        if len(left_out) < 2 or not self.plan.tunes:
            head = stages.fine_tuned(self._start(stages.scale), options, split.learnt, split.scored)
            return [head] * (1 + len(left_out))
        learnt = [tuple(index for index in split.order if index not in set(group)) for group in ((), *left_out)]
        return [stages.fine_tuned(self._start(stages.scale), options, images) for images in learnt]

    def _planes(self, stages: Stages, heads: Sequence[Head | None], left_out: Groups) -> list[Planes]:
        """Linear classifiers of the features, of all images and without some images each.

        They are SVMs, or the last layer of the fine-tuned network, which has not learnt from held-out images.
        """
        if self.plan.scorer == "softmax":
            states = [head.state() for head in heads if head is not None]
            return [Planes(state["fc8.weight"], state["fc8.bias"]) for state in states]
        if heads[0] is heads[-1]:
            return stages.svms(self._svm_features(heads[0]), self.plan.svm, left_out)
        groups = ((), *left_out)
        return [
            stages.svms(self._svm_features(head), self.plan.svm, unseen=group)[0]
            for head, group in zip(heads, groups, strict=True)
        ]

    def _svm_features(self, head: Head | None) -> Features[Any]:
        """The features of the SVMs."""
        if head is not None:
            device = self.pooled.device
            head = (compress(head, Compression(bfloat16=True)) if learns_in_bfloat16(device) else head).to(device)
        return features_of(self.backbone, self.plan.features, head)

    def _assemble(self, head: Head | None, planes: Planes, regressors: Regressors, card: dict[str, Any]) -> Bundle:
        plan, detection = self.plan, self.plan.detection
        if self.plan.scorer == "softmax":
            detection = replace(detection, keep_above=SOFTMAX_KEEP_ABOVE)
        return Bundle(
            backbone=self.backbone.name,
            layer=self.backbone.layer,
            stride=self.backbone.stride,
            class_names=tuple(self.dataset.class_names),
            features=plan.features,
            detection=detection,
            convolutions=self.backbone.state(),
            score_weights=planes.weights,
            score_intercepts=planes.intercepts,
            box_weights=regressors[0],
            box_intercepts=regressors[1],
            head={} if head is None else head.state(upto=plan.features.kind),
            scorer=plan.scorer,
            card=card,
        )

    def _card(self, images: TrainingImages) -> dict[str, Any]:
        """Origin of the model; without times, so that a resumed run writes the same file."""
        counts = np.bincount(
            np.concatenate([images.positives(i)[1] for i in range(len(images))]),
            minlength=len(self.dataset.class_names),
        )
        card = {
            "version": __version__,
            "images": len(images),
            "objects": dict(zip(self.dataset.class_names, counts.tolist(), strict=True)),
            "weights": str(self.plan.weights),
            **self.plan.learning(),
        }
        if self.plan.effort is not None:
            card |= {"effort": self.plan.effort, "choices": [asdict(one) for one in self.choices]}
        return card

"""torchvision's Faster R-CNN on MobileNetV2, fine-tuned on a few photographs for a given time.

It is the opponent of ``sppnet benchmark few``. SGD with momentum, frozen batch normalisation, fixed early layers and
mirrored photographs are those of torchvision's references for detection. The rest suits minutes without a GPU:

- The learning rate follows the clock: it rises during the first twentieth of the time, and falls to zero along a cosine
  at its end. So a longer time is another training, not more of the same one.
- The time includes reading, steps and checks on held-out photographs, but not the construction of the network. Checks
  take a tenth of it at most, beside one in the middle and one at the end.
- The box head learns from 64 windows of an image (torchvision: 512). A hundred photographs show few objects, and with
  more windows most of the time would go into the head's fc layers.
- The feature pyramid starts at stride 8 (torchvision's for a ResNet: 4), whose maps cost as much as all others.

Early stopping needs photographs that the network has not learnt from: one of the folds on which our own training scores
its detectors, a fifth of few photographs. In the end our training learns from all photographs, because SVMs and ridge
regression are solved and have nothing to stop. A network can learn from all of them only blindly, for the whole time,
however much it has memorised by then. Either may be the better bargain, so :meth:`FineTuning.run` does both: without
held-out photographs it keeps the last state. The number of steps is not chosen on a fold and then done again with all
photographs, since this would halve the time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import cos, isfinite, pi
from time import perf_counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray
    from torch import Tensor
    from torchvision.models.detection import FasterRCNN

    from ...data.detections import Detections
    from ...data.sample import Sample

#: The network of both variants, and the number of its blocks that stay as they are: those up to stride 8, as with
#: torchvision's ``trainable_layers=3``.
NETWORK, FROZEN = "mobilenet_v2", 7

_ASPECTS = (0.5, 1.0, 2.0)


@dataclass(frozen=True)
class Variant:
    """Shape of a Faster R-CNN.

    Attributes
    ----------
    blocks : tuple of int
        Blocks of the network whose maps the feature pyramid takes.
    anchors : tuple of tuples of int
        Anchor sizes in pixels on each map of the pyramid, the last of which is a pooled one.
    sides : tuple of int
        Lengths of the shorter side in training; each batch has one of them, drawn at random.
    test_side, longest : int
        Length of the shorter side in detection, and the largest one of the longer side.
    proposals : tuple of int
        Proposals of an image in training before suppression on each map and after it, and in detection.
    """

    blocks: tuple[int, ...]
    anchors: tuple[tuple[int, ...], ...]
    sides: tuple[int, ...]
    test_side: int
    longest: int
    proposals: tuple[int, int, int, int]


VARIANTS = {
    # The last block of stride 8, of stride 16 and of all.
    "fpn": Variant(
        blocks=(6, 13, 18),
        anchors=((45, 64), (90, 128), (181, 256), (362, 512)),
        sides=(400, 480, 560, 640),
        test_side=560,
        longest=800,
        proposals=(1000, 1000, 1000, 500),
    ),
    # As torchvision's fasterrcnn_mobilenet_v3_large_320_fpn: the first block of stride 32 and the last of all.
    "320": Variant(
        blocks=(14, 18),
        anchors=((32, 64, 128, 256, 512),) * 3,
        sides=(320,),
        test_side=320,
        longest=640,
        proposals=(1000, 1000, 150, 150),
    ),
}


@dataclass(frozen=True)
class Settings:
    """Settings of the gradient descent (SGD with momentum).

    Attributes
    ----------
    batch : int
        Photographs in a step: all in portrait format or none, so that little is padded.
    rate : float
        Learning rate at its highest.
    warm_up : float
        Part of the time in which the rate rises.
    momentum, weight_decay : float
    largest_gradient : float
        Gradients with a larger norm are shortened.
    windows : int
        Windows of an image that the box head learns from in a step.
    records : int
        How often the losses are recorded.
    check_from, check_share : float
        The network is scored on held-out photographs after the first part of the time, at the end, and in between at
        every record for which the second part of the time is enough.
    """

    batch: int = 2
    rate: float = 0.01
    warm_up: float = 0.05
    momentum: float = 0.9
    weight_decay: float = 1e-4
    largest_gradient: float = 10.0
    windows: int = 64
    records: int = 10
    check_from: float = 0.5
    check_share: float = 0.1

    def rate_at(self, part: float) -> float:
        """Learning rate after a part of the time, 0 to 1.

        Examples
        --------
        >>> settings = Settings(rate=0.02, warm_up=0.1)
        >>> [round(settings.rate_at(part), 4) for part in (0.0, 0.05, 0.1, 0.5, 1.0)]
        [0.0, 0.0099, 0.0195, 0.01, 0.0]
        """
        return self.rate * min(1.0, part / self.warm_up) * (1 + cos(pi * min(1.0, part))) / 2


#: The largest number of held-out photographs to check on: more would take too much of the time.
HELD_OUT = 50


def build(variant: Variant, classes: int, state: Mapping[str, Tensor], origin: str, windows: int) -> FasterRCNN:
    """Build the detector: MobileNetV2 with these ImageNet weights and frozen batch normalisation, the rest random.

    Parameters
    ----------
    variant : Variant
    classes : int
        Number of classes besides the background.
    state : mapping of str to Tensor
        State dict of torchvision's ``mobilenet_v2``, with or without its classifier.
    origin : str
        Name of the state dict, for errors.
    windows : int
        :attr:`Settings.windows`.

    Raises
    ------
    InputError
        When the state dict is of another network.
    """
    from torch.nn import Identity
    from torchvision.models import mobilenet_v2
    from torchvision.models.detection import FasterRCNN
    from torchvision.models.detection.anchor_utils import AnchorGenerator
    from torchvision.models.detection.backbone_utils import BackboneWithFPN
    from torchvision.ops.misc import FrozenBatchNorm2d

    from ...detector.convolutions.weights import select_state

    usual = mobilenet_v2(weights=None)
    network = mobilenet_v2(weights=None, norm_layer=FrozenBatchNorm2d)
    usual.classifier = network.classifier = Identity()
    network.load_state_dict(select_state(usual, state, origin))
    for block in network.features[:FROZEN]:
        block.requires_grad_(False)
    names = {str(block): str(place) for place, block in enumerate(variant.blocks)}
    channels = [network.features[block].out_channels for block in variant.blocks]
    before, after, test_before, test_after = variant.proposals
    return FasterRCNN(
        BackboneWithFPN(network.features, names, channels, out_channels=256),
        1 + classes,
        min_size=variant.test_side,
        max_size=variant.longest,
        rpn_anchor_generator=AnchorGenerator(variant.anchors, (_ASPECTS,) * len(variant.anchors)),
        rpn_pre_nms_top_n_train=before,
        rpn_post_nms_top_n_train=after,
        rpn_pre_nms_top_n_test=test_before,
        rpn_post_nms_top_n_test=test_after,
        box_batch_size_per_image=windows,
        box_score_thresh=0.001,  # an AP needs the low scores, too
    )


@contextmanager
def seeded(seed: int, device: str) -> Iterator[None]:
    """Inside the context torch's random numbers depend on the seed; afterwards they go on as before."""
    import torch

    devices = [torch.cuda.current_device()] if device == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield


@dataclass(eq=False)
class FineTuning:
    """One training, for a given time.

    Attributes
    ----------
    model : FasterRCNN
        On its device; ends with its best state.
    variant : Variant
    learnt, held_out : sequences of Sample
        Photographs to learn from, and to check on; without any of the latter the last state is the best.
    class_names : sequence of str
    seconds : float
        The time.
    device : str
    seed : int
    settings : Settings
    clock : function
        Returns seconds.
    report : function
        Gets a line at every record.
    """

    model: FasterRCNN
    variant: Variant
    learnt: Sequence[Sample]
    held_out: Sequence[Sample]
    class_names: Sequence[str]
    seconds: float
    device: str
    seed: int = 0
    settings: Settings = field(default_factory=Settings)
    clock: Callable[[], float] = perf_counter
    report: Callable[[str], None] = lambda line: None

    def run(self) -> dict[str, Any]:
        """Train until the time is up, at least one step.

        Returns
        -------
        dict
            ``seconds``, ``steps``, ``steps_left_out`` (their gradients were not finite), and ``records``: at each the
            mean ``loss`` since the last one, and ``ap``, the area AP on the held-out photographs if it was scored.
            ``chosen`` is the number of the record whose state the model has; None for the last state.
        """
        import torch

        settings = self.settings
        weights = [weight for weight in self.model.parameters() if weight.requires_grad]
        descent = torch.optim.SGD(weights, 0.0, settings.momentum, weight_decay=settings.weight_decay)
        batches = self._batches()
        start = self.clock()
        records: list[dict[str, Any]] = []
        losses: list[float] = []  # of the steps since the last record
        best: tuple[float, int, dict[str, Tensor]] | None = None
        steps = left_out = 0
        last_step = last_check = checking = 0.0
        next_record = self.seconds / settings.records
        while True:
            spent = self.clock() - start
            end = self.seconds - last_step - last_check
            over = steps > 0 and spent >= end
            if losses and (over or spent >= next_record):
                next_record = spent + self.seconds / settings.records
                record = {"seconds": spent, "steps": steps, "loss": _finite_mean(losses), "ap": None}
                losses = []
                records.append(record)
                early = spent < settings.check_from * self.seconds
                affordable = checking + 2 * last_check <= settings.check_share * self.seconds
                checked = bool(self.held_out) and (over or (affordable and not early))
                if checked:
                    ap = record["ap"] = self._score()
                    last_check = self.clock() - start - spent
                    checking += last_check
                    if best is None or ap >= best[0]:
                        state = {name: value.clone() for name, value in self.model.state_dict().items()}
                        best = ap, len(records) - 1, state
                self.report(_line(record))
                if checked:
                    continue  # the time may be up now
            if over:
                break
            loss, taken = self._step(next(batches), weights, descent, settings.rate_at(spent / max(end, spent, 1e-9)))
            losses.append(loss)
            steps, left_out = steps + 1, left_out + (not taken)
            last_step = self.clock() - start - spent
        if best is not None:
            self.model.load_state_dict(best[2])
        return {
            "seconds": self.clock() - start,
            "steps": steps,
            "steps_left_out": left_out,
            "learnt_from": len(self.learnt),
            "held_out": len(self.held_out),
            "records": records,
            "chosen": None if best is None else best[1],
        }

    def _batches(self) -> Iterator[list[tuple[Tensor, dict[str, Tensor]]]]:
        """Endless batches of images and targets, every photograph once in a round; a batch has one format.

        Half of the photographs are mirrored. Each batch has a side of its own, which the model's transform gets.
        """
        import numpy as np

        from ...data.image import image_size

        rng = np.random.default_rng([self.seed, len(self.learnt)])
        heights, widths = np.array([image_size(sample.path) for sample in self.learnt]).T
        waiting: dict[bool, list[int]] = {False: [], True: []}
        while True:
            for index in rng.permutation(len(self.learnt)).tolist():
                batch = waiting[bool(heights[index] > widths[index])]
                batch.append(index)
                if len(batch) == self.settings.batch:
                    self.model.transform.min_size = (int(rng.choice(self.variant.sides)),)
                    yield [_example(self.learnt[one], rng.random() < 0.5) for one in batch]
                    batch.clear()

    def _step(
        self,
        batch: list[tuple[Tensor, dict[str, Tensor]]],
        weights: list[Tensor],
        descent: torch.optim.Optimizer,
        rate: float,
    ) -> tuple[float, bool]:
        """One step; returns the loss, and whether the gradient was finite, so that the step was taken."""
        import torch

        self.model.train()
        images = [image.to(self.device) for image, _ in batch]
        targets = [{name: value.to(self.device) for name, value in target.items()} for _, target in batch]
        loss = torch.stack(list(self.model(images, targets).values())).sum()
        descent.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(weights, self.settings.largest_gradient)
        for group in descent.param_groups:
            group["lr"] = rate
        taken = isfinite(float(norm))
        if taken:
            descent.step()
        return float(loss.detach()), taken

    def _score(self) -> float:
        """Area AP (mean over the classes) on the held-out photographs."""
        from ...eval.voc_ap import evaluate_voc

        found = [detect(self.model, self.variant, sample.image, self.class_names) for sample in self.held_out]
        ap = evaluate_voc(found, self.held_out, self.class_names).mean_ap("voc")
        return ap if isfinite(ap) else 0.0


def _example(sample: Sample, mirror: bool) -> tuple[Tensor, dict[str, Tensor]]:
    """A photograph as torchvision's detectors take it, with its objects except difficult ones."""
    import numpy as np
    import torch

    from ...data.boxes import flip

    image, boxes = sample.image, sample.boxes[~sample.difficult]
    if mirror:
        image, boxes = np.ascontiguousarray(image[:, ::-1]), flip(boxes, image.shape[1])
    labels = torch.from_numpy(sample.labels[~sample.difficult] + 1)
    return _tensor(image), {"boxes": torch.from_numpy(boxes).float(), "labels": labels}


def _tensor(image: NDArray[Any]) -> Tensor:
    """RGB (3, H, W) from 0 to 1."""
    import torch

    return torch.from_numpy(image).permute(2, 0, 1).float() / 255


def detect(model: FasterRCNN, variant: Variant, image: NDArray[Any], class_names: Sequence[str]) -> Detections:
    """Detections in an image RGB uint8 (H, W, 3), with low scores, too."""
    import torch

    from ...data.detections import Detections

    model.eval()
    model.transform.min_size = (variant.test_side,)
    device = next(model.parameters()).device
    with torch.inference_mode():
        (found,) = model([_tensor(image).to(device)])
    boxes, scores, labels = (found[name].cpu().numpy() for name in ("boxes", "scores", "labels"))
    return Detections(boxes, scores, labels - 1, class_names)


def _finite_mean(values: Sequence[float]) -> float | None:
    finite = [value for value in values if isfinite(value)]
    return sum(finite) / len(finite) if finite else None


def _line(record: Mapping[str, Any]) -> str:
    """A record as a line of progress."""
    loss = "-" if record["loss"] is None else f"{record['loss']:.3f}"
    ap = "" if record["ap"] is None else f", area AP {record['ap']:.3f} on held-out photographs"
    return f"{record['seconds']:.0f} s, {record['steps']} steps: loss {loss}{ap}"

"""SPP classification network: class scores for photographs of any size (paper, sections 2.2 and 3.1)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from ...data.errors import InputError
from ...data.image import as_image
from ..convolutions.backbone import Backbone
from ..convolutions.truncation import cut, to_learn
from ..descent.options import Fit
from ..device import usable_device
from ..head.batch_norm import finished_head, learning_layers
from ..head.head import Head
from ..head.pretrained import start_from_classifier
from ..modelfile import read_model, tensors_below, write_model
from ..options import STRIDE
from ..pooling.levels import bins
from ..pooling.spp import SpatialPyramidPooling
from .options import ClassifierOptions
from .views import named_views, predict_views


class SPPClassifier(nn.Module):
    """Convolutions, spatial pyramid pooling of the whole map, and fc layers, trained together.

    The network takes images of any size and aspect ratio whose map has at least one cell, unless ``options.fit``
    selects the network without SPP. A new network is an ordinary module in training mode. :mod:`.train` trains it,
    :mod:`.views` classifies photographs from several views, and :meth:`load` reads a trained network.

    Parameters
    ----------
    class_names : sequence of str
    backbone : str
        As in :class:`.backbone.Backbone`: one of torchvision's networks or ours.
    weights : str, Path or mapping of tensors
        Initial weights of the convolutions; "none" means random. For AlexNet and VGG fc6 and fc7 are loaded too, unless
        ``weights`` is a mapping.
    layer : str, optional
        Node whose map is pooled; by default the last one before the network's own pooling.
    options : ClassifierOptions
    seed : int
        Seed of random weights; the global generator is not used.
    stride : int or None
        Limit of the map's stride in pixels, as in :class:`.backbone.Backbone`.

    Attributes
    ----------
    class_names : tuple of str
    convolutions : nn.Module
        Images (B, 3, H, W) to maps (B, C, h, w).
    layers : nn.Module
        Pooled rows to logits: fc6, fc7 and fc8 in the form for training (:mod:`.batch_norm`).
    pretrained : bool
        Whether the convolutions start from given weights.
    new_layers : bool
        Whether the fc layers start from random weights; those of AlexNet and VGG may be pretrained.
    stride, channels : int
    card : dict
        Origin and scores of the network, JSON-like; stored in its file.

    Raises
    ------
    InputError
        When the network, layer or weights are unknown or do not fit, or there are no classes.

    Examples
    --------
    >>> network = SPPClassifier(["cat", "dog"], "sppnet_small").eval()
    >>> network(torch.zeros(1, 3, 90, 240)).shape
    torch.Size([1, 2])
    """

    def __init__(
        self,
        class_names: Sequence[str],
        backbone: str = "sppnet_small",
        weights: str | Path | Mapping[str, Tensor] = "none",
        layer: str | None = None,
        options: ClassifierOptions | None = None,
        seed: int = 0,
        stride: int | None = STRIDE,
    ) -> None:
        super().__init__()
        self.class_names = tuple(class_names)
        if isinstance(class_names, str) or not self.class_names:
            raise InputError(f"a classification network needs a list of classes, not {class_names!r}")
        self.options = ClassifierOptions() if options is None else options
        part = cut(backbone, layer, stride)
        self.name, self.layer = part.name, part.layer
        self.stride, self.channels = part.map.stride, part.map.channels
        self.pretrained = isinstance(weights, Mapping) or str(weights) != "none"
        self.card: dict[str, Any] = {}

        self.convolutions = to_learn(part, weights, seed)
        self.pooling = SpatialPyramidPooling(self.levels)
        width_in, classes = self.channels * bins(self.levels), len(self.class_names)
        dropout = self.options.dropout
        head = None
        if isinstance(weights, str | Path) and self.pretrained and max(self.levels) > 1:
            head = start_from_classifier(part, weights, self.levels, classes, dropout, seed, background=False)
        new = head is None
        head = head or Head(width_in, self.options.width, classes, dropout, seed, background=False)
        self.new_layers = new
        self.layers = learning_layers(head, normalised=new)
        self.train()

    @property
    def levels(self) -> tuple[int, ...]:
        """Pyramid levels in use; without SPP only the finest."""
        return self.options.pooled_levels

    @property
    def input_fit(self) -> Fit:
        """Input of the network: images of any size ("any"), or squares that are cropped ("crop") or warped ("warp")."""
        return self.options.fit

    @property
    def size(self) -> int:
        """Side in pixels of the training squares, the largest if there are several."""
        return self.options.size

    @property
    def multi_label(self) -> bool:
        """Whether a photograph may show any number of the classes."""
        return self.options.multi_label

    def pooled(self, images: Tensor) -> Tensor:
        """Pooled rows (B, M * C) of normalised images (B, 3, H, W).

        Raises
        ------
        ValueError
            When images have another shape, are too small for one cell or, without SPP, are not of side ``size``.
        """
        if images.ndim != 4 or images.shape[1] != 3:
            raise ValueError(f"images must have shape (B, 3, H, W), not {tuple(images.shape)}")
        height, width = images.shape[2:]
        if self.input_fit != "any" and (height, width) != (self.size, self.size):
            raise ValueError(
                f"without SPP the network takes images of {self.size} x {self.size} pixels, not {height} x {width}"
            )
        try:
            maps = self.convolutions(images.contiguous(memory_format=torch.channels_last))
        except RuntimeError as error:
            if "too small" not in str(error) and "can't be greater" not in str(error):
                raise
            raise ValueError(f"{self.name} has no cell left in an image of {height} x {width} pixels") from error
        return cast(Tensor, self.pooling(maps))

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, classes) of normalised images (B, 3, H, W)."""
        return cast(Tensor, self.layers(self.pooled(images)))

    @torch.no_grad()
    def logits(self, rows: Tensor) -> Tensor:
        """Logits, float32 (N, classes), of pooled rows (N, M * C) of whole images or of windows of a map."""
        return cast(Tensor, self.head.fc8(self.head.output(rows, "fc7")))

    def probabilities(self, logits: Tensor) -> Tensor:
        """Probabilities of logits (N, classes); each row sums to 1, unless the network is multi-label."""
        return logits.sigmoid() if self.multi_label else logits.softmax(dim=1)

    def predict(self, image: Any, views: str = "one") -> dict[str, float]:
        """Probabilities by class, the most probable first.

        Parameters
        ----------
        image : str, Path, PIL image or uint8 array
            As in :func:`sppnet.data.image.as_image`.
        views : str
            Name for :func:`.views.named_views`: "one", "full", "ten", "96" and others.

        Raises
        ------
        RuntimeError
            In training mode, where batch norms and dropout behave differently.
        """
        if self.training:
            raise RuntimeError("the network is in training mode; call eval() before predict()")
        found = predict_views(self, as_image(image), named_views(views, self.size))
        order = np.argsort(-found, kind="stable")
        return {self.class_names[index]: float(found[index]) for index in order}

    @property
    def device(self) -> torch.device:
        """Device of the network."""
        return next(self.parameters()).device

    @property
    def backbone(self) -> Backbone:
        """Current convolutions, frozen and with folded batch norms, on the same device."""
        return self._finish()[0]

    @property
    def head(self) -> Head:
        """Current fc layers, without batch norms."""
        return self._finish()[1]

    def _finish(self) -> tuple[Backbone, Head]:
        if not self._finished or self.training:
            # Copies: training changes the tensors in place.
            state = {name: value.clone() for name, value in self.convolutions.state_dict().items()}
            backbone = Backbone.from_state(self.name, self.layer, state, self.stride).to(self.device)
            self._finished = (backbone, finished_head(self.layers))
        return self._finished[0], self._finished[1]

    # In a tuple: torch would register bare modules as parts of the network.
    _finished: tuple[Backbone, Head] | tuple[()] = ()

    def train(self, mode: bool = True) -> SPPClassifier:
        """Set the mode, as in any module; derived layers are made again because weights may have changed.

        Pretrained convolutions keep the means and variances of their batch norms. Statistics of a small batch are
        worse, and for a file with folded batch norms they would change the function.
        """
        self._finished = ()
        super().train(mode)
        if self.pretrained:
            for part in self.convolutions.modules():
                if isinstance(part, nn.BatchNorm2d):
                    part.eval()
        return self

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> SPPClassifier:
        """Move to another device or precision."""
        self._finished = ()
        return super()._apply(fn, recurse)

    def load_state_dict(self, *args: Any, **options: Any) -> Any:
        """Load other weights (:meth:`torch.nn.Module.load_state_dict`)."""
        self._finished = ()
        return super().load_state_dict(*args, **options)

    def save(self, path: str | Path) -> None:
        """Write the network to one file (:mod:`sppnet.detector.modelfile`) atomically."""
        header = {
            "kind": "classifier",
            "backbone": self.name,
            "layer": self.layer,
            "stride": self.stride,
            "classes": list(self.class_names),
            "options": self.options.to_dict(),
            "card": self.card,
        }
        convolutions = {f"backbone.{name}": value for name, value in self.convolutions.state_dict().items()}
        head = {f"head.{name}": value for name, value in self.head.state().items()}
        write_model(path, header, convolutions | head)

    @classmethod
    def load(cls, path: str | Path, device: str | torch.device = "cpu") -> SPPClassifier:
        """Load a trained network, in eval mode.

        Parameters
        ----------
        path : str or Path
        device : str or torch.device
            ``"cpu"``, ``"cuda"`` or ``"cuda:1"``.

        Raises
        ------
        InputError
            When the file is missing or is no sppnet classification network, or the device does not exist.
        """
        place = usable_device(device)
        header, tensors = read_model(path, "classifier")
        try:
            options = ClassifierOptions.from_dict(header["options"])
            names, backbone, layer = header["classes"], header["backbone"], header["layer"]
            card, stride = header["card"], header.get("stride")  # older files have no stride
            parts = tensors_below(tensors, "head.")
            head = Head.from_state(parts).requires_grad_(True)
            found = parts["fc6.weight"].shape[1], len(parts["fc8.weight"])
            # Before the network is built: a width and levels that only the header claims could fill the memory.
            if found[0] % bins(options.pooled_levels):
                raise InputError(f"fc layers take {found[0]} numbers, which do not fit the levels {options.levels}")
            start = replace(options, width=1)
            network = cls(names, backbone, tensors_below(tensors, "backbone."), layer, start, stride=stride)
            expected = network.channels * bins(network.levels), len(names)
            if found != expected:
                raise InputError(
                    f"fc layers take {expected[0]} numbers to {expected[1]} classes here, not {found[0]} to {found[1]}"
                )
        except KeyError as error:
            raise InputError(f"{path}: not a complete sppnet model: {error} is missing") from error
        except InputError as error:
            raise InputError(f"{path}: {error}") from error
        head.dropout, network.options = options.dropout, options
        network.layers, network.card = learning_layers(head, normalised=False), card
        return network.eval().to(place)

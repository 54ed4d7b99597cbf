"""The networks that can be asked for by name: torchvision's classifiers and ours.

torchvision is imported for its own networks alone: it takes longer to load than torch, half of whose compiler it loads.
"""

from __future__ import annotations

from difflib import get_close_matches

import torch
from torch import nn

from ...data.errors import InputError
from .compact import NETWORKS as COMPACT
from .zf5 import ZF5

#: Networks that are not torchvision's, with what makes them.
OURS = {"zf5": ZF5, **COMPACT}


def names() -> list[str]:
    """The networks that can be asked for: torchvision's classifiers (transformers are refused later) and ours."""
    import torchvision

    return [*torchvision.models.list_models(module=torchvision.models), *OURS]


def input_size(name: str) -> int:
    """From torchvision's transforms, which go with its weights; ours take the 224 pixels of the paper."""
    if name in OURS:
        return 224
    from torchvision.models import get_model_weights

    transforms = get_model_weights(name).DEFAULT.transforms()
    return int(transforms.crop_size[0])


def build(name: str) -> nn.Module:
    """The whole network with random weights, in eval mode."""
    if name in OURS:
        return OURS[name]().eval()
    from torchvision.models import get_model

    if name not in names():
        near = get_close_matches(name, names(), n=4)
        known = (
            f"near names are {', '.join(near)}"
            if near
            else f"known are the classification networks of torchvision, {', '.join(OURS)}"
        )
        raise InputError(f"backbone '{name}' is not known; {known}")
    # These two were converted from TensorFlow and bring their own normalisation on top of torchvision's.
    options = {"transform_input": True, "init_weights": True} if name in ("googlenet", "inception_v3") else {}
    return get_model(name, weights=None, **options).eval()


def build_without_values(name: str) -> nn.Module:
    """The whole network on the meta device: shapes alone, at once and without memory."""
    if name.startswith("regnet"):
        # Its constructor computes with tensors, which have no values on the meta device; torchvision has no other such.
        with torch.random.fork_rng(devices=[]):
            return build(name).to("meta")
    with torch.device("meta"):
        return build(name)

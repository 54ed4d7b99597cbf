"""Networks by name: torchvision's classifiers and ours.

torchvision is imported only for its own networks: it takes longer to load than torch, and loads half of torch's
compiler.
"""

from __future__ import annotations

from difflib import get_close_matches
from importlib import import_module

import torch
from torch import nn

from ...data.errors import InputError
from .compact import NETWORKS as COMPACT
from .efficientnet_lite import INPUT_SIZES
from .efficientnet_lite import NETWORKS as EFFICIENTNET_LITE
from .zf5 import ZF5

#: Our own networks and their constructors.
OURS = {"zf5": ZF5, **COMPACT, **EFFICIENTNET_LITE}


def names() -> list[str]:
    """Names of all networks: torchvision's classifiers (transformers are refused later) and ours."""
    import torchvision

    return [*torchvision.models.list_models(module=torchvision.models), *OURS]


def input_size(name: str) -> int:
    """Input size from the transforms of torchvision's weights; most of ours use the paper's 224 pixels."""
    if name in OURS:
        return INPUT_SIZES.get(name, 224)
    from torchvision.models import get_model_weights

    transforms = get_model_weights(name).DEFAULT.transforms()
    return int(transforms.crop_size[0])


def build(name: str) -> nn.Module:
    """Build the whole network with random weights, in eval mode."""
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
    # These two were converted from TensorFlow and normalise images again, after torchvision's normalisation.
    options = {"transform_input": True, "init_weights": True} if name in ("googlenet", "inception_v3") else {}
    return get_model(name, weights=None, **options).eval()


def build_without_values(name: str) -> nn.Module:
    """Build the whole network on the meta device: shapes only, fast and without memory."""
    if name.startswith("regnet"):
        # The only constructor that computes with tensor values, which the meta device does not have.
        with torch.random.fork_rng(devices=[]):
            return build(name).to("meta")
    if name not in OURS:
        # Outside of the block: torchvision loads torch's compiler, and that of torch 2.6 computes when it is loaded.
        import_module("torchvision.models")
    with torch.device("meta"):
        return build(name)

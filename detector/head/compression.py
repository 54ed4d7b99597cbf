"""Compress fc layers without training: truncated SVD (Girshick, Fast R-CNN, section 3.1) and bfloat16."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ..convolutions.threads import one_thread
from ..options import Compression
from .head import Head, factors, used_columns


def compress(head: Head, compression: Compression, rows: Tensor | None = None) -> Head:
    """Return the head with fc6 and fc7 compressed, in eval mode; fc8 and the given head do not change.

    A layer W of shape (out, in) becomes the best product of rank r of (out, r) and (r, in). If the product needs as
    many multiplications as the layer, the layer is not factored. Columns without weights in a pretrained fc6 do not
    count: they are multiplied in neither form.

    Parameters
    ----------
    head : Head
    compression : Compression
    rows : tensor (N, width_in), optional
        Pooled windows. If given, the factors and the fraction of the energy are optimal for the layers' outputs on
        these rows instead of for the weights: directions in which no window varies use no rank.
    """
    state = head.state()
    values = None if rows is None else rows.float().cpu() * state["scale"]
    for name in ("fc6", "fc7"):
        weight = state.get(f"{name}.weight")
        if weight is None:
            continue
        bias = state[f"{name}.bias"]
        outputs = None if values is None else values @ weight.T
        if compression.svd is not None:
            found = _truncated(weight, compression.svd, outputs)
            if found is not None:
                del state[f"{name}.weight"], state[f"{name}.bias"]
                state[f"{name}.0.weight"], state[f"{name}.1.weight"] = first, second = found
                state[f"{name}.1.bias"] = bias
                if values is not None and outputs is not None:
                    # The factors fit the outputs about their mean; the bias corrects the error of the mean.
                    state[f"{name}.1.bias"] = bias + (outputs - values @ first.T @ second.T).mean(dim=0)
        values = None if outputs is None else (outputs + bias).relu_()
    if compression.bfloat16:
        state = {key: value.bfloat16() if key.startswith(("fc6", "fc7")) else value for key, value in state.items()}
    small = Head.from_state(state)
    small.dropout = head.dropout
    return small


def _truncated(weight: Tensor, wanted: float | int, outputs: Tensor | None = None) -> tuple[Tensor, Tensor] | None:
    """Factors (r, in) and (out, r) of a matrix (out, in), or None if they would save nothing.

    They are optimal for the matrix itself, or, if given, for its ``outputs`` (N, out), along their principal axes.
    """
    first_used, last_used = used_columns(weight)
    whole = weight[:, first_used:last_used].double()
    rows, columns = whole.shape
    # The squared singular values are the eigenvalues of the smaller Gram matrix, which is far cheaper for long rows.
    # Double precision, because squaring loses half of the digits.
    wide = columns >= rows or outputs is not None
    if outputs is not None:
        varying = (outputs - outputs.mean(dim=0)).double()
        gram = varying.T @ varying
    else:
        gram = whole @ whole.T if wide else whole.T @ whole
    with one_thread():
        energies, vectors = torch.linalg.eigh(gram)
    energies, vectors = energies.flip(0).clamp(min=0), vectors.flip(1)
    if isinstance(wanted, int):
        rank = min(wanted, len(energies))
    else:
        kept = energies.cumsum(0)
        rank = min(int((kept < wanted * kept[-1]).sum()) + 1, len(energies))
    if rank * (rows + columns) >= rows * columns:
        return None
    basis = vectors[:, :rank]
    # One factor is an orthonormal basis, the other the matrix in its coordinates.
    part, second = (basis.T @ whole, basis) if wide else (basis.T, whole @ basis)
    first = weight.new_zeros(rank, weight.shape[1])
    first[:, first_used:last_used] = part
    return first, second.to(weight.dtype).contiguous()


def describe(head: Head, small: Head) -> dict[str, Any]:
    """Describe a compression, JSON-like: ranks, bytes and multiplications for a window, before and after.

    ``kept_energy`` of a factored layer is the fraction of its energy that remains, 1 minus the squared error of the
    factors' product, which includes bfloat16's rounding. Columns of fc6 without weights are not multiplied.
    """
    ranks, energies = {}, {}
    for name in ("fc6", "fc7"):
        before, after = factors(head.get_submodule(name)), factors(small.get_submodule(name))
        if len(after) == 2:
            ranks[name] = after[0].out_features
        if len(before) == 1 and len(after) == 2:
            whole = before[0].weight.detach().float()
            product = after[1].weight.detach().float() @ after[0].weight.detach().float()
            energy = float(whole.square().sum())
            energies[name] = 1 - float((whole - product).square().sum()) / energy if energy else 1.0

    def total(of: Head, measure: Callable[[nn.Linear], int]) -> int:
        return sum(measure(part) for name in ("fc6", "fc7") for part in factors(of.get_submodule(name)))

    def size(part: nn.Linear) -> int:
        return part.weight.numel() * part.weight.element_size()

    def multiplications(of: Head) -> int:
        first, last = used_columns(factors(of.fc6)[0].weight)
        left_out = factors(of.fc6)[0].in_features - (last - first)
        return total(of, lambda part: part.weight.numel()) - left_out * factors(of.fc6)[0].out_features

    return {
        "ranks": ranks,
        "kept_energy": energies,
        "bytes_before": total(head, size),
        "bytes": total(small, size),
        "multiplications_before": multiplications(head),
        "multiplications": multiplications(small),
    }


def bfloat16_is_fast(device: torch.device) -> bool:
    """Whether the device has instructions for bfloat16 matrix products: AMX, AVX-512's or tensor cores."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type != "cpu":
        return False
    # torch has no public names for these yet.
    names = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    return any(bool(getattr(torch.cpu, name, lambda: False)()) for name in names)


def learns_in_bfloat16(device: torch.device) -> bool:
    """Whether products of fc layers are computed in bfloat16 while these, and the SVMs on them, are trained.

    Not on a CPU, where the last bits of bfloat16 products depend on the number of threads. Single precision made the
    training of layers of 1,024 outputs on 100 photographs 5 % longer on a processor with AMX; one product of 128 rows
    with 12,800 x 4,096 weights takes 48 instead of 11 ms there.
    """
    return device.type != "cpu" and bfloat16_is_fast(device)


def for_device(head: Head, device: torch.device) -> Head:
    """Move the head to a device; bfloat16 weights become single precision if the device has no fast bfloat16."""
    if head.dtype == torch.bfloat16 and not bfloat16_is_fast(device):
        head = Head.from_state({name: value.float() for name, value in head.state().items()})
    return head.to(device)

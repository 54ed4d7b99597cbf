"""Load a model file of any kind."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..data.embedded import DEFAULT_MODEL
from ..data.errors import InputError
from .modelfile import read_header
from .options import Precision

if TYPE_CHECKING:
    import torch

    from .classification.network import SPPClassifier
    from .detection.detector import Detector


def load(
    model: str | Path = DEFAULT_MODEL, device: str | torch.device = "cpu", precision: Precision = "float32"
) -> Detector | SPPClassifier:
    """Load the detector or classification network of a model file.

    Parameters
    ----------
    model : str or Path
        The name of a bundled model, or a file (see :func:`sppnet.data.embedded.find_model`).
    device : str or torch.device
        ``"cpu"``, ``"cuda"`` or ``"cuda:1"``.
    precision : {"float32", "bfloat16", "tf32"}
        Precision of a detector's convolutions. bfloat16 halves their time on processors with instructions for it, takes
        longer on others, and moves scores and boxes a little. Classification networks compute in float32.

    Returns
    -------
    SPPDetector, WarpDetector or SPPClassifier
        The model in the file.

    Raises
    ------
    InputError
        When there is no such model, the file is not a model or contains only a backbone (``sppnet distil``), or the
        device or precision cannot be used.

    Examples
    --------
    >>> detector = load("animals")                          # doctest: +SKIP
    >>> found = detector.detect("photo.jpg")                # doctest: +SKIP
    """
    header = read_header(model)
    if header["kind"] == "detector":
        from .detection.bundle import Bundle
        from .detection.detector import detector_of
        from .device import usable_device

        bundle, place = Bundle.load(model), usable_device(device)
        try:
            return detector_of(bundle, place, precision)
        except InputError as error:
            raise InputError(f"{model}: {error}") from error
    if header["kind"] == "classifier":
        from .classification.network import SPPClassifier

        if precision != "float32":
            raise InputError(f"{model}: a classification network computes in float32, not {precision}")
        return SPPClassifier.load(model, device)
    backbone = header.get("backbone", "NAME")
    raise InputError(
        f"{model}: only a backbone (made by 'sppnet distil'); expected a detector or a classification network; "
        f"to train a detector with it: 'sppnet train DATASET --backbone {backbone} --weights {model}'"
    )

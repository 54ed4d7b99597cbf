"""Whatever a model file holds, ready to use."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..data.embedded import DEFAULT_MODEL
from ..data.errors import InputError
from .modelfile import read_header

if TYPE_CHECKING:
    import torch

    from .classification.network import SPPClassifier
    from .detection.detector import Detector


def load(model: str | Path = DEFAULT_MODEL, device: str | torch.device = "cpu") -> Detector | SPPClassifier:
    """The detector or the classification network in a model file.

    Parameters
    ----------
    model : str or Path
        The name of a model that the package carries, or a file (see :func:`sppnet.data.embedded.find_model`).
    device : str or torch.device
        ``"cpu"``, ``"cuda"`` or ``"cuda:1"``.

    Returns
    -------
    SPPDetector, WarpDetector or SPPClassifier
        Whichever the file holds.

    Raises
    ------
    InputError
        When there is no such model, the file is no model, or one of convolutions alone (``sppnet distil``), or the
        device cannot be used.

    Examples
    --------
    >>> detector = load("animals")                          # doctest: +SKIP
    >>> found = detector.detect("photo.jpg")                # doctest: +SKIP
    """
    header = read_header(model)
    if header["kind"] == "detector":
        from .detection.bundle import Bundle
        from .detection.detector import detector_of

        return detector_of(Bundle.load(model), device)
    if header["kind"] == "classifier":
        from .classification.network import SPPClassifier

        return SPPClassifier.load(model, device)
    backbone = header.get("backbone", "NAME")
    raise InputError(
        f"{model}: convolutions alone ('sppnet distil' made them), which find nothing yet; expected a detector or a "
        f"classification network, such as 'sppnet train DATASET --backbone {backbone} --weights {model}' makes of them"
    )

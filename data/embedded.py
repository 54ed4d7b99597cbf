"""Find bundled models, which have a name without a folder or a suffix, and model files."""

from __future__ import annotations

import re
from pathlib import Path

from .errors import InputError

#: Used if no model is named.
DEFAULT_MODEL = "animals"

_SUFFIX = ".safetensors"


def models_folder() -> Path:
    """Folder of the bundled models; it may be missing if the package has none."""
    return Path(__file__).parent / "models"


def embedded_models() -> dict[str, Path]:
    """Files of the bundled models by name, in alphabetical order."""
    return {path.stem: path for path in sorted(models_folder().glob(f"*{_SUFFIX}"))}


def find_model(model: str | Path) -> Path:
    """Return the file of a model.

    Parameters
    ----------
    model : str or Path
        The name of a bundled model, such as ``"animals"``, even if the working folder has a file of that name. Any
        other text and every ``Path`` is a file; ``"./animals"`` is a file, too.

    Raises
    ------
    InputError
        When the file does not exist. If the text may be a model name, the message lists the bundled models.
    """
    known = embedded_models()
    if isinstance(model, str) and model in known:
        return known[model]
    if Path(model).is_file():
        return Path(model)
    if isinstance(model, str) and re.fullmatch(r"[\w-]+", model):
        carried = ", ".join(known) or "here none"
        raise InputError(f"{model}: no such model file and no bundled model ({carried}); expected a name or a path")
    raise InputError(f"{model}: no such model file")

"""The models that the package carries, and how they are told from files: by a name without a folder or a suffix."""

from __future__ import annotations

import re
from pathlib import Path

from .errors import InputError

#: What is used where no model is named.
DEFAULT_MODEL = "animals"

_SUFFIX = ".safetensors"


def models_folder() -> Path:
    """Where they lie; a package without models need not have the folder."""
    return Path(__file__).parent / "models"


def embedded_models() -> dict[str, Path]:
    """The files of the models by their names, in alphabetical order."""
    return {path.stem: path for path in sorted(models_folder().glob(f"*{_SUFFIX}"))}


def find_model(model: str | Path) -> Path:
    """The file of a model.

    Parameters
    ----------
    model : str or Path
        The name of a model that the package carries, such as ``"animals"``, also where a file of that name lies in
        the working folder; any other text, and every ``Path``, is that of a file. ``"./animals"`` is a file, too.

    Raises
    ------
    InputError
        When there is no such file. What may have been meant as a name gets the names that there are for an answer.
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

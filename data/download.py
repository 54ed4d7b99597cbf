"""Download PASCAL VOC."""

from __future__ import annotations

import re
from pathlib import Path

from .errors import InputError
from .progress import log

# Sizes of the archives, from their download pages.
_MEGABYTES = {("2007", "trainval"): 460, ("2007", "test"): 451, ("2012", "trainval"): 2000}


def download_voc(folder: str | Path, image_set: str, quiet: bool = False) -> Path:
    """Download and unpack PASCAL VOC with torchvision, unless it is already there.

    Parameters
    ----------
    folder : path
        A folder named ``VOC2007`` or ``VOC2012`` gets that year, where torchvision puts it; any
        other folder gets 2007 in ``folder/VOCdevkit/VOC2007``.
    image_set : str
        "test" downloads the test archive (2007 only), every other set the archive with train and val.

    Returns
    -------
    Path
        The folder in VOC layout.

    Raises
    ------
    InputError
        When the archive cannot be downloaded.
    """
    folder = Path(folder)
    named = re.fullmatch(r"VOC(2007|2012)", folder.name)
    year = named[1] if named else "2007"
    root = folder.parent.parent if named and folder.parent.name == "VOCdevkit" else folder
    target = root / "VOCdevkit" / f"VOC{year}"
    if (target / "ImageSets" / "Main" / f"{image_set}.txt").is_file():
        return target
    part = "test" if image_set == "test" else "trainval"
    if (year, part) not in _MEGABYTES:
        raise InputError(f"PASCAL VOC {year} has no public {part} set; VOC2007 does")
    log(f"fetching PASCAL VOC {year} {part} (about {_MEGABYTES[year, part]} MB) into {root}", quiet)
    from torchvision.datasets import VOCDetection

    try:
        VOCDetection(root, year=year, image_set=part, download=True)
    except (OSError, RuntimeError) as error:
        raise InputError(f"PASCAL VOC {year} {part} could not be fetched: {error}") from error
    return target

"""Photographs with a file of labels beside each: labelImg's and Roboflow's XML, LabelMe's JSON."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from .cleaning import Tally
from .folder import images_below
from .image import IMAGE_SUFFIXES
from .label_files import LabelledFiles
from .labelme import is_labelme, read_labelme
from .sample import SampleList
from .splits import TRAINVAL, choose_set, split_folders
from .voc import Labelled, read_annotation, samples_of

#: Suffixes of annotations.
_SUFFIXES = (".xml", ".json")


class AnnotatedFolder(SampleList):
    """The photographs of a folder that have a VOC annotation or LabelMe's beside them: ``a.xml`` or ``a.json``.

    Parameters
    ----------
    folder : str or Path
        Searched to any depth.
    image_set : str, optional
        With folders train, valid and test: "train", "val" (also "valid") or "test"; "trainval" for train and val
        together. Without: "trainval", all photographs.
    classes : sequence of str, optional
        The classes to use, in this order; objects of other classes are left out. By default all classes of the set's
        annotations, sorted.
    tally : Tally, optional
        Counts tolerated problems; a lenient one those of files that cannot be used, too, which are left out.

    Attributes
    ----------
    class_names : tuple of str
    warnings : dict of str to int
        Tolerated problems and their counts; :meth:`warning_lines` gives an example of each.

    Raises
    ------
    InputError
        When the set is missing or an annotation cannot be used.

    Notes
    -----
    A photograph without an annotation is left out, and counted: nobody has said that it shows nothing. Of two files
    the XML counts. The id of a sample is its path below the folder.

    Examples
    --------
    >>> import numpy as np, tempfile
    >>> from PIL import Image
    >>> from sppnet.data.voc import write_annotation
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Image.new("RGB", (40, 30)).save(f"{folder}/a.png")
    ...     write_annotation(f"{folder}/a.xml", "a.png", (30, 40), np.array([[5, 6, 25, 16]]), ["cat"])
    ...     data = AnnotatedFolder(folder)
    >>> data.class_names, data[0].boxes
    (('cat',), array([[ 5.,  6., 25., 16.]], dtype=float32))
    """

    layout = "labels beside the photographs"

    def __init__(
        self,
        folder: str | Path,
        image_set: str | None = None,
        classes: Sequence[str] | None = None,
        tally: Tally | None = None,
    ) -> None:
        folder, tally = Path(folder), tally or Tally()
        sets = {name: list(images_below(place)) for name, place in _places(folder).items()}
        files, labelled = LabelledFiles(), []
        for image in choose_set(sets, image_set, folder):
            beside = [files.find(image.with_suffix(suffix)) for suffix in _SUFFIXES]
            file = next((path for path in beside if os.path.isfile(path)), None)
            if file is None:
                tally.add("photograph without an annotation, left out", image.name)
                continue
            id = image.relative_to(folder).as_posix()
            with tally.leaving_out():
                read = read_annotation if file.suffix == ".xml" else read_labelme
                labelled.append(Labelled(id, image, read(file, tally), file.name))
        super().__init__(*samples_of(labelled, classes, tally), tally)


def annotated_sets(folder: Path) -> list[str]:
    """Names of the sets of such a folder."""
    return list(_places(folder))


def _places(folder: Path) -> dict[str, Path]:
    return split_folders(folder) or {TRAINVAL: folder}


def is_annotated(folder: Path) -> bool:
    """Whether a photograph of the folder has an annotation beside it."""
    return any(
        any(os.path.isfile(path.with_suffix(other)) for other in IMAGE_SUFFIXES)
        and (suffix == ".xml" or is_labelme(path))
        for suffix in _SUFFIXES
        for path in folder.rglob(f"*{suffix}")
    )

"""Cache proposed boxes on disk, by image content and method."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..data.arrays import Array
from ..data.boxes import as_boxes
from ..data.image import read_image
from ..data.store import atomic_path, content_key, file_key, load_arrays
from .backends import Proposer


class ProposalCache:
    """A folder of boxes, one file for each image content, method and options.

    A renamed image finds its boxes, a changed image does not. Entries are written atomically; an entry that cannot be
    read is computed again.

    Parameters
    ----------
    folder : str or Path
        Created with the first entry.
    proposer : Proposer
        Proposes boxes that are not in the folder yet.
    """

    def __init__(self, folder: str | Path, proposer: Proposer) -> None:
        self.folder = Path(folder)
        self.proposer = proposer

    def get(self, path: str | Path, image: Array | None = None) -> Array:
        """Return the boxes of an image file, float32 (N, 4), best first.

        Parameters
        ----------
        path : str or Path
            The image file; its name without suffix is the proposer's ``image_id``.
        image : uint8 array (H, W, 3), optional
            The file's image, if the caller has read it already.

        Raises
        ------
        ImageError
            When the boxes are not in the folder yet and the image cannot be read.
        """
        path = Path(path)
        entry = self._entry(path)
        stored = load_arrays(entry, {"boxes": (None, 4)})
        boxes = None if stored is None else as_boxes(stored["boxes"])
        if boxes is None:
            boxes = self.proposer(read_image(path) if image is None else image, path.stem)
            with atomic_path(entry, durable=False) as temporary:
                np.savez(temporary, boxes=boxes)
        return boxes

    def _entry(self, path: Path) -> Path:
        try:
            content = file_key(path)
        except OSError:
            read_image(path)  # raises an error that explains the problem
            raise
        return self.folder / f"{content_key(content, self.proposer.name, self.proposer.options())}.npz"

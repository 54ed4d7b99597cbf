"""Torch datasets with torchvision's targets, as returned by ``to_torch``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from .arrays import Array

#: Maps an image and its target to both, like torchvision's ``transforms`` arguments.
Transforms = Callable[[Any, Any], tuple[Any, Any]]


class _Photograph(Protocol):
    @property
    def image(self) -> NDArray[Any]: ...


class _Sample(_Photograph, Protocol):
    @property
    def boxes(self) -> Array: ...
    @property
    def labels(self) -> Array: ...
    @property
    def difficult(self) -> Array: ...


class TorchImages(Dataset[tuple[Any, Any]]):
    """Pairs of image and target for a :class:`torch.utils.data.DataLoader`; the common base class."""

    def __init__(self, samples: Sequence[_Photograph], transforms: Transforms | None) -> None:
        self.samples = samples
        self.transforms = transforms

    def __len__(self) -> int:
        return len(self.samples)

    @staticmethod
    def collate(batch: Sequence[tuple[Any, Any]]) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        """Return a tuple of images and a tuple of targets: photographs differ in size, so they cannot be stacked.

        Pass it as the loader's ``collate_fn``.
        """
        images, targets = zip(*batch, strict=True)
        return images, targets


class TorchDetection(TorchImages):
    """Photographs with boxes, in the format of torchvision's detection references; see :meth:`.SampleList.to_torch`.

    Parameters
    ----------
    samples : sequence of Sample
    image_ids : sequence of int
        One for each sample.
    transforms : callable or None
    first_label : int
    difficult : bool
    """

    samples: Sequence[_Sample]

    def __init__(
        self,
        samples: Sequence[_Sample],
        image_ids: Sequence[int],
        transforms: Transforms | None = None,
        first_label: int = 1,
        difficult: bool = True,
    ) -> None:
        super().__init__(samples, transforms)
        self.image_ids = image_ids
        self.first_label = first_label
        self.difficult = difficult

    def __getitem__(self, index: int) -> tuple[Any, dict[str, Any]]:
        sample = self.samples[index]
        image = _channels_first(sample.image)
        wanted = slice(None) if self.difficult else ~sample.difficult
        boxes = torch.tensor(sample.boxes[wanted], dtype=torch.float32)
        target = {
            "boxes": boxes,
            "labels": torch.tensor(sample.labels[wanted], dtype=torch.int64) + self.first_label,
            "image_id": self.image_ids[index],
            "area": (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]),
            "iscrowd": torch.tensor(sample.difficult[wanted], dtype=torch.int64),
        }
        if self.transforms is None:
            return image.float() / 255, target
        from torchvision import tv_tensors

        size = (image.shape[1], image.shape[2])
        target["boxes"] = tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=size)
        return self.transforms(tv_tensors.Image(image), target)


class TorchClassification(TorchImages):
    """Photographs labelled as a whole; see :meth:`.LabelledImages.to_torch`.

    Parameters
    ----------
    samples : sequence of LabelledImage
    targets : int array (N,) or float32 array (N, C)
        The classes of single-label images, or the rows of multi-label ones.
    transforms : callable or None
    """

    def __init__(self, samples: Sequence[_Photograph], targets: Array, transforms: Transforms | None = None) -> None:
        super().__init__(samples, transforms)
        self.targets = targets

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        image = _channels_first(self.samples[index].image)
        target: Any = int(self.targets[index]) if self.targets.ndim == 1 else torch.tensor(self.targets[index])
        if self.transforms is None:
            return image.float() / 255, target
        from torchvision import tv_tensors

        return self.transforms(tv_tensors.Image(image), target)


def _channels_first(image: NDArray[Any]) -> Tensor:
    """Convert RGB uint8 (H, W, 3) to a contiguous uint8 tensor (3, H, W)."""
    return torch.from_numpy(image).permute(2, 0, 1).contiguous()

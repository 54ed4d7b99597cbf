"""Who does the work on single images in a training, if not this process: others that each take a block of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from ...data.arrays import Array
from ...data.sample import Sample
from ..windows.features import Features
from .cache import FeatureCache
from .images import OfImage, TrainingImages

Item = TypeVar("Item")
Result = TypeVar("Result")

#: Images of a block: enough that a call costs little, few enough that all have something to do.
BLOCK = 16


class Crew(Protocol):
    """Workers, on this machine or others; they see the same files under the same names."""

    def put(self, value: Any) -> Any:
        """Give a value to all workers, once; returns what stands for it in :meth:`map`."""

    def map(
        self, function: Callable[..., Result], common: Sequence[Any], blocks: Iterable[Sequence[Any]]
    ) -> Iterator[Result]:
        """Yield ``function(*common, *block)`` of each block, in their order.

        Parameters
        ----------
        function : callable
            Of a module, since workers find it by its name. What it returns must not depend on earlier calls.
        common : sequence
            Results of :meth:`put`.
        blocks : iterable of sequences
            Values, or results of :meth:`put`.

        Raises
        ------
        InputError
            That of a worker, or when workers are lost again and again.
        """


@dataclass(frozen=True, eq=False)
class Portion:
    """Some training images without what computes their features.

    Attributes
    ----------
    indices : tuple of int
        Their numbers in the whole training.
    samples, image_keys, sizes, proposals
        As in :class:`.images.TrainingImages`.
    """

    indices: tuple[int, ...]
    samples: tuple[Sample, ...]
    image_keys: tuple[str, ...]
    sizes: tuple[tuple[int, int], ...]
    proposals: tuple[Array, ...]

    @classmethod
    def of(cls, images: TrainingImages, indices: Sequence[int]) -> Portion:
        """Some of the images."""

        def some(of_all: Sequence[Item]) -> tuple[Item, ...]:
            return tuple(of_all[index] for index in indices)

        every = some(images.samples), some(images.image_keys), some(images.sizes), some(images.proposals)
        return cls(tuple(indices), *every)

    def seen_through(self, cache: FeatureCache, features: Features[Any]) -> TrainingImages:
        """The images again."""
        return TrainingImages(self.samples, self.image_keys, self.sizes, self.proposals, cache, features)


class Shared:
    """Training images that are given to a crew in blocks, once, whatever is done with them afterwards.

    Parameters
    ----------
    images : TrainingImages
    crew : Crew
    order : sequence of int
        All numbers of the images; neighbours in it are in the same block.
    """

    def __init__(self, images: TrainingImages, crew: Crew, order: Sequence[int]):
        self._crew = crew
        self._blocks = [tuple(order[start : start + BLOCK]) for start in range(0, len(order), BLOCK)]
        self._portions = [crew.put(Portion.of(images, block)) for block in self._blocks]
        self._block_of = {index: number for number, block in enumerate(self._blocks) for index in block}
        self._seen: tuple[Features[Any], Any] | None = None

    def each(
        self,
        images: TrainingImages,
        function: OfImage[Result],
        common: Any,
        wanted: Sequence[int],
        own: Mapping[int, Any],
    ) -> Iterator[tuple[int, Result]]:
        """See :meth:`.images.TrainingImages.each`; block after block."""
        blocks: dict[int, list[int]] = defaultdict(list)
        for index in wanted:
            blocks[self._block_of[index]].append(index)
        calls = [
            (self._portions[number], blocks[number], {index: own.get(index) for index in blocks[number]})
            for number in sorted(blocks)
        ]
        given = self._crew.put(function), self._through(images), self._crew.put(common)
        for (_, asked, _), found in zip(calls, self._crew.map(_of_block, given, calls), strict=True):
            yield from zip(asked, found, strict=True)

    def _through(self, images: TrainingImages) -> Any:
        """What stands for the images' cache and features with the crew, which has been given the last ones already."""
        if self._seen is None or self._seen[0] is not images.features:
            self._seen = images.features, self._crew.put((images.cache, images.features))
        return self._seen[1]


def _of_block(
    function: OfImage[Result],
    seen: tuple[FeatureCache, Features[Any]],
    common: Any,
    portion: Portion,
    asked: Sequence[int],
    own: Mapping[int, Any],
) -> list[Result]:
    """A function of some images of a portion: what a worker does."""
    images = portion.seen_through(*seen)
    places = [portion.indices.index(index) for index in asked]
    return [
        function(images, place, index, images.maps(place), common, own[index])
        for place, index in zip(places, asked, strict=True)
    ]

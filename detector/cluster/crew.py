"""The workers of a Ray cluster as those of a training (:class:`sppnet.detector.training.crew.Crew`)."""

from __future__ import annotations

import os
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from ...data.decoding import current_limit, pixel_limit
from ...data.errors import InputError
from ..windows.features import Features

Result = TypeVar("Result")

#: Calls for each worker that are under way or wait, so that none is idle until a result before its own is there.
AHEAD = 4

#: Times that a call is tried again after its worker was lost.
TRIES = 3

#: Values that a worker keeps for further calls: functions, features, planes of SVMs.
KEPT = 8

_kept: OrderedDict[str, Any] = OrderedDict()


class RayCrew:
    """The workers of the cluster that this process is connected to (:func:`.detect.connected`).

    A lost worker costs the calls that it had, which others take. The machines must have the photographs and the
    training's folder under the same paths.

    Parameters
    ----------
    workers : int
        Number of workers.
    device : {"cpu", "cuda"}
        Device of each.
    resources : mapping
        What each takes, such as ``num_cpus``.
    """

    def __init__(self, workers: int, device: str, resources: Mapping[str, Any]) -> None:
        import ray

        self._workers, self._place = workers, (str(Path.cwd()), current_limit(), device)
        self._call = ray.remote(max_retries=TRIES, **resources)(_call)

    def put(self, value: Any) -> Any:
        """See :meth:`.training.crew.Crew.put`."""
        import ray

        # Workers need not have the device of this process.
        features = [one for one in _parts(value) if isinstance(one, Features)]
        devices = [one.device for one in features]
        _move(features, ["cpu"] * len(features))
        try:
            return ray.put(value)
        finally:
            _move(features, devices)

    def map(
        self, function: Callable[..., Result], common: Sequence[Any], blocks: Iterable[Sequence[Any]]
    ) -> Iterator[Result]:
        """See :meth:`.training.crew.Crew.map`."""
        import ray
        from ray.exceptions import RayError, RayTaskError

        waiting, left = deque[Any](), iter(blocks)
        try:
            while True:
                for block in islice(left, AHEAD * self._workers - len(waiting)):
                    # In a list they are no arguments of the call: the worker fetches those that it does not have.
                    waiting.append(self._call.remote(self._place, function, list(common), *block))
                if not waiting:
                    return
                yield ray.get(waiting.popleft())
        except RayTaskError as error:
            # The exception of the worker itself, not Ray's text with two tracebacks.
            raise error.cause from None
        except RayError as error:
            said = " ".join(str(error).split())
            raise InputError(f"--ray: workers were lost {TRIES + 1} times over the same photographs ({said})") from None
        finally:
            for one in waiting:
                ray.cancel(one, force=False)


def _call(place: tuple[str, int, str], function: Callable[..., Result], common: Sequence[Any], *block: Any) -> Result:
    """A call in a worker."""
    import torch

    folder, most_pixels, device = place
    cores = int(os.environ.get("OMP_NUM_THREADS", "0"))  # which Ray sets
    if cores:
        torch.set_num_threads(cores)
    os.chdir(folder)
    with pixel_limit(most_pixels):
        return function(*(_fetched(one, device) for one in common), *block)


def _fetched(reference: Any, device: str) -> Any:
    """What stands behind a reference; the last ones are kept, since to build a network takes longer than a call."""
    import ray

    key = reference.hex()
    if key not in _kept:
        value = ray.get(reference)
        features = [one for one in _parts(value) if isinstance(one, Features)]
        _move(features, [device] * len(features))
        _kept[key] = value
        while len(_kept) > KEPT:
            _kept.popitem(last=False)
    _kept.move_to_end(key)
    return _kept[key]


def _parts(value: Any) -> Iterable[Any]:
    """The members of a tuple, or the attributes of another object that has some."""
    return value if isinstance(value, tuple) else getattr(value, "__dict__", {}).values()


def _move(features: Sequence[Features[Any]], devices: Sequence[Any]) -> None:
    """Move the networks of some features to a device each."""
    for one, device in zip(features, devices, strict=True):
        one.backbone.to(device)
        if one.head is not None:
            one.head.to(device)

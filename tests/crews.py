"""Workers of a training in this process, for tests: all that they get and give goes through pickle, as with Ray.

As there, arrays cannot be written to afterwards.
"""

import pickle
from contextlib import contextmanager


class PickledCrew:
    """A :class:`sppnet.detector.training.crew.Crew`; ``calls`` are the functions that were called."""

    def __init__(self):
        self.values, self.calls = [], []

    @classmethod
    @contextmanager
    def alone(cls, args):
        """Stands for :func:`sppnet.scripts.cluster.training_crew`."""
        yield cls()

    def put(self, value):
        self.values.append(pickled(value))
        return Reference(len(self.values) - 1)

    def map(self, function, common, blocks):
        for block in blocks:
            self.calls.append(function.__name__)
            values = [self._value(one) for one in (*common, *block)]
            yield unpickled(pickled(unpickled(pickled(function))(*values)))

    def _value(self, one):
        return unpickled(self.values[one.number] if isinstance(one, Reference) else pickled(one))


def pickled(value):
    """The bytes of a value, and those of its arrays."""
    buffers = []
    return pickle.dumps(value, protocol=5, buffer_callback=buffers.append), [bytes(one.raw()) for one in buffers]


def unpickled(parts):
    return pickle.loads(parts[0], buffers=parts[1])


class Reference:
    """Stands for a value that was put."""

    def __init__(self, number):
        self.number = number

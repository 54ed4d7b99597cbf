"""Workers of a training in this process, for tests: all that they get and give goes through pickle, as with Ray."""

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
        self.values.append(pickle.dumps(value))
        return Reference(len(self.values) - 1)

    def map(self, function, common, blocks):
        for block in blocks:
            self.calls.append(function.__name__)
            values = [self._value(one) for one in (*common, *block)]
            yield pickle.loads(pickle.dumps(pickle.loads(pickle.dumps(function))(*values)))

    def _value(self, one):
        return pickle.loads(self.values[one.number] if isinstance(one, Reference) else pickle.dumps(one))


class Reference:
    """Stands for a value that was put."""

    def __init__(self, number):
        self.number = number

"""Put the tests' folder on the path, so that ``from reference.x import y`` finds the slow references."""

import os
import signal
import sys
from pathlib import Path

import pytest
from sppnet.data.progress import messages_on_stderr
from sppnet.scripts.cli import prepare

sys.path.insert(0, str(Path(__file__).parent))


if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # As in a process that a script has started in the background; tests press Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Before torch is imported: tests compare what is computed here with what commands compute.
prepare(os.environ)

import torch  # noqa: E402

if not torch.cuda.is_available():
    # Triton's kernels then run on the CPU, in Python.
    os.environ.setdefault("TRITON_INTERPRET", "1")


#: The slowest files, a minute or more each. Where files are divided among processes these come first, so that none of
#: them is left over for one process at the end.
SLOW = (
    "detector/training/test_train.py",
    "docs/test_pages.py",
    "test_pipeline.py",
    "detector/training/test_effort.py",
    "detector/cluster/test_crew.py",
    "detector/descent/test_processes.py",
    "scripts/benchmark/test_few.py",
    "detector/training/test_rounds.py",
    "scripts/classify/test_classify.py",
    "detector/detection/test_on_device.py",
)


def pytest_collection_modifyitems(items):
    places = {Path(__file__).parent / name: place for place, name in enumerate(SLOW)}
    items.sort(key=lambda item: places.get(item.path, len(SLOW)))


@pytest.fixture
def messages():
    """What the package tells its logger stands on stderr, as it does for a command."""
    with messages_on_stderr():
        yield

"""Put the tests' folder on the path, so that ``from reference.x import y`` finds the slow references."""

import os
import sys
from pathlib import Path

import pytest
from sppnet.data.progress import messages_on_stderr
from sppnet.scripts.cli import prepare

sys.path.insert(0, str(Path(__file__).parent))


# Before torch is imported: tests compare what is computed here with what commands compute.
prepare(os.environ)

import torch  # noqa: E402

if not torch.cuda.is_available():
    # Triton's kernels then run on the CPU, in Python.
    os.environ.setdefault("TRITON_INTERPRET", "1")


@pytest.fixture
def messages():
    """What the package tells its logger stands on stderr, as it does for a command."""
    with messages_on_stderr():
        yield

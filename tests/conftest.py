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


@pytest.fixture
def messages():
    """What the package tells its logger stands on stderr, as it does for a command."""
    with messages_on_stderr():
        yield

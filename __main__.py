"""``python -m sppnet``: the commands, where the program ``sppnet`` is not on the path."""

import sys

from .scripts.cli import main

if __name__ == "__main__":
    sys.exit(main())

"""The program ``sppnet``: select the command, run it and return an exit status.

0: success. 1: finished, but some inputs failed. 2: wrong call; one line on stderr says
what was expected. 130: interrupted.
"""

from __future__ import annotations

import os
import shlex
import signal
import sys
import threading
from collections.abc import Iterator, MutableMapping, Sequence
from contextlib import contextmanager
from importlib import import_module

from .. import __version__
from ..data.errors import InputError
from ..data.progress import messages_on_stderr
from .parser import CommandParser

COMMANDS = {
    "detect": "find objects in photographs",
    "train": "train a detector on labelled photographs",
    "evaluate": "measure a detector's average precision on a labelled set",
    "propose": "propose windows that may hold objects, and measure their recall",
    "classify": "label whole photographs: train, evaluate, predict, SVMs on features",
    "distil": "train a small backbone from a pretrained teacher network, on photographs without labels",
    "check": "look for what is wrong with labelled photographs",
    "convert": "write labelled photographs in another layout: VOC, COCO or YOLO",
    "make-model": "rebuild a bundled model",
    "benchmark": "time this package against the alternatives on this machine",
    "info": "show what is in a model file",
    "scenes": "write a labelled data set of generated scenes, to try things on",
}


def build_parser() -> CommandParser:
    """Create the parser of the program; a command's options are loaded when it is called."""
    parser = CommandParser(
        prog="sppnet",
        description="SPP-net object detection (He et al., ECCV 2014): train on labelled photographs,\n"
        "find objects in others.",
        epilog="'sppnet COMMAND --help' shows the options of a command.",
    )
    parser.add_argument("--version", action="version", version=f"sppnet {__version__}")
    parser.add_commands(COMMANDS, dest="command")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``sppnet`` with ``argv`` (default: the process's own arguments) and return its exit status."""
    share_cores(os.environ)
    try:
        with _stopped_as_interrupted():
            status = _run(sys.argv[1:] if argv is None else list(argv))
        sys.stdout.flush()
        return status
    except InputError as error:
        return _complain(str(error))
    except KeyboardInterrupt:
        print("sppnet: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader of our output, such as `head`, has closed it. Python flushes stdout again at exit: give it a sink.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:  # an unwritable folder, a full disk, a failed download: not a bug
        return _complain(str(error))


@contextmanager
def _stopped_as_interrupted() -> Iterator[None]:
    """In this block SIGTERM does what Ctrl-C does, so that nothing done is lost at the limit of a batch system."""

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():  # others cannot say what signals do
        yield
        return
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def share_cores(environment: MutableMapping[str, str]) -> None:
    """Make torch's idle threads release their cores soon, unless the user has set how they wait.

    OpenMP threads spin for milliseconds after each operation (300,000 turns), while proposals and pooling, which have
    their own threads, need the cores. With 10,000 turns a photograph on two cores took 118 ms instead of 143, and
    operations that directly follow each other lost nothing. Call this before torch is imported.
    """
    if "OMP_WAIT_POLICY" not in environment:
        environment.setdefault("GOMP_SPINCOUNT", "10000")


def _run(argv: list[str]) -> int:
    try:
        args = build_parser().parse_args(argv)
    except SystemExit as end:  # from argparse: --help, --version, or a wrong call
        return end.code if isinstance(end.code, int) else 2
    args.command_line = shlex.join(["sppnet", *argv])
    with messages_on_stderr(args.quiet):
        return int(import_module("." + args.command.replace("-", "_"), __package__).run(args))


def _complain(message: str) -> int:
    print(f"sppnet: error: {message}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())

"""The program ``sppnet``: select the command, run it and return an exit status.

0: success. 1: finished, but some inputs failed. 2: wrong call, or results that could not be written; one line on
stderr says what was expected. 130: interrupted.
"""

from __future__ import annotations

import io
import os
import shlex
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from importlib import import_module

from .. import __version__
from ..data.errors import InputError
from ..data.progress import messages_on_stderr
from .parser import CommandParser

#: Seconds after an interruption in which another one is the same: Ctrl-C, pressed twice, must not stop the tidying up.
_SAME_STOP = 1.0

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
    prepare(os.environ)
    if sys.stderr is None:  # closed; print() would write to stdout instead
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 (to the end of the process)
    if sys.stdout is None:
        return _complain("standard output is closed; expected an open one, such as a file or /dev/null")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # The console's encoding may lack characters in the names of classes and files.
            stream.reconfigure(errors="backslashreplace")
    rank = _torchrun_rank(os.environ) if argv is None else None
    if rank:
        from ..detector.descent.processes import follow

        follow()
    with _stopped_as_interrupted(alone=argv is None) as stops:
        return _status(sys.argv[1:] if argv is None else list(argv), stops, _run if rank is None else _run_leading)


def _torchrun_rank(environment: Mapping[str, str]) -> int | None:
    """Number of this process among several of torchrun, from 0 on; None without them."""
    # Other launchers set the others, too, also for commands that have nothing to do with each other.
    if {"TORCHELASTIC_RUN_ID", "RANK", "WORLD_SIZE"} <= environment.keys():
        return int(environment["RANK"]) if int(environment["WORLD_SIZE"]) > 1 else None
    return None


def _status(argv: list[str], stops: list[float], run: Callable[[list[str]], int]) -> int:
    """Run a command and return the exit status; its errors, or its interruption if ``stops``, are a line on stderr."""
    try:
        status = run(argv)
    except InputError as error:
        status = _complain(str(error))
    except KeyboardInterrupt:
        status = _interrupted()
    except BrokenPipeError:
        status = 1
    except OSError as error:  # an unwritable folder, a full disk, a failed download: not a bug
        status = _complain(str(error))
    except Exception:
        if not stops:
            raise
        status = _interrupted()  # a module whose import is interrupted may end with any error
    try:
        sys.stdout.flush()
    except OSError as error:
        if not status and not isinstance(error, BrokenPipeError):
            status = _complain(f"standard output: cannot be written ({error.strerror})")
        # The reader of our output, such as `head`, has closed it, or its disk is full. Python flushes stdout again at
        # exit: give it a sink.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = status or 1
    return status


@contextmanager
def _stopped_as_interrupted(alone: bool) -> Iterator[list[float]]:
    """In this block SIGTERM does what Ctrl-C does, so that nothing done is lost at the limit of a batch system.

    Gives a list with the time of an interruption, if there is one. If the command is ``alone`` in its process, the
    signals end the process without a word after the block.
    """
    stops: list[float] = []

    def interrupt(number: int, frame: object) -> None:
        now = time.monotonic()
        if not stops or now > stops[-1] + _SAME_STOP:
            stops.append(now)
            raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():  # others cannot say what signals do
        yield stops
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number, action in before.items():
        if action not in (signal.SIG_IGN, None):
            signal.signal(number, interrupt)
    try:
        yield stops
    finally:
        for number, action in before.items():
            if action not in (signal.SIG_IGN, None):
                signal.signal(number, signal.SIG_DFL if alone else action)


def prepare(environment: MutableMapping[str, str]) -> None:
    """Say to torch's libraries how to compute, unless the user has: call this before torch is imported.

    MKL's products of matrices must not depend on the number of threads, in their last bits. That costs nothing that
    could be measured (fc layers of 512 windows: 348 to 365 ms with it, 343 to 361 without).

    Idle threads must release their cores soon.

    OpenMP threads spin for milliseconds after each operation (300,000 turns), while proposals and pooling, which have
    their own threads, need the cores. With 10,000 turns a photograph on two cores took 118 ms instead of 143, and
    operations that directly follow each other lost nothing.
    """
    environment.setdefault("MKL_CBWR", "AUTO,STRICT")
    if "OMP_WAIT_POLICY" not in environment:
        environment.setdefault("GOMP_SPINCOUNT", "10000")


def _run(argv: list[str]) -> int:
    try:
        args = build_parser().parse_args(argv)
    except SystemExit as end:  # from argparse: --help, --version, or a wrong call
        return end.code if isinstance(end.code, int) else 2
    args.command_line = shlex.join(["sppnet", *argv])
    with messages_on_stderr(args.quiet), _pixel_limit(getattr(args, "max_pixels", None)):
        return int(import_module("." + args.command.replace("-", "_"), __package__).run(args))


def _run_leading(argv: list[str]) -> int:
    """Run a command whose gradient descent the other processes of torchrun share."""
    from ..detector.descent.processes import leading

    with leading():
        return _run(argv)


def _pixel_limit(most: int | None) -> AbstractContextManager[None]:
    """The limit of ``--max-pixels`` on images."""
    if most is None:
        return nullcontext()
    from ..data.decoding import pixel_limit

    return pixel_limit(most)


def _interrupted() -> int:
    _say("sppnet: interrupted")
    return 130


def _complain(message: str) -> int:
    _say(f"sppnet: error: {message}")
    return 2


def _say(line: str) -> None:
    with suppress(OSError):  # stderr may be a log on a full disk
        print(line, file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())

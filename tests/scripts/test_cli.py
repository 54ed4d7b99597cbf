"""The program: help, exit statuses, one-line errors."""

import errno
import io
import os
import re
import signal
import subprocess
import sys
from argparse import Namespace
from importlib import import_module
from types import ModuleType

import pytest
import sppnet
from sppnet.data.errors import InputError
from sppnet.scripts import cli
from sppnet.scripts.benchmark import BENCHMARKS
from sppnet.scripts.classify import JOBS
from sppnet.scripts.common import resolve_device

GROUPS = {"benchmark": BENCHMARKS, "classify": JOBS}
COMMANDS = [*cli.COMMANDS, *(f"{group} {name}" for group, names in GROUPS.items() for name in names)]


@pytest.fixture
def call(capsys):
    """``call("detect --help")`` gives the exit status and what went to stdout and stderr."""

    def run(line):
        status = cli.main(line.split())
        return (status, *capsys.readouterr())

    return run


@pytest.fixture
def command(monkeypatch):
    """Plants a command ``try`` that does what it is told."""

    def plant(run):
        module = ModuleType("sppnet.scripts.try")
        module.HELP = "first paragraph\n\nsecond paragraph"
        module.add_arguments = lambda parser: parser.add_argument("--number", type=int)
        module.run = run
        monkeypatch.setitem(sys.modules, "sppnet.scripts.try", module)
        monkeypatch.setitem(cli.COMMANDS, "try", "a planted command")

    return plant


def test_help_lists_every_command(call):
    status, out, err = call("--help")
    assert (status, err) == (0, "")
    for name, line in cli.COMMANDS.items():
        assert re.search(rf"^  {name} +{re.escape(line)}$", out, re.MULTILINE)


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_has_help_and_the_common_options(call, line):
    status, out, err = call(f"{line} --help")
    assert (status, err) == (0, "")
    assert out.startswith(f"usage: sppnet {line} ")
    if line not in GROUPS:
        for option in ("--device auto|cpu|cuda", "--seed INT", "--quiet"):
            assert option in out


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_can_be_run(name):
    module = name.replace("-", "_")
    assert callable(import_module(f"sppnet.scripts.{module}").run)


@pytest.mark.parametrize("name", BENCHMARKS)
def test_every_benchmark_can_measure_and_show(name):
    module = import_module(f"sppnet.scripts.benchmark.{name}")
    assert callable(module.measure)
    assert callable(module.table)


def test_version(call):
    assert call("--version") == (0, f"sppnet {sppnet.__version__}\n", "")


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("", "sppnet: error: the following arguments are required: COMMAND (see 'sppnet --help')"),
        ("detekt x", "sppnet: error: unknown command 'detekt'; did you mean 'detect'? (see 'sppnet --help')"),
        ("--nonsense", "sppnet: error: the following arguments are required: COMMAND (see 'sppnet --help')"),
        ("benchmark", "sppnet benchmark: error: the following arguments are required: BENCHMARK"),
        ("benchmark poling", "sppnet benchmark: error: unknown benchmark 'poling'; did you mean 'pooling'?"),
        ("info", "sppnet info: error: the following arguments are required: M (see 'sppnet info --help')"),
        ("info m --hlep", "sppnet info: error: unrecognized arguments: --hlep (see 'sppnet info --help')"),
        ("info m --seed -1", "sppnet info: error: argument --seed: expected a whole number from 0 up, got '-1'"),
        ("info m --seed x", "sppnet info: error: argument --seed: expected a whole number from 0 up, got 'x'"),
        (
            "info m --device gpu",
            "sppnet info: error: argument --device: expected auto, cpu, cuda or, of several, cuda:1, got 'gpu'",
        ),
        ("info m --dev cpu", "sppnet info: error: unrecognized arguments: --dev cpu"),
    ],
)
def test_a_wrong_call_is_one_clear_line_and_status_2(call, line, error):
    status, out, err = call(line)
    assert (status, out) == (2, "")
    assert err.startswith(error)
    assert err.count("\n") == 1


def test_an_unknown_command_like_no_other_lists_the_known_ones(call):
    status, _, err = call("zzzzz")
    assert status == 2
    assert all(name in err for name in cli.COMMANDS)


def test_a_command_gets_its_arguments_and_returns_its_status(call, command):
    seen = []
    command(lambda args: seen.append(args) or 1)
    assert call("try --number 7 --seed 3 --quiet") == (1, "", "")
    (args,) = seen
    assert (args.number, args.seed, args.quiet, args.device) == (7, 3, True, "auto")
    assert args.command_line == "sppnet try --number 7 --seed 3 --quiet"
    assert "first paragraph\n\nsecond paragraph" in call("try --help")[1]


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (InputError("photos/a.jpg: expected an image"), 2, "sppnet: error: photos/a.jpg: expected an image\n"),
        (PermissionError(13, "Permission denied", "out"), 2, "sppnet: error: [Errno 13] Permission denied: 'out'\n"),
        (KeyboardInterrupt(), 130, "sppnet: interrupted\n"),
    ],
)
def test_how_a_command_may_end(call, command, error, status, line):
    def run(args):
        raise error

    command(run)
    assert call("try") == (status, "", line)


def test_a_bug_keeps_its_traceback(command):
    command(lambda args: {}["missing"])
    with pytest.raises(KeyError, match="missing"):
        cli.main(["try"])


PRINTING = """
import sys, types
from sppnet.scripts import cli
planted = types.ModuleType("sppnet.scripts.try")
planted.HELP, planted.add_arguments = "", lambda parser: None
planted.run = lambda args: print("line\\n" * {lines}) or 0
sys.modules["sppnet.scripts.try"] = planted
cli.COMMANDS["try"] = ""
sys.exit(cli.main(["try"]))
"""


def test_a_reader_that_leaves_early_is_no_error():
    """As in ``sppnet ... | head -1``: nothing on stderr, not even from Python's own last flush."""
    call = [sys.executable, "-c", PRINTING.format(lines=100_000)]
    with subprocess.Popen(call, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"line\n"
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 1


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no device that is always full")
@pytest.mark.parametrize("lines", [1, 100_000])
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_output_to_a_full_disk_is_an_error_of_one_line(lines, unbuffered):
    call = [sys.executable, "-c", PRINTING.format(lines=lines)]
    environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    with open("/dev/full", "w") as full:
        done = subprocess.run(call, stdout=full, stderr=subprocess.PIPE, text=True, env=environment)
    (line,) = done.stderr.splitlines()
    assert line.startswith("sppnet: error: ")
    assert os.strerror(errno.ENOSPC) in line
    assert done.returncode == 2


def test_output_to_a_closed_stream_is_an_error_of_one_line(command, monkeypatch, capsys):
    command(lambda args: 0)
    monkeypatch.setattr(sys, "stdout", None)
    assert cli.main(["try"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("sppnet: error: standard output is closed")


def test_messages_to_a_closed_stream_are_lost_and_nothing_else(command, monkeypatch, capsys):
    def run(args):
        print("a message", file=sys.stderr)
        print("a result")
        raise InputError("a mistake")

    command(run)
    monkeypatch.setattr(sys, "stderr", None)
    assert cli.main(["try"]) == 2
    assert capsys.readouterr().out == "a result\n"


@pytest.mark.parametrize(
    ("encoding", "expected"),
    [
        ("ascii", "\\u732b caf\\xe9 \\udcb0"),
        ("cp1252", "\\u732b caf\xe9 \\udcb0"),
        ("utf-8", "\u732b caf\xe9 \\udcb0"),
    ],
)
def test_a_console_that_lacks_characters_shows_their_codes(command, monkeypatch, encoding, expected):
    name = "\u732b caf\xe9 \udcb0"

    def run(args):
        print(name)
        print(name, file=sys.stderr)
        raise InputError(name)

    command(run)
    streams = [io.TextIOWrapper(io.BytesIO(), encoding=encoding, newline="\n", line_buffering=True) for _ in range(2)]
    for stream, place in zip(streams, ("stdout", "stderr"), strict=True):
        monkeypatch.setattr(sys, place, stream)
    assert cli.main(["try"]) == 2
    out, err = (stream.buffer.getvalue().decode(encoding) for stream in streams)
    assert out == f"{expected}\n"
    assert err == f"{expected}\nsppnet: error: {expected}\n"


def test_ctrl_c_pressed_twice_is_meant_once(call, command):
    tidied = []

    def run(args):
        try:
            signal.raise_signal(signal.SIGINT)
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.raise_signal(number)
            tidied.append(True)

    command(run)
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    assert call("try") == (130, "", "sppnet: interrupted\n")
    assert tidied == [True]
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_ctrl_c_pressed_again_later_stops_the_tidying_up(call, command, monkeypatch):
    tidied = []

    def run(args):
        try:
            signal.raise_signal(signal.SIGINT)
        finally:
            monkeypatch.setattr(cli, "_SAME_STOP", -1)
            signal.raise_signal(signal.SIGINT)
            tidied.append(True)

    command(run)
    assert call("try") == (130, "", "sppnet: interrupted\n")
    assert tidied == []


def test_an_interrupted_import_may_end_with_any_error(call, command):
    def run(args):
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            raise ImportError("numpy.core.multiarray failed to import") from None

    command(run)
    assert call("try") == (130, "", "sppnet: interrupted\n")


def test_a_signal_that_is_ignored_stays_so(call, command):
    """As in a shell's background jobs."""
    command(lambda args: signal.raise_signal(signal.SIGINT) or 0)
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert call("try") == (0, "", "")
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("module", ["sppnet", "sppnet.scripts.cli"])
def test_the_installed_program_answers(module):
    """The package and the console script, each in a process of its own, as the user calls them."""
    done = subprocess.run([sys.executable, "-m", module, "nonsense"], capture_output=True, text=True)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith("sppnet: error: unknown command 'nonsense'")


def test_cuda_asked_for_but_absent_is_an_input_error(monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve_device(Namespace(device="cpu")) == "cpu"
    assert resolve_device(Namespace(device="auto")) == "cpu"
    with pytest.raises(InputError, match="--device cuda: torch finds no CUDA device"):
        resolve_device(Namespace(device="cuda"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert resolve_device(Namespace(device="auto")) == "cuda"
    assert resolve_device(Namespace(device="cuda")) == "cuda"


def test_one_of_several_devices(monkeypatch):
    torch = pytest.importorskip("torch")
    chosen = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    assert resolve_device(Namespace(device="cuda:1")) == "cuda"
    assert chosen == [1]
    with pytest.raises(InputError, match="--device cuda:2: torch finds 2 here, from cuda:0 on"):
        resolve_device(Namespace(device="cuda:2"))


def test_devices_that_nobody_has_tried(monkeypatch, messages, capsys):
    torch = pytest.importorskip("torch")
    with pytest.raises(InputError, match="there is no device 'mps' here"):
        resolve_device(Namespace(device="mps"))
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert resolve_device(Namespace(device="mps")) == "mps"
    (line,) = capsys.readouterr().err.splitlines()
    assert line == "warning: --device mps: nothing of this package has been tried on such a device"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, {"GOMP_SPINCOUNT": "10000"}),
        ({"GOMP_SPINCOUNT": "5"}, {"GOMP_SPINCOUNT": "5"}),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, {"OMP_WAIT_POLICY": "ACTIVE"}),
        ({"MKL_CBWR": "AVX2"}, {"GOMP_SPINCOUNT": "10000", "MKL_CBWR": "AVX2"}),
    ],
)
def test_libraries_compute_as_the_user_says_or_as_we_do(given, expected):
    cli.prepare(given)
    assert given == {"MKL_CBWR": "AUTO,STRICT", **expected}

import errno
import io
import logging
import os
import sys
import time
import warnings

import pytest
from sppnet.data import progress
from sppnet.data.errors import MisuseWarning
from sppnet.data.progress import expecting, log, messages_on_stderr, notice_if_slow, recording, track, warn

on_stderr = pytest.mark.usefixtures("messages")


class Terminal(io.StringIO):
    def isatty(self):
        return True


@on_stderr
@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
@pytest.mark.parametrize("quiet", [False, True])
def test_items_go_by_untouched(monkeypatch, stream, quiet):
    monkeypatch.setattr(sys, "stderr", stream())
    assert list(track([3, 1, 2], "things", quiet=quiet)) == [3, 1, 2]
    assert list(track(iter("ab"), "things", total=2, quiet=quiet)) == ["a", "b"]
    assert list(track([], "things", quiet=quiet)) == []
    log("note", quiet=quiet)
    said = sys.stderr.getvalue()
    assert ("things" in said) is not quiet
    assert ("note\n" in said) is not quiet


@on_stderr
def test_plain_lines_come_now_and_then_and_tell_the_time_left(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    for _ in track(range(100), "things"):
        now[0] += 1.0
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "things: 10/100, 1:30 left"
    assert lines[-2:] == ["things: 90/100, 10.0 s left", "things: 100 in 1:40"]
    assert len(lines) == 10


@on_stderr
def test_items_may_count_for_several(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    for item in track([30, 50, 20], "things", 100, size=lambda item: item):
        now[0] += item
    assert capsys.readouterr().err.splitlines() == [
        "things: 30/100, 1:10 left",
        "things: 80/100, 20.0 s left",
        "things: 100 in 1:40",
    ]
    monkeypatch.setattr(sys, "stderr", Terminal())
    assert list(track([30, 50, 20], "things", 100, size=lambda item: item)) == [30, 50, 20]
    assert "100/100" in sys.stderr.getvalue()


@on_stderr
def test_the_time_left_in_all_stages_is_corrected_by_the_stages_that_are_done(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])

    def run(label, count, seconds):
        for _ in track(range(count), label):
            now[0] += seconds

    with expecting([("maps", 100.0), ("lost", 7.0), ("mining", 20.0), ("maps", 50.0)]):
        run("maps", 20, 10.0)  # twice as slow as expected
        run("unknown", 2, 11.0)
        run("mining", 4, 10.0)
        run("maps", 2, 10.0)
    run("maps", 2, 10.0)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "maps: 1/20, 3:10 left, 4:27 to the end"
    assert "unknown: 1/2, 11.0 s left" in lines
    # 222 seconds for what was to take 100: so the last stage takes 111.
    assert "mining: 1/4, 30.0 s left, 2:21 to the end" in lines
    assert lines[-4:-2] == ["maps: 1/2, 10.0 s left, 10.0 s to the end", "maps: 2 in 20.0 s"]
    assert lines[-2:] == ["maps: 1/2, 10.0 s left", "maps: 2 in 20.0 s"]


@on_stderr
def test_a_bar_shows_the_time_left_in_all_stages(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    with expecting([("maps", 100.0), ("mining", 20.0)]):
        for _ in track(range(2), "maps"):
            now[0] += 10.0
    assert "30.0 s to the end" in sys.stderr.getvalue()


@on_stderr
def test_without_a_total_the_time_gone_is_told(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    for _ in track(iter(range(2)), "things"):
        now[0] += 3000.0
    assert capsys.readouterr().err.splitlines() == [
        "things: 1 in 50:00",
        "things: 2 in 1:40:00",
        "things: 2 in 1:40:00",
    ]


@on_stderr
def test_results_on_stdout_stay_clean(capsys):
    list(track([1], "things"))
    log("note")
    assert capsys.readouterr().out == ""


@on_stderr
def test_slow_block_is_spoken_of_and_a_quick_one_is_not(capsys):
    with notice_if_slow("this takes long", seconds=0.01):
        time.sleep(0.2)
    assert capsys.readouterr().err == "this takes long\n"
    with notice_if_slow("this takes long", seconds=30):
        pass
    with notice_if_slow("this takes long", quiet=True, seconds=0.01):
        time.sleep(0.1)
    assert capsys.readouterr().err == ""


def test_a_program_gets_messages_through_the_logger_and_nothing_on_stderr(caplog, capsys):
    caplog.set_level(logging.INFO, "sppnet")
    log("going on")
    log("going on", quiet=True)
    warn("a.jpg: broken")
    list(track([1], "things"))
    list(track([1], "things", quiet=True))
    found = [(record.name, record.levelname, record.getMessage()) for record in caplog.records]
    assert found[:2] == [("sppnet", "INFO", "going on"), ("sppnet", "WARNING", "a.jpg: broken")]
    assert [line.startswith("things: 1 in ") for _, _, line in found[2:]] == [True]
    assert capsys.readouterr() == ("", "")


def test_a_program_that_does_not_ask_for_them_gets_no_messages_but_warnings(caplog):
    log("going on")
    warn("a.jpg: broken")
    assert [record.getMessage() for record in caplog.records] == ["a.jpg: broken"]


def test_quiet_lets_what_failed_through(capsys):
    with messages_on_stderr(quiet=True):
        log("going on")
        warn("a.jpg: 100 % broken")
    assert capsys.readouterr().err == "a.jpg: 100 % broken\n"


def test_a_log_on_a_full_disk_stops_nothing(monkeypatch):
    class Full(io.StringIO):
        def write(self, text):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(sys, "stderr", Full())
    with messages_on_stderr():
        log("going on")
        warn("a.jpg: broken")


def test_messages_are_on_stderr_once_and_inside_the_block_alone(capsys, caplog):
    logger = logging.getLogger("sppnet")
    before = list(logger.handlers), logger.level, logger.propagate
    root = logging.StreamHandler()
    logging.getLogger().addHandler(root)
    try:
        with pytest.raises(KeyError), messages_on_stderr():
            {}[log("inside")]
    finally:
        logging.getLogger().removeHandler(root)
    assert (list(logger.handlers), logger.level, logger.propagate) == before
    log("outside")
    assert capsys.readouterr().err == "inside\n"


@pytest.mark.parametrize("quiet", [False, True])
def test_warnings_are_one_line_there_and_say_nothing_of_the_code(capsys, quiet):
    with messages_on_stderr(quiet):
        for _ in range(2):
            warnings.warn("odd scores", MisuseWarning, stacklevel=1)
        assert capsys.readouterr().err == "warning: odd scores\n" * 2
        warnings.warn("overflow\n  in a sum", RuntimeWarning, stacklevel=1)
        assert capsys.readouterr().err == "sppnet: warning: overflow in a sum\n"
        with pytest.warns(DeprecationWarning, match="old"):
            warnings.warn("old", DeprecationWarning, stacklevel=1)
    with pytest.warns(MisuseWarning):
        warnings.warn("odd scores", MisuseWarning, stacklevel=1)
    assert "odd scores" not in capsys.readouterr().err


def test_times_and_messages_of_a_job_are_recorded(monkeypatch):
    clock = iter(range(100))
    monkeypatch.setattr("sppnet.data.progress.time.monotonic", lambda: float(next(clock)))
    with recording() as course:
        for quiet in (True, True):
            assert list(track([1, 2], "maps", quiet=quiet)) == [1, 2]
        log("three hard ones", quiet=True)
        with recording() as inner:
            log("of another job", quiet=True)
    log("after it", quiet=True)
    assert course.seconds == {"maps": 2.0}
    assert course.messages == ["three hard ones"]
    assert inner.messages == ["of another job"]

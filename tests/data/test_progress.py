import io
import sys
import time

import pytest
from sppnet.data import progress
from sppnet.data.progress import log, notice_if_slow, track


class Terminal(io.StringIO):
    def isatty(self):
        return True


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


def test_plain_lines_come_now_and_then_and_tell_the_time_left(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    for _ in track(range(100), "things"):
        now[0] += 1.0
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "things: 10/100, 1:30 left"
    assert lines[-2:] == ["things: 90/100, 10.0 s left", "things: 100 in 1:40"]
    assert len(lines) == 10


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


def test_results_on_stdout_stay_clean(capsys):
    list(track([1], "things"))
    log("note")
    assert capsys.readouterr().out == ""


def test_slow_block_is_spoken_of_and_a_quick_one_is_not(capsys):
    with notice_if_slow("this takes long", seconds=0.01):
        time.sleep(0.2)
    assert capsys.readouterr().err == "this takes long\n"
    with notice_if_slow("this takes long", seconds=30):
        pass
    with notice_if_slow("this takes long", quiet=True, seconds=0.01):
        time.sleep(0.1)
    assert capsys.readouterr().err == ""

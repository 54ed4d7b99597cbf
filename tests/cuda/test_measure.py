"""The script that measures on a GPU: its jobs are commands that there are, and none of them loses the others."""

import json
import runpy
import sys
from pathlib import Path

import pytest
from sppnet.scripts.cli import build_parser

MEASURE = runpy.run_path(str(Path(__file__).with_name("measure.py")), run_name="measure")


def test_its_jobs_are_commands_and_tests_that_there_are(tmp_path, request):
    for name, arguments in MEASURE["jobs"](tmp_path).items():
        if arguments[1] == "pytest":
            assert all((request.config.rootpath / path).exists() for path in arguments if path.startswith("tests/"))
        else:
            assert arguments[:2] == ["-m", "sppnet"], name
            build_parser().parse_args(arguments[2:])


@pytest.mark.parametrize(("limit", "statuses"), [(60, [0, 3, 0]), (0, ["left out: 0 s were left"] * 3)])
def test_a_job_that_fails_or_has_no_time_does_not_cost_the_others(tmp_path, monkeypatch, limit, statuses):
    planted = {"good": ["-c", "print('seen')"], "bad": ["-c", "raise SystemExit(3)"], "last": ["-c", "pass"]}
    names = MEASURE["run"].__globals__
    monkeypatch.setitem(names, "jobs", lambda folder: planted)
    monkeypatch.setitem(names, "COPIES", 2)
    done = MEASURE["run"](tmp_path, limit)
    assert [job["status"] for job in done] == statuses
    report = json.loads((tmp_path / "measured.json").read_text())
    assert [job["job"] for job in report["jobs"]] == ["good", "bad", "last"]
    assert report["machine"]["python"] == sys.version.split()[0]
    assert len(list((tmp_path / "photographs").iterdir())) == 10
    if limit:
        assert (tmp_path / "good.txt").read_text() == "seen\n"

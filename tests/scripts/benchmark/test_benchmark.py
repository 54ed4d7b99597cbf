"""``sppnet benchmark``: the output around a measurement."""

import json
import sys
from types import ModuleType

import pytest
from sppnet.scripts import cli


@pytest.fixture
def _planted(monkeypatch):
    """Puts a benchmark of no cost in the place of ``pooling``."""
    module = ModuleType("sppnet.scripts.benchmark.pooling")
    module.HELP = "planted"
    module.add_arguments = lambda parser: parser.add_argument("--repeats", type=int, default=3)
    module.measure = lambda args: {"ratio": 10.0 * args.repeats}
    module.table = lambda result: f"ratio {result['ratio']}"
    monkeypatch.setitem(sys.modules, "sppnet.scripts.benchmark.pooling", module)


@pytest.mark.usefixtures("_planted")
def test_table_on_stdout_and_figures_with_their_machine_in_the_file(capsys, tmp_path):
    file = tmp_path / "new" / "pooling.json"
    assert cli.main(["benchmark", "pooling", "--repeats", "4", "--json", str(file)]) == 0
    assert capsys.readouterr() == ("ratio 40.0\n", "")
    report = json.loads(file.read_text())
    assert report["benchmark"] == "pooling"
    assert report["command"] == f"sppnet benchmark pooling --repeats 4 --json {file}"
    assert report["result"] == {"ratio": 40.0}
    assert report["machine"]["cores"] >= 1
    assert "numba" in report["machine"]["packages"]


@pytest.mark.usefixtures("_planted")
def test_without_json_nothing_is_written(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["benchmark", "pooling"]) == 0
    assert capsys.readouterr().out == "ratio 30.0\n"
    assert list(tmp_path.iterdir()) == []

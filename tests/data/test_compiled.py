"""Compiled functions with and without a cache folder.

The functions live in a module of their own in a new Python, since numba decides where to keep code when it meets one.
A folder that is a file stands for one that cannot be made: to the user root every other folder can be written.
"""

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from sppnet.data.compiled import compiled, is_kept

MODULE = """
import json
from sppnet.data.compiled import compiled, is_kept

@compiled(nogil=True)
def twice(x):
    return 2 * x

@compiled(nogil=True, fastmath=True)
def four_times(x):
    return twice(twice(x))
"""

SHOW = """
from loops import *
print(json.dumps([four_times(5), is_kept(four_times), sum(four_times.stats.cache_hits.values())]))
"""


@pytest.fixture
def run(tmp_path):
    """Runs the module as a user with this home; ``kept_beside`` says whether code can be kept beside the module."""
    folder = tmp_path / "module"
    folder.mkdir()
    (folder / "loops.py").write_text(MODULE)
    package = str(Path(sys.modules["sppnet"].__file__).parents[1])

    def call(home, kept_beside, code=SHOW, **more):
        if not kept_beside:
            (folder / "__pycache__").write_text("no folder")
        hidden = {"NUMBA_CACHE_DIR", "NUMBA_CACHE_LOCATOR_CLASSES", "XDG_CACHE_HOME", "NUMBA_DISABLE_JIT", "HOME"}
        environment = {name: value for name, value in os.environ.items() if name not in hidden}
        environment |= {"PYTHONPATH": os.pathsep.join([package, str(folder), *sys.path]), **more}
        environment["HOME"] = str(home)
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, cwd=tmp_path, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        return json.loads(done.stdout)

    return call


def test_code_is_kept_beside_the_module(run, tmp_path):
    assert run(tmp_path / "home", kept_beside=True) == [20, True, 0]
    assert run(tmp_path / "home", kept_beside=True) == [20, True, 1]
    assert not (tmp_path / "home").exists()


def test_or_in_the_users_home(run, tmp_path):
    assert run(tmp_path / "home", kept_beside=False) == [20, True, 0]
    assert list((tmp_path / "home").rglob("*.nbc"))


def test_without_either_it_is_compiled_all_the_same(run, tmp_path):
    (tmp_path / "home").write_text("no folder")
    assert run(tmp_path / "home", kept_beside=False) == [20, False, 0]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home", "module"]


def test_functions_that_are_not_compiled_need_no_folder(run, tmp_path):
    (tmp_path / "home").write_text("no folder")
    code = "from loops import *; print(json.dumps([four_times(5), is_kept(four_times)]))"
    assert run(tmp_path / "home", kept_beside=False, code=code, NUMBA_DISABLE_JIT="1") == [20, True]


def test_a_compiled_function_can_be_pickled():
    from sppnet.proposals.heap import push

    assert isinstance(push.stats.cache_path, str) == is_kept(push)
    assert pickle.loads(pickle.dumps(push)).py_func.__name__ == "push"


def test_an_unknown_home_makes_no_folder_in_the_working_one(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for name in ("XDG_CACHE_HOME", "NUMBA_CACHE_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("os.path.expanduser", lambda path: path)

    @compiled()
    def same(x):
        return x

    assert same(3) == 3
    assert not is_kept(same)
    assert list(tmp_path.iterdir()) == []

import hashlib
import json
import os
import stat

import pytest
from sppnet.data.store import atomic_path, content_key, file_key, write_json


def test_file_key_is_sha256(tmp_path):
    data = bytes(range(256)) * 9000  # more than one block
    (tmp_path / "f").write_bytes(data)
    assert file_key(tmp_path / "f") == hashlib.sha256(data).hexdigest()


def test_content_key_does_not_depend_on_dict_order_but_on_all_else():
    assert content_key({"a": 1, "b": 2}) == content_key({"b": 2, "a": 1})
    keys = [
        content_key(*parts) for parts in [(), ("ab",), ("a", "b"), ("a", "b", ""), (b"ab",), ({"a": 1},), (1,), (1.5,)]
    ]
    assert len(set(keys)) == len(keys)


def test_atomic_path_leaves_the_whole_file_with_ordinary_rights(tmp_path):
    target = tmp_path / "new" / "file.txt"
    with atomic_path(target) as temporary:
        temporary.write_text("whole")
        assert not target.exists()
        assert temporary.suffix == ".txt"
    assert target.read_text() == "whole"
    assert os.listdir(target.parent) == ["file.txt"]
    (tmp_path / "plain").write_text("")
    assert stat.S_IMODE(target.stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)


@pytest.mark.parametrize("name", ["x" * 251 + ".jpg", "ü" * 127, "x" * 50 + "." + "y" * 200])
def test_atomic_path_takes_the_longest_names(tmp_path, name):
    with atomic_path(tmp_path / name) as temporary:
        temporary.write_text("whole")
    assert os.listdir(tmp_path) == [name]


def test_atomic_path_leaves_the_old_file_when_the_block_fails(tmp_path):
    target = tmp_path / "file.txt"
    target.write_text("old")

    def fail():
        with atomic_path(target) as temporary:
            temporary.write_text("half")
            raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        fail()
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["file.txt"]


def test_write_json_reads_back(tmp_path):
    value = {"a": [1, 2.5, None], "b": "Kühe"}
    write_json(tmp_path / "v.json", value)
    assert json.loads((tmp_path / "v.json").read_text()) == value

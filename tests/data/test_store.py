import errno
import hashlib
import json
import os
import re
import stat
import subprocess
import sys

import numpy as np
import pytest
from sppnet.data.errors import InputError
from sppnet.data.store import (
    Checkpoint,
    atomic_path,
    content_key,
    file_key,
    load_array,
    load_arrays,
    locked,
    read_json,
    save_array,
    write_json,
    write_text,
)


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


def test_a_file_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    done, fsync, replace = [], os.fsync, os.replace

    def flush(handle):
        done.append("folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file")
        fsync(handle)

    monkeypatch.setattr(os, "fsync", flush)
    monkeypatch.setattr(os, "replace", lambda *paths: done.append("name") or replace(*paths))
    write_text(tmp_path / "file.txt", "durable")
    assert done == ["file", "name", *(["folder"] if os.name == "posix" else [])]
    done.clear()
    with atomic_path(tmp_path / "entry", durable=False) as temporary:
        temporary.write_text("entry of a cache")
    assert done == ["name"]


class RustError(Exception):
    """Like safetensors', which is no OSError."""


@pytest.mark.parametrize(
    ("error", "number", "reason"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), errno.ENOSPC, "No space left on device"),
        (OSError("102144 requested and 40896 written"), errno.EIO, "102144 requested and 40896 written"),
        (RustError("Error while serializing: I/O error: ... (os error 28)"), 28, os.strerror(28)),
    ],
)
def test_a_write_that_fails_names_its_file(tmp_path, error, number, reason):
    target = tmp_path / "file.txt"
    target.write_text("old")

    def fail():
        with atomic_path(target) as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises(OSError, match=f"{re.escape(reason)}: ") as caught:
        fail()
    assert (caught.value.errno, caught.value.filename) == (number, str(target))
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["file.txt"]


def test_an_error_about_another_file_keeps_its_name(tmp_path):
    def fail():
        with atomic_path(tmp_path / "copy"):
            (tmp_path / "original").read_bytes()

    with pytest.raises(FileNotFoundError, match="original"):
        fail()


def test_a_folder_in_the_place_of_a_result_is_named_and_stays(tmp_path):
    (tmp_path / "file.txt").mkdir()
    with pytest.raises(OSError, match=re.escape(f"'{tmp_path / 'file.txt'}'")):
        write_text(tmp_path / "file.txt", "new")
    assert (tmp_path / "file.txt").is_dir()
    assert os.listdir(tmp_path) == ["file.txt"]


@pytest.fixture
def stored(tmp_path):
    """The file of an array of several pages on the disk, and the array."""
    array = np.random.default_rng(0).normal(size=(40, 30, 8)).astype(np.float16)
    save_array(tmp_path / "a.npy", array)
    return tmp_path / "a.npy", array


def test_an_array_comes_back_and_is_one_of_numpy(stored):
    path, array = stored
    np.testing.assert_array_equal(load_array(path), array)
    np.testing.assert_array_equal(np.load(path), array)
    for other in (np.zeros((0, 4), np.int32), np.float32(3)):
        save_array(path, other)
        assert load_array(path).dtype == other.dtype
        assert load_array(path).shape == other.shape


def test_every_damage_to_an_array_is_noticed(stored):
    path, _ = stored
    whole = path.read_bytes()
    for start in range(0, len(whole), 4096):
        path.write_bytes(whole[:start] + bytes(len(whole[start : start + 4096])) + whole[start + 4096 :])
        assert load_array(path) is None
    for start in range(0, len(whole) - 16, 997):
        path.write_bytes(whole[:start])
        assert load_array(path) is None
    path.write_bytes(whole.replace(b"(40, 30, 8)", b"(4000000000000, 30, 8)"))
    assert load_array(path) is None
    path.unlink()
    assert load_array(path) is None
    path.mkdir()
    assert load_array(path) is None
    assert not path.exists()


def test_an_array_without_a_checksum_is_one_of_an_earlier_version(stored):
    path, array = stored
    np.save(path, array)
    np.testing.assert_array_equal(load_array(path), array)
    array[3, 4, 5] = np.nan
    np.save(path, array)
    assert load_array(path) is None


@pytest.mark.parametrize("text", ["", "{", '{"a": 1', '{"a": NaN}', '{"a": -Infinity}', '"\0\0"', "[" * 10_000])
def test_damaged_json_counts_as_none(tmp_path, text):
    assert read_json(tmp_path / "a.json") is None
    write_json(tmp_path / "a.json", {"a": 1})
    assert read_json(tmp_path / "a.json") == {"a": 1}
    (tmp_path / "a.json").write_text(text)
    assert read_json(tmp_path / "a.json") is None


@pytest.mark.parametrize(
    "damage", ["member cut", "wrong byte", "version", "encrypted", "nan", "shape", "missing", "folder"]
)
def test_damaged_checkpoint_counts_as_none_and_can_be_replaced(tmp_path, damage):
    checkpoint, shapes = Checkpoint(tmp_path, "stage", "key"), {"a": (None, 3), "b": ()}
    arrays = {"a": np.arange(600.0).reshape(200, 3), "b": np.array(5)}
    checkpoint.save(arrays)
    np.testing.assert_array_equal(checkpoint.load(shapes)["a"], arrays["a"])
    content = bytearray(checkpoint.path.read_bytes())
    directory = content.rindex(b"PK\1\2")
    if damage == "member cut":
        content[1000:2000] = bytes(1000)
    elif damage == "wrong byte":
        content[3000] ^= 1
    elif damage == "version":
        content[directory + 6] = content[content.index(b"PK\1\2") + 6] = 99
    elif damage == "encrypted":
        content[directory + 8] |= 1
    checkpoint.path.write_bytes(content)
    if damage == "nan":
        checkpoint.save(arrays | {"a": np.full((2, 3), np.nan)})
    elif damage == "shape":
        checkpoint.save(arrays | {"a": np.zeros((2, 4))})
    elif damage == "missing":
        checkpoint.save({"a": arrays["a"]})
    elif damage == "folder":
        checkpoint.path.unlink()
        (checkpoint.path / "sub").mkdir(parents=True)
    assert checkpoint.load(shapes) is None
    checkpoint.save(arrays)
    assert checkpoint.load(shapes)["b"] == 5


HOLDER = """
import sys
from sppnet.data.store import locked
with locked(sys.argv[1]):
    print("locked", flush=True)
    sys.stdin.read()
"""


def test_the_lock_of_a_killed_process_is_free_and_what_it_left_is_removed(tmp_path):
    work = tmp_path / "work"
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(work)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert process.stdout.readline() == b"locked\n"
        with pytest.raises(InputError, match=f"work: another run .* \\(process {process.pid}\\)"), locked(work):
            pass
    finally:
        process.kill()
        process.communicate()
    (work / "maps").mkdir()
    mine = work / "maps" / ".mine.npy"
    mine.write_text("")
    half_written = atomic_path(work / "maps" / "a.npy")
    left = half_written.__enter__()
    with locked(work):
        assert not left.exists()
    assert mine.exists()


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_a_damaged_entry_is_none_whatever_the_damage(tmp_path, suffix):
    """Cut, or with some bytes changed, most of them in the headers at the start and, of an archive, at the end."""
    array, random = np.arange(40, dtype=np.float16).reshape(10, 4), np.random.default_rng(0)
    path = tmp_path / f"a{suffix}"
    if suffix == ".npy":
        save_array(path, array)
    else:
        np.savez(path, boxes=array)
    whole, found = path.read_bytes(), []
    for _ in range(2000):
        content = bytearray(whole[: random.integers(len(whole)) if random.random() < 0.15 else len(whole)])
        for _ in range(random.integers(1, 5) if content else 0):
            places = random.integers(len(content)), random.integers(128), len(content) - 1 - random.integers(250)
            content[int(np.clip(random.choice(places), 0, len(content) - 1))] = random.integers(256)
        path.write_bytes(content)
        found.append(load_array(path) if suffix == ".npy" else load_arrays(path, {"boxes": (None, 4)}))
    assert sum(one is None for one in found) > 1500
    for one in found:
        if one is not None:
            np.testing.assert_array_equal(one if suffix == ".npy" else one["boxes"], array)

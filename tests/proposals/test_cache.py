"""The cache of boxes: keyed by content, never stale, never broken."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from sppnet.data.errors import ImageError
from sppnet.data.image import write_image
from sppnet.proposals.cache import ProposalCache


class Counting:
    """A proposer that counts its calls."""

    name = "counting"

    def __init__(self, version=1):
        self.version = version
        self.calls = []

    def options(self):
        return {"version": self.version}

    def __call__(self, image, image_id=None):
        self.calls.append(image_id)
        height, width = image.shape[:2]
        return np.array([[0, 0, width, height]], np.float32)


def picture(path, value=0):
    write_image(path, np.full((6, 9, 3), value, np.uint8))
    return path


def entries(folder):
    return sorted(folder.glob("*.npz"))


def test_boxes_are_made_once_and_found_by_content(tmp_path):
    proposer = Counting()
    cache = ProposalCache(tmp_path / "cache", proposer)
    first = picture(tmp_path / "a.png")
    assert cache.get(first).tolist() == [[0, 0, 9, 6]]
    renamed = first.rename(tmp_path / "b.png")
    again = ProposalCache(tmp_path / "cache", proposer).get(renamed)
    assert again.tolist() == [[0, 0, 9, 6]]
    assert again.dtype == np.float32
    assert proposer.calls == ["a"]
    cache.get(picture(tmp_path / "b.png", value=9))
    assert proposer.calls == ["a", "b"]


def test_other_options_and_other_methods_have_other_entries(tmp_path):
    path = picture(tmp_path / "a.png")
    proposers = [Counting(1), Counting(2), Counting(1)]
    proposers[2].name = "other"
    for proposer in proposers:
        ProposalCache(tmp_path / "cache", proposer).get(path)
    assert [len(proposer.calls) for proposer in proposers] == [1, 1, 1]
    assert len(entries(tmp_path / "cache")) == 3


def test_an_image_at_hand_is_not_read_again(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(b"not an image")
    boxes = ProposalCache(tmp_path / "cache", Counting()).get(path, np.zeros((3, 4, 3), np.uint8))
    assert boxes.tolist() == [[0, 0, 4, 3]]


@pytest.mark.parametrize(
    "damage",
    [b"", b"PK\x03\x04", b"something else", "half", "other array", "other shape", "nan", "page of zeros", "folder"],
)
def test_a_damaged_entry_is_made_again(tmp_path, damage):
    proposer = Counting()
    cache = ProposalCache(tmp_path / "cache", proposer)
    path = picture(tmp_path / "a.png")
    cache.get(path)
    (entry,) = entries(tmp_path / "cache")
    if damage == "half":
        entry.write_bytes(entry.read_bytes()[: entry.stat().st_size // 2])
    elif damage == "other array":
        np.savez(entry, windows=np.zeros((1, 4)))
    elif damage == "other shape":
        np.savez(entry, boxes=np.zeros((1, 5)))
    elif damage == "nan":
        np.savez(entry, boxes=np.full((1, 4), np.nan))
    elif damage == "page of zeros":
        content = entry.read_bytes()
        entry.write_bytes(content[:80] + bytes(100) + content[180:])
    elif damage == "folder":
        entry.unlink()
        (entry / "sub").mkdir(parents=True)
    else:
        entry.write_bytes(damage)
    assert cache.get(path).tolist() == [[0, 0, 9, 6]]
    assert cache.get(path).tolist() == [[0, 0, 9, 6]]
    assert len(proposer.calls) == 2


def test_no_boxes_keep_their_shape(tmp_path):
    proposer = Counting()
    path = picture(tmp_path / "a.png")
    cache = ProposalCache(tmp_path / "cache", lambda image, image_id: np.zeros((0, 4), np.float32))
    cache.proposer.name, cache.proposer.options = proposer.name, proposer.options
    for _ in range(2):
        boxes = cache.get(path)
        assert boxes.shape == (0, 4)
        assert boxes.dtype == np.float32


def test_images_that_cannot_be_read_are_named(tmp_path):
    cache = ProposalCache(tmp_path / "cache", Counting())
    with pytest.raises(ImageError, match=r"nowhere.png"):
        cache.get(tmp_path / "nowhere.png")
    (tmp_path / "text.png").write_bytes(b"no image")
    with pytest.raises(ImageError, match=r"text.png"):
        cache.get(tmp_path / "text.png")
    assert not (tmp_path / "cache").exists()


ENDLESS = """
import sys, numpy as np
from sppnet.proposals.cache import ProposalCache
class Slow:
    name = "slow"
    number = 0
    def options(self): return {"number": self.number}
    def __call__(self, image, image_id=None): return np.zeros((200_000, 4), np.float32)
cache = ProposalCache(sys.argv[2], Slow())
while True:
    cache.get(sys.argv[1])
    Slow.number += 1
    print(Slow.number, flush=True)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs kill -9")
def test_a_killed_process_leaves_only_whole_entries(tmp_path):
    path = picture(tmp_path / "a.png")
    process = subprocess.Popen(
        [sys.executable, "-c", ENDLESS, str(path), str(tmp_path / "cache")], stdout=subprocess.PIPE
    )
    try:
        process.stdout.readline()
        time.sleep(0.05)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
    whole = [entry for entry in entries(tmp_path / "cache") if not entry.name.startswith(".")]
    assert whole
    for entry in whole:
        with np.load(entry, allow_pickle=False) as archive:
            assert archive["boxes"].shape == (200_000, 4)

"""Free memory returns to the system, if the C library supports it."""

import math
import subprocess
import sys

import pytest
from sppnet.data import memory

# Blocks of growing size, each with a small one behind it that stays: a heap full of holes.
HOLES = """
import sys
import numpy as np
from sppnet.data.memory import EVERY, after_image

def resident():
    return int(open("/proc/self/statm").read().split()[1])

np.ones(31_000_000, np.uint8)  # from here on, glibc keeps blocks of this size on the heap
blocks, small = [], []
for number in range(60):
    blocks.append(np.ones(2_000_000 + 5000 * number, np.uint8))
    small.append(np.ones(5000, np.uint8))
del blocks
full = resident()
for _ in range(EVERY):
    after_image()
print(full, resident())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts the pages that Linux reports")
def test_holes_in_the_heap_go_back():
    run = subprocess.run([sys.executable, "-c", HOLES], capture_output=True, text=True, check=True)
    full, after = map(int, run.stdout.split())
    if memory._trim().__name__ == "<lambda>":
        pytest.skip("this C library has no malloc_trim")
    assert (full - after) * 4096 > 60e6


def test_libraries_without_the_function_do_nothing(monkeypatch):
    memory._trim.cache_clear()
    monkeypatch.setattr("ctypes.CDLL", lambda name: object())
    try:
        for _ in range(memory.EVERY):
            memory.after_image()
    finally:
        memory._trim.cache_clear()


def test_memory_that_is_left_is_that_of_the_machine_or_of_the_group(tmp_path):
    (tmp_path / "meminfo").write_text("MemTotal:  9 kB\nMemFree:  1 kB\nMemAvailable:    2000 kB\n")
    assert memory._left(tmp_path / "meminfo") == 2000 * 1024
    (tmp_path / "meminfo").write_text("MemFree:  1 kB\n")
    assert memory._left(tmp_path / "meminfo") == memory._left(tmp_path / "missing") == math.inf
    assert memory._left_to_group(tmp_path) == math.inf
    (tmp_path / "memory.current").write_text("300\n")
    (tmp_path / "memory.stat").write_text("anon 200\nfile 100\ninactive_file 60\nactive_file 30\n")
    for most, left in (("max\n", math.inf), ("1000\n", 790), ("200\n", 0)):
        (tmp_path / "memory.max").write_text(most)
        assert memory._left_to_group(tmp_path) == left
    (tmp_path / "memory.stat").write_text("anon 200\n")
    assert memory._left_to_group(tmp_path) == 0
    (tmp_path / "memory.max").write_text("1000\n")
    assert memory._left_to_group(tmp_path) == 700
    assert memory.available() > 0

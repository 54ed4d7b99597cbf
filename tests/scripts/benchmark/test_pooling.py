"""``sppnet benchmark pooling``: the report of a small run, not its speed."""

from argparse import Namespace

import numpy as np
import pytest
from sppnet.scripts.benchmark import pooling as bench_pooling
from sppnet.scripts.cli import main


def test_both_sides_pool_the_same_bits():
    result = bench_pooling.measure(Namespace(windows=30, repeats=2, device="cpu"))
    assert result["bit_equal"] is True
    assert set(result["ratios"]) == set(result["times"]) - {"roi_pool, four calls"}
    fresh = {name for name in result["ratios"] if not name.endswith(", rows reused")}
    assert set(result["ratios"]) == fresh | {f"{name}, rows reused" for name in fresh}
    assert all(len(times["seconds"]) == 2 for times in result["times"].values())
    text = bench_pooling.table(result)
    assert "Pooling 30 windows of a 256 x 50 x 60 map, levels 1, 2, 3, 6" in text
    assert "equal bit by bit" in text


def test_the_table_of_a_gpu_names_the_memorys_bound():
    """Its kernels, which take minutes in the interpreter, run where there is one."""
    result = bench_pooling.measure(Namespace(windows=30, repeats=2, device="cpu"))
    result |= {"device": "cuda", "memory": {"bytes_a_second": 3.1e12, "seconds": {"float32": 3.4e-5, "half": 1.7e-5}}}
    text = bench_pooling.table(result)
    assert "levels 1, 2, 3, 6, cuda, milliseconds" in text
    assert "the memory copies 3100 GB/s" in text
    assert text.endswith("takes 0.034 ms at least, 0.017 in half precision")


def test_windows_stay_on_the_map_and_reach_its_ends():
    windows = bench_pooling.random_windows(np.random.default_rng(0), 5000)
    assert (windows[:, :2] >= 0).all()
    assert (windows[:, :2] < windows[:, 2:]).all()
    assert windows[:, 2:].max(axis=0).tolist() == [bench_pooling.WIDTH - 1, bench_pooling.HEIGHT - 1]


@pytest.mark.parametrize("option", ["--windows", "--repeats"])
def test_refuses_to_measure_nothing(option, capsys):
    assert main(["benchmark", "pooling", option, "0"]) == 2
    assert f"argument {option}: expected a whole number from 1 up, got '0'" in capsys.readouterr().err

"""Timing: order of calls, warm-up and synchronisation; no test depends on durations."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sppnet.eval import timing
from sppnet.eval.machine import describe_machine
from sppnet.eval.timing import StageTimer, Times, duration, fastest, interleave, ratios, synchroniser


@pytest.fixture
def clock(monkeypatch):
    """A clock that advances only by ``clock.append(seconds)``."""
    passed = []
    monkeypatch.setattr(timing, "perf_counter", lambda: sum(passed))
    return passed


def test_interleave_calls_in_turns_and_leaves_out_the_warm_up(clock):
    calls = []

    def job(name, costs):
        def run():
            calls.append(name)
            clock.append(costs.pop(0))

        return run

    times = interleave({"a": job("a", [100, 1, 2]), "b": job("b", [200, 8, 4])}, repeats=2, warmup=1)
    assert calls == ["a", "b"] * 3
    assert times["a"].seconds == (1, 2)
    assert times["b"].seconds == (8, 4)
    assert ratios(times["b"], times["a"]).seconds == (8, 2)


def test_interleave_waits_for_queued_work_before_each_reading(clock):
    """A job that only queues its work: the time appears once the queue is waited for."""
    queue = []

    def synchronise():
        clock.extend(queue)
        queue.clear()

    times = interleave({"a": lambda: queue.append(3), "b": lambda: queue.append(5)}, 2, 0, synchronise)
    assert times["a"].seconds == (3, 3)
    assert times["b"].seconds == (5, 5)


def test_interleave_of_nothing_and_of_wrong_counts():
    assert interleave({}, repeats=1) == {}
    with pytest.raises(ValueError, match="repeats >= 1 and warmup >= 0, got 0 and 1"):
        interleave({"a": int}, repeats=0)


def test_the_fastest_size_is_that_of_the_least_median(clock):
    seconds = {2: iter([0, 5, 5, 5]), 8: iter([99, 3, 3, 40]), 4: iter([0, 4, 4, 4])}
    assert fastest(lambda size: clock.append(next(seconds[size])), (2, 8, 4), 3, lambda: None) == 8


def test_stage_timer_collects_stages_in_order(clock):
    timer = StageTimer()
    for decode, pool in ((100, 100), (1, 10), (3, 30)):
        with timer.stage("decode"):
            clock.append(decode)
        with timer.stage("pool"):
            clock.append(pool)
        if decode == 100:
            timer.reset()
    assert list(timer.times()) == ["decode", "pool"]
    assert timer.times()["decode"].seconds == (1, 3)
    assert timer.times()["pool"].seconds == (10, 30)


def test_stage_timer_does_not_count_a_stage_that_failed(clock):
    timer = StageTimer()
    with pytest.raises(RuntimeError), timer.stage("pool"):
        raise RuntimeError
    assert timer.times() == {}


def test_times_know_their_median_and_spread():
    times = Times((5.0, 1.0, 2.0, 4.0, 3.0))
    assert times.median == 3.0
    assert times.quartiles == (2.0, 4.0)
    assert str(times) == "3000.0 ms (2000.0 to 4000.0)"
    assert Times((0.25,)).quartiles == (0.25, 0.25)
    assert json.loads(json.dumps(times.to_dict())) == {
        "median": 3.0,
        "quartiles": [2.0, 4.0],
        "seconds": [5, 1, 2, 4, 3],
    }
    with pytest.raises(ValueError, match="at least one time"):
        Times(())
    with pytest.raises(ValueError, match="same rounds on both sides, got 5 and 1"):
        ratios(times, Times((1.0,)))


@given(st.lists(st.floats(0, 1e3), min_size=1, max_size=40), st.floats(0, 100))
def test_percentiles_are_numpys(seconds, q):
    assert Times(tuple(seconds)).percentile(q) == pytest.approx(np.percentile(seconds, q), abs=1e-9)


def test_percentiles_meet_median_and_quartiles_and_have_bounds():
    times = Times((5.0, 1.0, 2.0, 4.0))
    assert times.percentile(50) == times.median == 3.0
    assert (times.percentile(25), times.percentile(75)) == times.quartiles
    assert (times.percentile(0), times.percentile(100)) == (1.0, 5.0)
    for q in (-1, 101, float("nan")):
        with pytest.raises(ValueError, match="percentile from 0 to 100"):
            times.percentile(q)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (0.0000342, "0.034 ms"), (0.0338, "34 ms"), (0.5, "500 ms"), (0.9961, "1 s"), (5.23, "5.2 s")],
)
def test_durations_are_short(seconds, text):
    assert duration(seconds) == text


def test_the_cpu_has_nothing_to_wait_for():
    assert synchroniser("cpu")() is None


def test_describe_machine_is_json_and_names_what_decides_speed():
    machine = json.loads(json.dumps(describe_machine()))
    assert machine["cores"] >= 1
    assert machine["cpu"]
    assert {"sppnet", "torch", "numba"} <= set(machine["packages"])
    assert any(package.startswith("opencv") for package in machine["packages"])

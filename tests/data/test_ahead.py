"""Background work: same results as ``map``, a bounded look-ahead, and a clean stop when closed."""

import gc
import threading
import weakref
from contextlib import closing

import pytest
from sppnet.data.ahead import ahead

PATIENCE = 30  # seconds until a test that waits for another thread gives up


class Counted:
    """The numbers from 0, and how many have been taken."""

    def __init__(self, count):
        self.numbers = iter(range(count))
        self.taken = 0

    def __iter__(self):
        return self

    def __next__(self):
        number = next(self.numbers)
        self.taken += 1
        return number


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("depth", [1, 2, 7])
@pytest.mark.parametrize("count", [0, 1, 2, 7, 40])
def test_same_as_map(count, depth, workers):
    assert list(ahead(str, range(count), depth, workers)) == list(map(str, range(count)))


def test_order_is_that_of_the_items_though_the_last_is_done_first():
    done = [threading.Event() for _ in range(4)]

    def function(number):
        if number < 3:
            assert done[number + 1].wait(PATIENCE)
        done[number].set()
        return number

    assert list(ahead(function, range(4), depth=3, workers=4)) == [0, 1, 2, 3]


@pytest.mark.parametrize("depth", [1, 3])
def test_next_results_are_computed_while_one_is_worked_on_and_no_more(depth):
    done = [threading.Event() for _ in range(10)]
    items = Counted(10)
    caller = threading.get_ident()

    def function(number):
        done[number].set()
        return number, threading.get_ident()

    results = ahead(function, items, depth, workers=2)
    assert items.taken == 0
    for number, thread in results:
        assert thread != caller
        last = min(number + depth, 9)
        assert all(event.wait(PATIENCE) for event in done[: last + 1])
        assert items.taken == last + 1
        assert not any(event.is_set() for event in done[last + 1 :])


def test_a_result_that_was_taken_is_let_go_before_the_next_is_awaited():
    class Large:
        pass

    second_began = threading.Event()
    alive = []

    def function(number):
        if number == 1:
            second_began.set()
        return Large()

    def items():
        yield from (0, 1)
        # From here on it is the second result that is asked for. The thread has let go of the first as well.
        assert second_began.wait(PATIENCE)
        gc.collect()
        alive.append(first() is not None)

    with closing(ahead(function, items(), depth=1)) as results:
        first = weakref.ref(next(results))
        next(results)
    assert alive == [False]


def test_what_the_function_raises_comes_at_its_item_and_is_the_end():
    def function(number):
        if number == 2:
            raise KeyError(number)
        return number

    threads = set(threading.enumerate())
    results = ahead(function, range(9), depth=4)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(KeyError, match="2"):
        next(results)
    assert list(results) == []
    assert set(threading.enumerate()) == threads


@pytest.mark.parametrize("interrupt", [None, KeyboardInterrupt])
def test_leaving_early_stops_the_work_and_leaves_no_thread(interrupt):
    called = []
    running, go_on = threading.Event(), threading.Event()

    def function(number):
        called.append(number)
        if number > 0:
            running.set()
            # Time for the caller to leave while this call runs and others wait their turn.
            go_on.wait(0.2)

    def leave():
        with closing(ahead(function, range(99), depth=50)) as results:
            next(results)
            assert running.wait(PATIENCE)
            if interrupt:
                raise interrupt

    threads = set(threading.enumerate())
    if interrupt:
        with pytest.raises(interrupt):
            leave()
    else:
        leave()
    assert set(threading.enumerate()) == threads
    assert len(called) < 51


def test_items_may_come_from_another_and_an_error_there_ends_both():
    threads = set(threading.enumerate())
    inner = ahead(lambda number: 6 // (3 - number), range(9))
    with closing(inner), closing(ahead(str, inner)) as outer, pytest.raises(ZeroDivisionError):
        list(outer)
    assert set(threading.enumerate()) == threads


@pytest.mark.parametrize(("depth", "workers"), [(0, 1), (2, 0), (-1, -1)])
def test_impossible_numbers_are_refused_at_once(depth, workers):
    with pytest.raises(ValueError, match=f"depth and workers must be at least 1, not {depth} and {workers}"):
        ahead(str, [], depth, workers)

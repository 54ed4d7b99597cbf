import gc
from contextlib import nullcontext

import pytest
from sppnet.scripts.common import compile_kernels, loading


@pytest.mark.parametrize(("kept", "said"), [(True, "once"), (False, "at each start")])
def test_the_message_says_how_often(monkeypatch, kept, said):
    messages = []

    def note(message, quiet):
        messages.append(message)
        return nullcontext()

    monkeypatch.setattr("sppnet.data.progress.notice_if_slow", note)
    monkeypatch.setattr("sppnet.data.compiled.is_kept", lambda function: kept)
    compile_kernels(quiet=True)
    assert [said in message for message in messages] == [True]


@pytest.fixture
def collector():
    """The collector as in a new process: commands that other tests ran have frozen nothing."""
    gc.unfreeze()
    yield
    gc.enable()
    gc.unfreeze()


def is_searched(value):
    return any(known is value for known in gc.get_objects())


@pytest.mark.usefixtures("collector")
def test_what_is_loaded_is_never_searched_for_garbage_and_what_comes_after_is():
    with loading():
        assert not gc.isenabled()
        loaded = [[]]
    assert gc.isenabled()
    assert not is_searched(loaded)
    later = [[]]
    assert is_searched(later)


@pytest.mark.usefixtures("collector")
def test_a_second_command_in_a_process_freezes_nothing():
    with loading():
        pass
    between = [[]]
    with loading():
        loaded = [[]]
    assert is_searched(between)
    assert is_searched(loaded)


@pytest.mark.usefixtures("collector")
def test_a_collector_that_was_off_stays_off():
    gc.disable()
    with loading():
        pass
    assert not gc.isenabled()

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


def test_what_is_loaded_is_never_searched_for_garbage_and_what_comes_after_is():
    try:
        with loading():
            assert not gc.isenabled()
            loaded = [[]]
        assert gc.isenabled()
        assert not any(known is loaded for known in gc.get_objects())
        later = [[]]
        assert any(known is later for known in gc.get_objects())
    finally:
        gc.unfreeze()


def test_a_collector_that_was_off_stays_off():
    gc.disable()
    try:
        with loading():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
        gc.unfreeze()

from contextlib import nullcontext

import pytest
from sppnet.scripts.common import compile_kernels


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

"""What holds for every protocol of the registry."""

from __future__ import annotations

import pytest

from streaming_asr.core.events import (
    Done,
    EagerTurnEnd,
    EndReason,
    Final,
    Finalized,
    Partial,
    SessionWarning,
    SpeechEnded,
    SpeechResumed,
    SpeechStarted,
    TurnResumed,
)
from streaming_asr.core.options import SessionOptions
from streaming_asr.protocols.base import Close, Handshake, Open, Opened, Translator
from streaming_asr.protocols.failures import Failure, FailureKind
from streaming_asr.protocols.openai.realtime import CLOSE_ALONE
from streaming_asr.protocols.registry import PROTOCOLS
from tests.support.dialogue import sent_messages
from tests.support.fakes import CAPABILITIES


def _connect(path: str) -> Translator:
    translator = PROTOCOLS[path].translator(Handshake(path, time=1000.0), SessionOptions())
    (options,) = [command.options for command in translator.connected() if isinstance(command, Open)]
    translator.opened(Opened("s1", options, CAPABILITIES))
    return translator


@pytest.mark.parametrize("path", PROTOCOLS)
def test_a_final_is_sent_and_no_event_is_too_much(path: str) -> None:
    translator = _connect(path)
    events = (
        SpeechStarted(1, 0, 100),
        Partial(1, 0, 1, "to", " be", "en", 100, 900, True),
        SpeechResumed(1, 0, 1000),
        EagerTurnEnd(1, 0, 1000, "To be", 0.8),
        TurnResumed(1, 0, 1200),
        SessionWarning("decode_failed", "The recognizer failed.", 0, 1),
        SpeechEnded(1, 0, 100, 1500, EndReason.STOP),
        Final(1, 0, "To be, or not.", "en", 100, 1500, 0.9, None),
        Finalized(0, 1500),
    )
    sent = [message for event in events for message in sent_messages(translator.on_events([event]))]
    assert "To be, or not." in str(sent)
    translator.on_events([Done(1500)])


@pytest.mark.parametrize("path", PROTOCOLS)
@pytest.mark.parametrize("kind", [kind for kind in FailureKind if kind.close is not None])
def test_a_failure_that_ends_the_session_is_sent_before_the_close(path: str, kind: FailureKind) -> None:
    *before, last = _connect(path).failed(Failure(kind, "That can't be."))
    assert isinstance(last, Close)
    assert (last.code, last.reason) == (kind.close, kind.code)
    if path == "/v1/realtime" and kind in CLOSE_ALONE:
        assert not before
    else:
        assert "That can't be." in str(sent_messages(before)[-1])


@pytest.mark.parametrize("path", PROTOCOLS)
@pytest.mark.parametrize("kind", FailureKind)
def test_a_failure_after_which_the_session_goes_on_closes_nothing(path: str, kind: FailureKind) -> None:
    commands = _connect(path).failed(Failure(kind, "That can't be.", goes_on=True))
    assert "That can't be." in str(sent_messages(commands))
    assert not any(isinstance(command, Close) for command in commands)

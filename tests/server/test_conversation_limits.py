"""What one client may do in a conversation, and what it is sent when it does more."""

from __future__ import annotations

import pytest

from streaming_asr.core.options import SessionOptions
from streaming_asr.protocols.base import Close, Lifetime, Open
from streaming_asr.protocols.failures import CloseCode
from streaming_asr.server.live.conversation_state import State
from streaming_asr.server.live.limits import CHANGES, CHANGES_PER_S
from tests.support.conversing import TIGHT, Client, command, quiet, voiced
from tests.support.scripted_translator import Scripted


def test_a_message_too_big_ends_the_session_after_its_finals() -> None:
    client = Client(TIGHT).started()
    client.send(voiced(1), bytes(64_001), command("ping", id=1))
    client.resume()
    assert client.state is State.ENDING
    assert client.conversation.reading, "what still comes is dropped"
    client.send(command("ping", id=2))
    client.finish()
    assert client.kinds[-2:] == ["final", "error"]
    assert client.errors == ["message_too_big"]
    assert "64000" in client.of("error")[0]["message"]
    assert client.close == Close(CloseCode.TOO_BIG, "message_too_big")
    assert not client.of("pong")
    assert not client.of("done")


def test_a_message_too_big_after_the_stop_changes_nothing() -> None:
    client = Client(TIGHT).started()
    client.send(voiced(1), command("stop"), bytes(64_001))
    client.finish()
    assert client.close == Close(CloseCode.NORMAL, "done")


def test_a_client_that_sends_nothing_is_let_go() -> None:
    client = Client(TIGHT).started()
    for _ in range(4):
        client.wait(9)
        client.send(command("ping", id=1))
    client.wait(9.9)
    assert client.state is State.OPEN
    client.wait(0.2)
    assert client.errors == ["idle"]
    assert client.close == Close(CloseCode.POLICY, "idle")


def test_a_stopped_session_is_not_idle_while_its_finals_are_awaited() -> None:
    client = Client(TIGHT).started()
    client.send(voiced(1), command("stop"))
    while client.yields:
        client.resume()
    client.wait(100)
    client.finish()
    assert client.close == Close(CloseCode.NORMAL, "done")


@pytest.mark.parametrize(("pause_at_s", "ends_at_ms"), [(9.2, 9300), (100, 13_200)])
def test_a_stream_ends_at_its_longest_with_all_its_finals(pause_at_s: float, ends_at_ms: int) -> None:
    """No word is cut in two if the speaker pauses within 5 s."""
    client = Client(TIGHT, max_utterance_s="5").started()
    sent_s = 0.0
    while client.state is State.OPEN:
        client.send(voiced(0.4) if sent_s < pause_at_s else quiet(0.4))
        sent_s += 0.4
    client.finish()
    assert client.errors == ["session_too_long"]
    assert "8 s" in client.of("error")[0]["message"]
    assert client.close == Close(CloseCode.POLICY, "session_too_long")
    assert client.of("final")[-1]["time_ms"] == pytest.approx(ends_at_ms, abs=100)
    assert client.kinds[-1] == "error"


def test_a_client_that_leaves_too_much_unread_is_let_go_at_once() -> None:
    client = Client().started()
    client.send(voiced(0.4))
    client.overflow()
    assert client.kinds == ["speech_started", "error"]
    assert client.errors == ["slow_reader"]
    assert client.close == Close(CloseCode.POLICY, "slow_reader")
    assert not client.sessions.open_sessions
    client.overflow()
    client.decode()
    client.send(command("ping"))


def test_a_session_has_the_lifetime_of_its_protocol() -> None:
    client = Client(TIGHT, Scripted([Lifetime(life_s=60, idle_s=25), Open(SessionOptions(vad="webrtc"))])).started()
    for _ in range(3):
        client.wait(19)
        client.send("ping")
    assert client.state is State.OPEN, "the protocol allows a longer silence than the server"
    client.send(voiced(0.4))
    client.wait(3)
    assert client.state is State.OPEN, "the speaker may finish the word"
    client.wait(5)
    assert client.state is State.ENDING
    client.finish()
    assert client.messages[-1] == {"type": "failed", "code": "session_expired"}
    assert client.close == Close(CloseCode.GOING_AWAY, "session_expired")


def test_changes_are_bounded_for_each_second_of_audio() -> None:
    client = Client().started()
    client.send(*[command("configure", endpoint_ms=300)] * CHANGES)
    while client.yields:
        client.resume()
    client.send(voiced(1))
    client.send(*[command("configure", endpoint_ms=400)] * (CHANGES_PER_S + 1))
    client.finish()
    assert len(client.of("configured")) == CHANGES + CHANGES_PER_S
    assert client.messages[-1]["code"] == "too_many_changes"
    assert client.of("final"), "what was received is transcribed"
    assert client.close == Close(CloseCode.POLICY, "too_many_changes")

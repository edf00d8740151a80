"""A conversation that loses its connection: what goes on without a client, and what a client finds that comes back."""

from __future__ import annotations

import pytest

from streaming_asr.core.events import SessionWarning
from streaming_asr.core.options import SessionOptions
from streaming_asr.protocols import sent_messages
from streaming_asr.protocols.base import Claim, Close, Handshake, Send
from streaming_asr.protocols.failures import CloseCode, Failure, FailureKind
from streaming_asr.protocols.native import NativeTranslator
from streaming_asr.protocols.sent_messages import OVERHEAD_BYTES, SentMessages
from streaming_asr.server.live.conversation_state import State
from tests.support.conversing import LIMITS, TOKEN, Client, command, full_client, quiet, voiced


def resumable(**query: str) -> Client:
    return Client(resume="offer", **query).started()


def test_a_client_that_asks_for_it_is_given_a_token_and_one_that_does_not_is_not() -> None:
    (ready,) = resumable().messages
    assert ready["resume"] == {"token": TOKEN, "keep_s": 60.0, "resumed": False, "audio_bytes": 0, "controls": 0}
    client = Client().started()
    client.send(command("ping", id=1))
    assert "resume" not in client.messages[0]
    assert "seq" not in client.messages[1]
    client.lose_connection()
    assert client.state is State.CLOSED
    assert not client.sessions.open_sessions


def test_a_server_that_keeps_no_session_gives_no_token() -> None:
    handshake = Handshake("/v1/stream", query=(("resume", "offer"), ("vad", "webrtc")), resume_token=TOKEN, resume_s=0)
    client = Client(translator=NativeTranslator(handshake, SessionOptions())).started()
    assert "resume" not in client.messages[0]
    client.lose_connection()
    assert client.state is State.CLOSED


def test_an_utterance_goes_on_where_the_connection_was_lost() -> None:
    client = resumable()
    client.send(voiced(0.5), command("ping", id=1))
    client.lose_connection()
    client.finish()
    assert client.come_back()
    ready = client.of("ready")[-1]
    assert ready["resume"] == {
        "token": TOKEN,
        "keep_s": 60.0,
        "resumed": True,
        "audio_bytes": len(voiced(0.5)),
        "controls": 1,
    }
    client.send(voiced(0.5), quiet(1.0), command("stop"))
    client.finish()
    assert [event["utterance"] for event in client.of("speech_started")] == [1]
    (final,) = client.of("final")
    assert final["time_ms"] - final["start_ms"] == pytest.approx(1000, abs=250)
    assert client.kinds[-1] == "done"


def test_what_came_while_the_client_was_away_is_sent_once() -> None:
    client = resumable()
    client.send(voiced(0.4), quiet(1.0))
    client.lose_connection()
    client.finish()
    assert client.of("final") == []
    assert client.come_back()
    (final,) = client.of("final")
    client.lose_connection()
    assert client.come_back()
    assert client.of("final") == [final]
    # The answer was lost: the client asks again for what it has seen.
    client.lose_connection()
    assert client.come_back(seen=final["seq"] - 1)
    assert client.of("final") == [final, final]


def test_messages_that_were_not_acted_on_are_not_counted_and_may_come_again() -> None:
    client = full_client()
    waiting = Client(resume="offer", max_utterance_s="5").started()
    while waiting.state is not State.FULL:
        waiting.send(voiced(1))
        while waiting.yields:
            waiting.resume()
    sent = client.conversation.held_s  # Both hold the same.
    waiting.send(command("finalize"), command("ping", id=7))
    assert not waiting.conversation.reading
    waiting.lose_connection()
    assert waiting.conversation.reading
    assert waiting.conversation.held_s == sent
    assert waiting.come_back()
    assert waiting.of("ready")[-1]["resume"]["controls"] == 0
    waiting.finish()
    waiting.send(command("ping", id=7))
    assert waiting.of("pong")[-1]["id"] == 7


def test_a_session_that_ended_while_the_client_was_away_is_reported_with_its_finals() -> None:
    client = resumable()
    client.send(voiced(0.4), command("stop"))
    client.lose_connection()
    client.finish()
    assert client.state is State.CLOSED
    assert client.come_back()
    assert client.kinds[-2:] == ["final", "done"]
    assert client.close == Close(CloseCode.NORMAL, "done")


def test_an_end_that_the_client_may_not_have_received_can_be_fetched() -> None:
    client = resumable()
    client.send(voiced(0.4))
    client.end()
    client.finish()
    assert client.close is not None
    before = list(client.messages)
    client.close = None
    client.lose_connection()
    assert client.come_back(seen=0)
    assert client.messages[len(before) + 1 :] == [m for m in before if m["type"] not in ("ready", "partial")]
    assert client.errors == ["restarting", "restarting"]
    assert client.close == Close(CloseCode.RESTART, "restarting")


def test_nobody_is_idle_who_is_away_and_the_time_begins_anew_on_return() -> None:
    client = resumable()
    client.wait(LIMITS.idle_timeout_s - 1)
    client.lose_connection()
    client.wait(10 * LIMITS.idle_timeout_s)
    assert client.state is State.OPEN
    assert client.come_back()
    client.wait(LIMITS.idle_timeout_s - 1)
    assert client.state is State.OPEN
    client.wait(2)
    assert client.errors == ["idle"]


def test_a_client_that_missed_more_than_is_kept_gets_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SentMessages.__init__, "__defaults__", (2_000,))
    client = resumable()
    client.lose_connection()
    for number in range(20):
        client.conversation.warn(SessionWarning("recognizer_recovering", f"Number {number}."), client.now)
        client.conversation.take_actions()
    assert not client.come_back(seen=0)
    assert client.conversation.size <= 2_000
    assert client.come_back(seen=19)
    assert [event["message"] for event in client.of("warning")] == ["Number 19."]


def test_only_the_latest_partial_of_an_utterance_is_kept_and_none_beside_its_final() -> None:
    sent = SentMessages()
    for text in ("a", "ab", "abc"):
        sent.add(sent.take_number(), Send(text, replaces=1))
    assert sent.since(0) == [Send("abc", replaces=1)]
    sent.forget_partial(1)
    sent.add(sent.take_number(), Send("final"))
    assert sent.since(0) == [Send("final")]
    assert sent.size == len("final") + OVERHEAD_BYTES
    assert sent.since(5) is None, "a number that was never given"
    assert sent_messages.MAX_BYTES < 2**20


def test_a_claim_waits_for_its_answer_and_a_session_that_is_gone_is_replaced_by_a_new_one() -> None:
    client = Client(resume="claim").started()
    assert client.messages == []
    client.send(voiced(0.1), command("ping", id=1))
    assert client.errors == ["bad_message", "bad_message"]
    client.send(command("resume", token="other", seq=12), command("ping", id=2))
    (claim,) = client.claims
    assert isinstance(claim, Claim)
    assert (claim.token, claim.seen, client.state) == ("other", 12, State.CLAIMING)
    client.conversation.claim_failed(client.now)
    client.send()
    assert client.messages[-2]["resume"]["resumed"] is False
    assert client.messages[-1]["id"] == 2
    client.send(command("resume", token="other", seq=12))
    assert client.errors[2:] == ["bad_message"]


def test_a_claim_that_is_refused_is_the_end() -> None:
    client = Client(resume="claim").started()
    client.send(command("resume", token="other", seq=0))
    client.conversation.claim_refused(Failure(FailureKind.UNAUTHORIZED, "Of another key."))
    client.send()
    assert (client.errors, client.close) == (["unauthorized"], Close(CloseCode.POLICY, "unauthorized"))
    assert client.messages[-1]["fatal"] is True
    assert client.sessions.opened == 0


def test_another_value_of_resume_is_a_bad_option() -> None:
    client = Client(resume="yes").started()
    assert client.errors == ["bad_option"]
    assert "offer and claim" in client.messages[0]["message"]


def test_a_client_that_comes_back_while_the_server_waits_for_a_pause_is_sent_the_end() -> None:
    client = resumable()
    client.send(voiced(0.4))
    client.end_at_pause()
    client.lose_connection()
    client.wait(10)
    assert client.come_back()
    client.send(quiet(0.2))
    client.finish()
    assert client.errors == ["restarting"]
    assert len(client.of("final")) == 1

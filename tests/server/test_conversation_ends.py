"""How a conversation ends: by the server, by its client, or by a fault."""

from __future__ import annotations

import logging

import pytest

from streaming_asr.core.options import SessionOptions
from streaming_asr.protocols.base import Close, Open, Send
from streaming_asr.protocols.failures import CloseCode, Failure, FailureKind
from streaming_asr.server.live.conversation_state import State
from tests.support.conversing import TIGHT, Client, break_at, command, fail, quiet, voiced
from tests.support.scripted_translator import Scripted


def test_the_server_s_end_waits_for_the_voice_detector() -> None:
    client = Client(vad="silero").started()
    client.send(voiced(0.4), command("ping", id=1))
    client.end()
    assert client.state is State.ENDING
    assert client.kinds == []
    client.send(command("ping", id=2))
    client.answer()
    assert client.kinds == ["speech_started", "speech_ended"]
    client.finish()
    assert client.kinds[-2:] == ["final", "error"]
    assert client.errors == ["restarting"]
    assert client.close == Close(CloseCode.RESTART, "restarting")


def test_a_server_that_stops_lets_the_speaker_finish_a_word() -> None:
    client = Client().started()
    client.send(voiced(0.4))
    client.end_at_pause()
    assert client.errors == []
    client.send(voiced(0.4))
    client.send(quiet(0.05))
    client.finish()
    assert (client.state, client.errors) == (State.OPEN, [])
    client.send(quiet(0.1))
    client.finish()
    (final,) = client.of("final")
    assert final["time_ms"] == pytest.approx(800, abs=30)
    assert client.errors == ["restarting"]
    assert client.close == Close(CloseCode.RESTART, "restarting")


def test_a_server_that_stops_waits_for_no_pause_longer_than_it_may() -> None:
    client = Client().started()
    client.send(voiced(0.4))
    client.end_at_pause(3.0)
    for _ in range(20):
        client.wait(0.1)
        client.send(voiced(0.1))
    assert client.errors == []
    # Its network is cut, too.
    client.wait(1.1)
    client.finish()
    assert client.of("final")[0]["time_ms"] == pytest.approx(2400, abs=30)
    assert client.errors == ["restarting"]


def test_a_server_that_stops_ends_at_once_where_nobody_speaks() -> None:
    silent = Client().started()
    silent.send(voiced(0.4), quiet(0.2))
    unopened = Client()
    unopened.start()
    for client in (silent, unopened):
        client.end_at_pause()
        client.finish()
        assert client.errors == ["restarting"]


def test_a_client_that_stops_while_a_pause_is_waited_for_ends_as_it_asked() -> None:
    client = Client().started()
    client.send(voiced(0.4))
    client.end_at_pause()
    client.send(command("stop"))
    client.wait(10)
    client.finish()
    assert (client.kinds[-1], client.errors) == ("done", [])
    assert client.close == Close(CloseCode.NORMAL, "done")


def test_the_first_reason_to_end_is_the_one_that_is_sent() -> None:
    client = Client(TIGHT).started()
    client.send(voiced(0.4))
    client.end(FailureKind.RESTARTING)
    client.end(FailureKind.RECOGNIZER_FAILED)
    client.wait(100)
    client.finish()
    assert client.errors == ["restarting"]


def test_the_server_s_end_does_not_change_that_of_a_client_that_stopped() -> None:
    client = Client().started()
    client.send(voiced(0.4), command("stop"))
    client.end()
    client.finish()
    assert (client.kinds[-1], client.errors) == ("done", [])


def test_an_end_before_the_session_opens_is_sent_and_no_session_is_opened() -> None:
    client = Client()
    client.end()
    assert client.errors == ["restarting"]
    assert client.close == Close(CloseCode.RESTART, "restarting")
    client.start()
    assert client.sessions.opened == 0


def test_answers_that_wait_behind_audio_are_still_sent_when_the_server_ends_it() -> None:
    answering = Scripted([Open(SessionOptions(vad="webrtc"))], [Send('{"type":"committed"}')])
    client = Client(translator=answering).started()
    client.send(voiced(0.8))
    assert client.state is State.YIELDING
    client.end()
    client.finish()
    assert [message["type"] for message in client.messages] == [
        "opened",
        "events",
        "events",
        "committed",
        "events",
        "failed",
    ]


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (FailureKind.BUSY, CloseCode.TRY_LATER),
        (FailureKind.RESTARTING, CloseCode.RESTART),
        (FailureKind.BAD_OPTION, CloseCode.POLICY),
    ],
)
def test_a_session_that_is_refused_ends_the_conversation(kind: FailureKind, code: CloseCode) -> None:
    client = Client()
    client.sessions.refusal = Failure(kind, "Not now.")
    client.start()
    assert (client.errors, client.close) == ([kind.code], Close(code, kind.code))
    assert client.observer.codes == {f"refused {kind.code}": 1, kind.code: 1}
    assert client.observer.open == 0


def test_a_client_that_is_gone_leaves_nothing_behind() -> None:
    client = Client(vad="silero").started()
    client.send(voiced(0.4), command("ping"))
    client.conversation.lost()
    assert not client.sessions.open_sessions
    assert client.observer.open == 0
    client.answer()
    client.decode()
    client.end()
    client.wait(1000)
    assert client.close is None
    assert client.kinds == []


# Faults


@pytest.mark.parametrize("place", ["translator", "session", "events", "sessions", "observer"])
def test_a_fault_ends_the_conversation_with_its_protocol_s_error(place: str, caplog: pytest.LogCaptureFixture) -> None:
    client = Client().started()
    break_at(client, place)
    with caplog.at_level(logging.ERROR):
        client.send(quiet(0.5), voiced(0.5), quiet(0.5))
        while client.yields:
            client.resume()
    assert client.errors == ["internal"]
    assert client.close == Close(CloseCode.INTERNAL, "internal")
    assert "KeyError" not in str(client.messages)
    assert "a fault of the server" in caplog.text
    assert not client.sessions.open_sessions


def test_a_fault_while_decodes_are_reported_ends_the_conversation_alone() -> None:
    client = Client().started()
    client.send(voiced(0.4), quiet(1))
    break_at(client, "events")
    client.finish()
    assert client.errors == ["internal"]


def test_a_session_that_can_not_be_given_up_is_closed_all_the_same() -> None:
    client = Client().started()
    break_at(client, "removal")
    client.overflow()
    assert (client.errors, client.observer.open) == (["slow_reader"], 0)
    assert client.state is State.CLOSED
    gone = Client().started()
    break_at(gone, "removal")
    gone.conversation.lost()
    assert gone.state is State.CLOSED


def test_a_translator_that_can_not_even_report_a_fault_is_closed_on() -> None:
    client = Client().started()
    break_at(client, "translator")
    client.translator.failed = fail  # type: ignore[method-assign]
    client.send(command("ping"))
    assert client.close == Close(CloseCode.INTERNAL, "internal")


def test_a_network_that_fails_ends_the_conversation() -> None:
    client = Client(vad="silero").started()
    client.send(voiced(0.4))
    client.sessions.network.fails = True
    client.answer()
    assert client.errors == ["internal"]
    assert not client.sessions.open_sessions


def test_a_session_that_broke_ends_the_conversation() -> None:
    client = Client().started()
    client.send(voiced(0.4))
    client._session_broke(KeyError("a fault"))
    assert client.errors == ["internal"]
    assert client.close == Close(CloseCode.INTERNAL, "internal")
    client._session_broke(KeyError("a fault"))

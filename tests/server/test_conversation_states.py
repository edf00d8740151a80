"""The states of a conversation: each transition of the table, and any order of events."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streaming_asr.core.events import SessionWarning
from streaming_asr.protocols.failures import CloseCode, Failure, FailureKind
from streaming_asr.server.live.client_link import LINKS, Link
from streaming_asr.server.live.conversation_state import TRANSITIONS, State
from tests.support.conversing import FILE, TIGHT, Client, break_at, command, full_client, quiet, voiced

NOT_YOURS = Failure(FailureKind.UNAUTHORIZED, "Of another key.")


def _asking() -> Client:
    client = Client(vad="silero").started()
    client.send(voiced(0.4))
    return client


def _yielding() -> Client:
    client = Client().started()
    client.send(voiced(0.6))
    return client


def _ending() -> Client:
    client = Client().started()
    client.send(voiced(0.4))
    client.end()
    return client


def _claiming() -> Client:
    client = Client(resume="claim").started()
    client.send(command("resume", token="of another session", seq=0))
    return client


def _parked() -> Client:
    client = Client(resume="offer").started()
    client.lose_connection()
    return client


def _claimed(client: Client) -> None:
    assert client.come_back()


def _spoken() -> Client:
    client = Client().started()
    client.send(voiced(0.4))
    return client


def _file(*messages: str | bytes) -> Client:
    client = Client(encoding="auto").started()
    client.send(FILE + voiced(0.4), *messages)
    return client


def _decoded(message: str) -> Client:
    """The decoder has returned the audio before a message, but not the mark."""
    client = _file(message)
    client.step_decoder()
    return client


def _nearly_full() -> Client:
    client = Client(max_utterance_s="5").started()
    while client.conversation.held_s <= 20:
        client.send(voiced(0.4))
    return client


def _until_final(client: Client) -> None:
    while not client.of("final"):
        client.decode()


STEPS: dict[tuple[State, State], tuple[Callable[[], Client], Callable[[Client], None]]] = {
    (State.OPEN, State.WAITING_FOR_VOICE): (lambda: Client(vad="silero").started(), lambda c: c.send(voiced(0.1))),
    (State.OPEN, State.FULL): (_nearly_full, lambda c: c.send(voiced(0.4))),
    (State.OPEN, State.YIELDING): (lambda: Client().started(), lambda c: c.send(voiced(0.6))),
    (State.OPEN, State.ENDING): (_spoken, Client.end),
    (State.OPEN, State.CLOSED): (lambda: Client().started(), lambda c: c.send(command("stop"))),
    (State.OPEN, State.WAITING_FOR_DECODER): (_file, lambda c: c.send(command("finalize"))),
    (State.WAITING_FOR_DECODER, State.OPEN): (lambda: _decoded(command("finalize")), Client.step_decoder),
    (State.WAITING_FOR_DECODER, State.ENDING): (lambda: _decoded(command("finalize")), Client.end),
    (State.WAITING_FOR_DECODER, State.CLOSED): (lambda: _file(command("finalize")), Client.overflow),
    (State.WAITING_FOR_VOICE, State.OPEN): (_asking, Client.answer),
    (State.WAITING_FOR_VOICE, State.ENDING): (_asking, Client.end),
    (State.WAITING_FOR_VOICE, State.CLOSED): (_asking, Client.overflow),
    (State.FULL, State.YIELDING): (full_client, _until_final),
    (State.FULL, State.ENDING): (full_client, Client.end),
    (State.FULL, State.CLOSED): (full_client, lambda c: c.conversation.lost()),
    (State.YIELDING, State.OPEN): (_yielding, Client.resume),
    (State.YIELDING, State.ENDING): (_yielding, Client.end),
    (State.YIELDING, State.CLOSED): (_yielding, Client.overflow),
    (State.OPEN, State.CLAIMING): (
        lambda: Client(resume="claim").started(),
        lambda c: c.send(command("resume", token="", seq=0)),
    ),
    (State.CLAIMING, State.OPEN): (_claiming, lambda c: c.conversation.claim_failed(c.now)),
    (State.CLAIMING, State.CLOSED): (_claiming, lambda c: c.conversation.claim_refused(NOT_YOURS)),
    (State.ENDING, State.CLOSED): (_ending, Client.finish),
}

LINK_STEPS: dict[tuple[Link, Link], tuple[Callable[[], Client], Callable[[Client], None]]] = {
    (Link.CONNECTED, Link.PARKED): (lambda: Client(resume="offer").started(), Client.lose_connection),
    (Link.CONNECTED, Link.GONE): (lambda: Client().started(), Client.lose_connection),
    (Link.PARKED, Link.CONNECTED): (_parked, _claimed),
    (Link.PARKED, Link.GONE): (_parked, lambda c: c.conversation.lost()),
}


@pytest.mark.parametrize("step", STEPS, ids=lambda step: " to ".join(state.name for state in step))
def test_each_state_is_left_as_in_the_table(step: tuple[State, State]) -> None:
    make, act = STEPS[step]
    client = make()
    assert client.state is step[0]
    act(client)
    assert client.state is step[1]


def test_the_steps_are_those_of_the_table() -> None:
    assert set(STEPS) == {(before, after) for before, afters in TRANSITIONS.items() for after in afters}


@pytest.mark.parametrize("step", LINK_STEPS, ids=lambda step: " to ".join(link.name for link in step))
def test_each_link_is_left_as_in_the_table(step: tuple[Link, Link]) -> None:
    make, act = LINK_STEPS[step]
    client = make()
    assert client.conversation.link is step[0]
    act(client)
    assert client.conversation.link is step[1]


def test_the_steps_of_links_are_those_of_the_table() -> None:
    assert set(LINK_STEPS) == {(before, after) for before, afters in LINKS.items() for after in afters}


def test_a_transition_that_the_table_lacks_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TRANSITIONS, State.OPEN, frozenset({State.CLOSED}))
    client = Client().started()
    client.send(voiced(0.6))
    assert client.errors == ["internal"]


# Anything in any order

MESSAGES = st.one_of(
    st.tuples(st.just("voiced"), st.floats(0.0, 1.5)),
    st.tuples(st.just("quiet"), st.floats(0.0, 1.5)),
    st.sampled_from(
        [
            command("ping", id=1),
            command("finalize"),
            command("start", language="de"),
            command("configure", endpoint_ms=300),
            command("configure", channels=2),
            command("configure", sample_rate=8000),
            ("quiet", 2.1),
            ("file", 0.4),
            command("configure", encoding="auto"),
        ]
    ),
    st.binary(max_size=5),
    st.text(max_size=5),
)
EVENTS = st.one_of(
    st.lists(MESSAGES, max_size=40).map(lambda messages: ("send", messages)),
    st.floats(0.0, 12.0).map(lambda seconds: ("wait", seconds)),
    st.sampled_from(
        [(step, None) for step in ("answer", "resume", "decode", "warn", "lose", "come back", "decoder", "full")]
    ),
)
LAST = st.sampled_from(
    [
        "end",
        "overflow",
        "lost",
        "decoder",
        "network",
        "translator",
        "session",
        "events",
        "sessions",
        "broke",
        "stop",
        None,
    ]
)


def _message(drawn: str | bytes | tuple[str, float]) -> str | bytes:
    if isinstance(drawn, tuple) and drawn[0] == "file":
        return FILE + voiced(drawn[1])
    if isinstance(drawn, tuple):
        return voiced(drawn[1]) if drawn[0] == "voiced" else quiet(drawn[1])
    return drawn


def _take(client: Client, step: str, detail: Any) -> None:
    if step == "send":
        # A socket that is not read gives nothing, and neither does one that is lost.
        if client.connected and client.conversation.reading:
            client.send(*(_message(message) for message in detail))
    elif step == "wait":
        client.wait(detail)
    elif step == "answer" and client.queries:
        client.answer()
    elif step == "resume" and client.yields:
        client.resume()
    elif step == "decoder":
        client.step_decoder()
    elif step == "full":
        client.fill_decoder(client.state is not State.WAITING_FOR_DECODER)
    elif step == "decode":
        client.decode()
    elif step == "lose" and client.connected and client.close is None:
        client.lose_connection()
    elif step == "come back" and not client.connected:
        client.come_back()
    elif step == "warn":
        client.conversation.warn(SessionWarning("recognizer_recovering", "Text will be late."), client.now)
        client.send()


def _end(client: Client, way: str | None) -> None:
    if way == "end":
        client.end()
    elif way == "overflow":
        client.overflow()
    elif way == "lost":
        client.conversation.lost()
    elif way == "network":
        client.sessions.network.fails = True
    elif way == "decoder":
        client.fail_decoder()
    elif way == "broke":
        client._session_broke(KeyError("a fault"))
    elif way == "stop":
        if client.connected and client.conversation.reading:
            client.send(command("stop"))
    elif way is not None and client.sessions.open_sessions and client.state is not State.CLOSED:
        break_at(client, way)


@settings(max_examples=300, deadline=None)
@given(
    query=st.fixed_dictionaries(
        {
            "vad": st.sampled_from(["silero", "webrtc"]),
            "max_utterance_s": st.just("5"),
            "resume": st.just("offer"),
            "encoding": st.sampled_from(["s16le", "auto"]),
        }
    ),
    before=st.lists(EVENTS, max_size=15),
    way=LAST,
    after=st.lists(EVENTS, max_size=8),
)
def test_in_any_order_of_events_a_conversation_ends_once_and_leaves_nothing_behind(
    query: dict[str, str], before: list[tuple[str, Any]], way: str | None, after: list[tuple[str, Any]]
) -> None:
    """`Client` checks that nothing follows a close, that queries come one by one, and that no timer spins."""
    client = Client(TIGHT, **query).started()
    for step, detail in before:
        _take(client, step, detail)
        waits = client.state in (State.WAITING_FOR_DECODER, State.WAITING_FOR_VOICE, State.FULL, State.YIELDING)
        assert client.conversation.reading or waits, "messages are kept, and nothing is waited for"
    _end(client, way)
    client.fill_decoder(False)
    for step, detail in after:
        _take(client, step, detail)
    client.fill_decoder(False)
    client.finish()
    if way == "lost":
        assert not client.conversation.resumable
    elif not client.connected:
        assert client.come_back()
    if client.conversation.reading and client.state is State.OPEN:
        client.send(command("stop"))
        client.finish()
    client.wait(2 * TIGHT.idle_timeout_s)
    client.finish()
    assert client.state is State.CLOSED
    assert not client.sessions.open_sessions
    assert client.observer.open == 0
    if way != "lost":
        assert client.close is not None
        last = client.messages[-1]
        assert (last["type"] == "done") == (client.close.code == CloseCode.NORMAL)
        assert client.kinds.count("done") + sum(error["fatal"] for error in client.of("error")) == 1
        numbers = [message["seq"] for message in client.messages if message["type"] != "ready"]
        assert numbers == sorted(set(numbers)), "a message came twice, or behind a later one"
    if way is None and client.errors.count("internal") == 0:
        ended = [event["utterance"] for event in client.of("speech_ended")]
        assert [event["utterance"] for event in client.of("final")] == ended

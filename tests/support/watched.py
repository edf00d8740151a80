"""A conversation in any of the protocols, watched: what must hold whatever clients, decodes and time bring."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from streaming_asr.core.events import Done, Event, Final, SpeechEnded
from streaming_asr.core.options import SessionOptions
from streaming_asr.protocols.base import Close, Command, Handshake, Opened, Send, Translator
from streaming_asr.protocols.failures import CloseCode, Failure
from streaming_asr.protocols.registry import PROTOCOLS
from streaming_asr.server.live.conversation import MESSAGES_AT_ONCE
from streaming_asr.server.live.conversation_state import State
from streaming_asr.server.live.limits import HELD_MARGIN_S, ConversationLimits
from streaming_asr.server.live.reception import SLICE_S
from tests.support.conversing import TIGHT, Client
from tests.support.fakes import check_invariants

DIALECTS: Mapping[str, tuple[str, str]] = {
    "native": ("/v1/stream", ""),
    "openai": ("/v1/realtime", '{"type":"input_audio_buffer.clear"}'),
    "vllm": ("/v1/realtime", '{"type":"session.update","model":"fake"}'),
    "dashscope": ("/api-ws/v1/realtime", ""),
    "deepgram": ("/v1/listen", ""),
    "flux": ("/v2/listen", ""),
}
"""Path, and the first message where that chooses the dialect."""
ACTIONS_AT_ONCE = MESSAGES_AT_ONCE * 64
"""Actions that one input may lead to at most, so that no input fills the memory."""


class WatchedTranslator:
    """A translator, with the events of each of its sessions noted."""

    def __init__(self, inner: Translator) -> None:
        self._inner = inner
        self.sessions: list[list[Event]] = []

    def connected(self) -> list[Command]:
        return self._inner.connected()

    def received(self, message: str | bytes) -> list[Command]:
        return self._inner.received(message)

    def opened(self, opened: Opened) -> list[Command]:
        self.sessions.append([])
        return self._inner.opened(opened)

    def configured(self, options: SessionOptions) -> list[Command]:
        return self._inner.configured(options)

    def on_events(self, events: Sequence[Event]) -> list[Command]:
        self.sessions[-1].extend(events)
        return self._inner.on_events(events)

    def failed(self, failure: Failure) -> list[Command]:
        return self._inner.failed(failure)


class WatchedClient(Client):
    """A client of one dialect. Each step checks what must hold at every moment, `check_end` what must hold at the end.

    Args:
        dialect: of `DIALECTS`.
        query: of the URL.
        options: the server's defaults for sessions, besides a detector that answers at once, and 16 kHz.
    """

    def __init__(
        self,
        dialect: str,
        query: Sequence[tuple[str, str]] = (),
        limits: ConversationLimits = TIGHT,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        path, first = DIALECTS[dialect]
        usual = {"vad": "webrtc", "sample_rate": 16_000, "max_utterance_s": 5.0}
        defaults = SessionOptions(**{**usual, **(options or {})})  # type: ignore[arg-type]
        handshake = Handshake(path, tuple(query), time=1000.0)
        self.watched = WatchedTranslator(PROTOCOLS[path].translator(handshake, defaults))
        super().__init__(limits, self.watched)
        self.dialect = dialect
        self.limits = limits
        self.aborted = False
        """Whether something ended it that may cost finals: the client's leaving, or a fault."""
        self.start()
        if first:
            self.send(first)

    def take(self, *messages: str | bytes) -> None:
        """Send messages, unless the server does not read."""
        if self.conversation.reading:
            self.send(*messages)

    def leave(self) -> None:
        self.aborted = True
        self.conversation.lost()

    def overflow(self) -> None:
        self.aborted = True
        super().overflow()

    def break_session(self) -> None:
        """The runner has dropped the session after a fault."""
        self.aborted = True
        for session in list(self.sessions.open_sessions.values()):
            self.sessions.remove(session)
        self._session_broke(KeyError("a fault"))

    def settle(self) -> None:
        """Let all happen that can, and the time of a client that sends nothing run out."""
        self.finish()
        for _ in range(3):
            # The session's time may first run out while an answer is awaited.
            self.wait(2 * max(self.limits.idle_timeout_s, self.conversation._deadlines.idle_timeout_s))
            self.finish()

    def check_end(self) -> None:
        """Check what must hold once `settle` is done."""
        assert self.state is State.CLOSED, self.state
        assert not self.sessions.open_sessions, "a session was left behind"
        assert self.observer.open == 0, "the gauge of sessions is wrong"
        assert self.conversation.held_s == 0
        assert not self.sessions.jobs
        if not self.aborted:
            assert self.close is not None
            assert self.observer.codes["internal"] == 0, "a fault of the server's"
        for number, events in enumerate(self.watched.sessions, 1):
            check_invariants(events)
            done = [index for index, event in enumerate(events) if isinstance(event, Done)]
            assert done in ([], [len(events) - 1]), "something came after `Done`"
            # A `start` before any audio replaces the session.
            if number == len(self.watched.sessions) and not self.aborted:
                ended = [event.utterance for event in events if isinstance(event, SpeechEnded)]
                finals = [event.utterance for event in events if isinstance(event, Final)]
                assert sorted(finals) == sorted(ended), "an utterance has no final"
        _CHECKS.get(self.dialect, _no_check)(self)

    def _act(self) -> None:
        actions = self.conversation.take_actions()
        assert len(actions) <= ACTIONS_AT_ONCE, "one input led to too much"
        for action in actions:
            assert self.close is None, f"{action} came after the close"
            if isinstance(action, Send):
                assert isinstance(action.message, str)
                self.messages.append(json.loads(action.message, parse_constant=_not_json))
            elif isinstance(action, Close):
                assert action.code in CloseCode
                self.close = action
            else:
                self._do(action)
        session = next(iter(self.sessions.open_sessions.values()), None)
        if session is not None:
            longest = max(self.limits.max_held_s, session.options.max_utterance_s + HELD_MARGIN_S)
            # The slice that reached the bound, and what the resampler and the segmenter keep.
            assert self.conversation.held_s <= (longest + SLICE_S + 1.0) * session.tracks, "too much audio is kept"
        # In the others, something is waited for.
        idle = self.state in (State.OPEN, State.ENDING, State.CLOSED)
        assert self.conversation.reading or not idle, "messages are kept, and nothing is waited for"


def _not_json(constant: str) -> Any:
    raise AssertionError(f"{constant} is not JSON")


def _no_check(client: WatchedClient) -> None:
    """Nothing more."""


def _check_items(client: WatchedClient) -> None:
    """Each item of OpenAI's and DashScope's protocols is committed once, and completed or failed once."""
    ids = [message["event_id"] for message in client.messages]
    assert len(set(ids)) == len(ids), "two messages have the same id"
    transcription = "conversation.item.input_audio_transcription"
    committed: Counter[str] = Counter()
    settled: Counter[str] = Counter()
    grown: set[str] = set()
    for message in client.messages:
        kind = message["type"]
        if kind == "input_audio_buffer.committed":
            committed[message["item_id"]] += 1
        elif kind in (f"{transcription}.completed", f"{transcription}.failed"):
            assert committed[message["item_id"]], "an item was completed before it was committed"
            settled[message["item_id"]] += 1
        elif kind in (f"{transcription}.delta", f"{transcription}.text"):
            assert not settled[message["item_id"]], "a delta came after the item was completed"
            grown.add(message["item_id"])
    assert max(committed.values(), default=1) == 1, "an item was committed twice"
    assert max(settled.values(), default=1) == 1, "an item was completed twice"
    if not client.aborted:
        # Without transcription, which OpenAI's clients may turn off, only items that had text are completed.
        due = grown if _was_muted(client) else set(committed)
        assert due <= set(settled), "an item was neither completed nor failed"


def _was_muted(client: WatchedClient) -> bool:
    """Whether transcription was turned off at some time."""
    sessions = [message["session"] for message in client.messages if message["type"].endswith("session.updated")]
    return client.dialect == "openai" and any(
        session.get("audio", {}).get("input", session).get("transcription", session.get("input_audio_transcription"))
        is None
        for session in sessions
    )


def _check_sequence(client: WatchedClient) -> None:
    """Flux's messages are numbered without a gap, and its turns only go on."""
    numbers = [message["sequence_id"] for message in client.messages]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers))) if numbers else True
    turns = [message["turn_index"] for message in client.of("TurnInfo")]
    assert turns == sorted(turns), "a turn came back"


_CHECKS = {"openai": _check_items, "dashscope": _check_items, "flux": _check_sequence}

"""Conversations in every protocol, with anything in any order: a state machine that hypothesis drives."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from streaming_asr.core.events import SessionWarning
from streaming_asr.protocols.failures import FailureKind
from streaming_asr.server.live.conversation_state import State
from tests.support.conversing import quiet, voiced
from tests.support.watched import DIALECTS, WatchedClient

OPTIONS: dict[str, Any] = {
    "native": {
        "start": [{"language": "de"}, {"vad": "silero"}, {"channels": 2, "channel_mode": "split"}, {"endpoint_ms": -1}],
        "configure": [{"endpoint_ms": 300}, {"pre_roll_ms": 2000}, {"sample_rate": 8000}, {"channels": 2}, {"vad": 1}],
        "finalize": [{}],
        "ping": [{"id": 1}, {"id": []}],
        "stop": [{}],
    },
    "openai": {
        "session.update": [
            {"session": {"type": "transcription", "audio": {"input": {"turn_detection": None}}}},
            {"session": {"type": "transcription", "audio": {"input": {"turn_detection": {"type": "server_vad"}}}}},
            {"session": {"audio": {"input": {"transcription": None}}}},
            {"session": {"audio": {"input": {"format": {"type": "audio/pcmu"}}}}},
            {"session": {"audio": {"input": {"turn_detection": {"type": "x"}}}}},
            {"session": 3},
        ],
        "transcription_session.update": [{"session": {"input_audio_format": "g711_alaw"}}, {"session": {}}],
        "input_audio_buffer.commit": [{}, {"event_id": "mine"}],
        "input_audio_buffer.clear": [{}],
        "response.create": [{}],
    },
    "vllm": {
        "session.update": [{"model": "fake"}, {"model": "other"}, {"language": "de"}],
        "input_audio_buffer.commit": [{}, {"final": True}, {"final": 3}],
    },
    "dashscope": {
        "session.update": [
            {"session": {"turn_detection": None}},
            {"session": {"turn_detection": {"type": "server_vad", "threshold": -1, "silence_duration_ms": 300}}},
            {"session": {"sample_rate": 8000}},
            {"session": {"input_audio_format": "opus"}},
        ],
        "input_audio_buffer.commit": [{}],
        "input_audio_buffer.clear": [{}],
        "session.finish": [{}],
    },
    "deepgram": {
        "KeepAlive": [{}],
        "Finalize": [{}],
        "CloseStream": [{}],
        "Configure": [{"keyterms": ["a"]}, {"features": {"x": True}}, {"keyterms": 3}],
    },
    "flux": {
        "KeepAlive": [{}],
        "ForceEndTurn": [{}],
        "CloseStream": [{}],
        "Configure": [{"thresholds": {"eot_timeout_ms": 700}}, {"thresholds": {"eot_threshold": 7}}, {"keyterms": "x"}],
    },
}
"""What each dialect's messages may say, valid and not."""
QUERIES: dict[str, list[tuple[tuple[str, str], ...]]] = {
    "native": [(), (("vad", "silero"),), (("channels", "2"), ("channel_mode", "split")), (("partials", "false"),)],
    "openai": [(), (("intent", "transcription"),)],
    "vllm": [()],
    "dashscope": [(), (("model", "qwen3-asr-flash-realtime"),)],
    "deepgram": [
        (),
        (("multichannel", "true"), ("channels", "2")),
        (("interim_results", "true"), ("vad_events", "true")),
    ],
    "flux": [(), (("eager_eot_threshold", "0.5"), ("model", "flux-general-en"))],
}
DEFAULTS: list[dict[str, Any]] = [{}, {}, {"endpointing": "turn"}, {"endpointing": "turn", "vad": "silero"}]
"""The server's, for sessions."""
ENDS = ("end", "end", "pause", "pause", "overflow", "leave", "network", "broke")
KINDS = [kind for kind in FailureKind if kind.close is not None and kind is not FailureKind.INTERNAL]
"""Why the server may end a session; `INTERNAL` is what the test looks for."""


class AnyConversation(RuleBasedStateMachine):
    """One client, from the handshake to the end, whatever comes."""

    dialect = ""

    @initialize(data=st.data())
    def connect(self, data: st.DataObject) -> None:
        query = data.draw(st.sampled_from(QUERIES[self.dialect]))
        self.client = WatchedClient(self.dialect, query, options=data.draw(st.sampled_from(DEFAULTS)))

    @rule(data=st.data())
    def send(self, data: st.DataObject) -> None:
        self.client.take(*data.draw(st.lists(self._messages(), max_size=5)))

    @rule(messages=st.lists(st.one_of(st.text(max_size=8), st.binary(max_size=8)), max_size=40))
    def send_anything(self, messages: list[str | bytes]) -> None:
        self.client.take(*messages)

    @rule(seconds=st.floats(0.0, 1.5), is_voiced=st.booleans())
    def speak(self, seconds: float, is_voiced: bool) -> None:
        audio = (voiced if is_voiced else quiet)(seconds)
        if self.dialect in ("openai", "vllm", "dashscope"):
            append = {"type": "input_audio_buffer.append", "audio": base64.b64encode(audio).decode()}
            self.client.take(json.dumps(append))
        else:
            self.client.take(audio)

    @rule(seconds=st.floats(0.0, 12.0))
    def wait(self, seconds: float) -> None:
        self.client.wait(seconds)

    @precondition(lambda self: self.client.queries)
    @rule()
    def answer(self) -> None:
        self.client.answer()

    @precondition(lambda self: self.client.asked)
    @rule(probability=st.floats(0.0, 1.0))
    def judge(self, probability: float) -> None:
        self.client.judge(probability)

    @precondition(lambda self: self.client.yields)
    @rule()
    def resume(self) -> None:
        self.client.resume()

    @precondition(lambda self: self.client.decoder.todo)
    @rule()
    def step_decoder(self) -> None:
        self.client.step_decoder()

    @precondition(lambda self: self.client.sessions.jobs)
    @rule(number=st.integers(0, 3), fails=st.booleans())
    def decode(self, number: int, fails: bool) -> None:
        self.client.sessions.finish_one(number, fails=fails)

    @rule()
    def warn(self) -> None:
        self.client.conversation.warn(SessionWarning("recognizer_recovering", "Text will be late."), self.client.now)
        self.client._act()

    @precondition(lambda self: self.client.state is not State.CLOSED)
    @rule(way=st.sampled_from(ENDS), kind=st.sampled_from(KINDS))
    def end(self, way: str, kind: FailureKind) -> None:
        if way == "end":
            self.client.end(kind)
        elif way == "pause":
            self.client.end_at_pause()
        elif way == "overflow":
            self.client.overflow()
        elif way == "leave":
            self.client.leave()
        elif way == "broke" and self.client.sessions.open_sessions:
            self.client.break_session()
        elif way == "network":
            self.client.aborted = self.client.sessions.network.fails = True

    def teardown(self) -> None:
        if hasattr(self, "client"):
            self.client.settle()
            self.client.check_end()

    def _messages(self) -> st.SearchStrategy[str]:
        kinds = OPTIONS[self.dialect]
        whole = st.sampled_from([json.dumps({"type": kind, **fields}) for kind in kinds for fields in kinds[kind]])
        cut = st.tuples(whole, st.integers(0, 200)).map(lambda drawn: drawn[0][: drawn[1]])
        return st.one_of(whole, whole, whole, cut)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_whatever_comes_a_conversation_ends_once_with_every_final_and_leaves_nothing(dialect: str) -> None:
    machine = type("AnyConversation", (AnyConversation,), {"dialect": dialect})
    run_state_machine_as_test(machine, settings=settings(max_examples=30, stateful_step_count=30, deadline=None))

"""The benchmarks' protocols as conversations, without a socket."""

from __future__ import annotations

import asyncio
import base64
import json
from http import HTTPStatus
from typing import Any

import numpy as np
import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Response

from benchmarks.common.adapters import Reading, SessionFailed, SessionRefused
from benchmarks.common.protocols.connection import WebSocketAdapter, with_query
from benchmarks.common.protocols.deepgram import DeepgramTalk
from benchmarks.common.protocols.deepgram_flux import FluxTalk
from benchmarks.common.protocols.native import NativeTalk
from benchmarks.common.protocols.openai_realtime import OpenAiTalk
from benchmarks.common.protocols.registry import PROTOCOLS, BadTarget, Target, make_adapter
from benchmarks.common.protocols.talk import Talk, whole
from benchmarks.common.protocols.vllm_realtime import VllmTalk
from benchmarks.common.protocols.whisper_live import WhisperLiveTalk
from benchmarks.common.protocols.whisper_live_kit import WhisperLiveKitTalk
from tests.support.wire import run

PCM = np.array([0, 16384, -32768], "<i2").tobytes()


def _receive(talk: Talk, **message: Any) -> Reading | None:
    return talk.receive(json.dumps(message))


def test_texts_are_joined_as_their_script_wants_it() -> None:
    assert whole(("Two bees.", " And"), ("a fly",)) == Reading("Two bees. And", " a fly")
    assert whole(("甚至出现",), ("交易",)) == Reading("甚至出现", "交易")
    assert whole((), (" first",)) == Reading("", "first")


class TestNative:
    def test_a_session_from_ready_to_done(self) -> None:
        talk = NativeTalk()
        assert (talk.hello(), talk.audio(PCM), talk.opened) == ((), PCM, False)
        assert _receive(talk, type="ready", session="s", recognizer="r", model="m") is None
        assert talk.opened
        assert _receive(talk, type="speech_started", utterance=1, time_ms=3) is None
        at = {"start_ms": 0, "time_ms": 9}
        partial = _receive(talk, type="partial", utterance=1, revision=1, stable="And", tentative=" so", **at)
        assert partial == Reading("", "And so")
        assert _receive(talk, type="final", utterance=1, text="And so,", **at) == Reading("And so,")
        partial = _receive(talk, type="partial", utterance=2, revision=1, stable="", tentative="my fellow", **at)
        assert partial == Reading("And so,", " my fellow")
        assert [json.loads(message)["type"] for message in (*talk.finalize(), *talk.finish())] == ["finalize", "stop"]
        assert not talk.ended
        assert _receive(talk, type="done", audio_ms=9) is None
        assert talk.ended

    def test_what_comes_twice_or_in_another_order_is_read_so(self) -> None:
        talk = NativeTalk()
        at = {"start_ms": 0, "time_ms": 9}
        for utterance, text in ((2, "two"), (1, "one"), (1, "one")):
            reading = _receive(talk, type="final", utterance=utterance, text=text, **at)
        assert reading == Reading("two one one")

    def test_errors(self) -> None:
        talk = NativeTalk()
        with pytest.raises(SessionRefused, match="busy: No room"):
            _receive(talk, type="error", code="busy", message="No room.", fatal=True)
        _receive(talk, type="ready", session="s", recognizer="r", model="m")
        with pytest.raises(SessionFailed, match="internal"):
            _receive(talk, type="error", code="internal", message="Ah.", fatal=True)
        with pytest.raises(SessionFailed, match="1006"):
            talk.closed(1006, "")
        with pytest.raises(SessionFailed, match="unreadable"):
            talk.receive("{")


class TestOpenAi:
    PREFIX = "conversation.item.input_audio_transcription"

    def _opened(self) -> OpenAiTalk:
        talk = OpenAiTalk("gpt-4o-transcribe", "en")
        _receive(talk, type="session.created", session={})
        assert not talk.opened
        _receive(talk, type="session.updated", session={})
        assert talk.opened
        return talk

    def test_the_session_is_asked_for_as_it_is_generally_available(self) -> None:
        (update,) = OpenAiTalk("whisper-1", "").hello()
        session = json.loads(update)["session"]
        assert session["type"] == "transcription"
        assert session["audio"]["input"] == {
            "format": {"type": "audio/pcm", "rate": 24_000},
            "transcription": {"model": "whisper-1"},
            "turn_detection": {"type": "server_vad"},
        }

    def test_items_are_read_in_the_order_in_which_they_were_spoken(self) -> None:
        talk = self._opened()
        message = json.loads(talk.audio(PCM))
        assert (message["type"], base64.b64decode(message["audio"])) == ("input_audio_buffer.append", PCM)
        for item in ("a", "b"):
            _receive(talk, type="input_audio_buffer.speech_started", audio_start_ms=1, item_id=item)
            _receive(talk, type="input_audio_buffer.committed", item_id=item)
        assert _receive(talk, type=f"{self.PREFIX}.delta", item_id="a", delta="One") == Reading("", "One")
        assert _receive(talk, type=f"{self.PREFIX}.delta", item_id="a", delta=" two") == Reading("", "One two")
        done = {"type": f"{self.PREFIX}.completed", "content_index": 0}
        # The second is completed first: what is before it may still change.
        assert _receive(talk, **done, item_id="b", transcript="Three.") == Reading("", "One two Three.")
        assert _receive(talk, **done, item_id="a", transcript="One, two.") == Reading("One, two. Three.")
        assert not talk.ended

    def test_it_is_over_when_the_last_commit_and_all_items_are_answered(self) -> None:
        talk = self._opened()
        _receive(talk, type="input_audio_buffer.speech_started", audio_start_ms=1, item_id="a")
        assert json.loads(talk.finish()[0])["type"] == "input_audio_buffer.commit"
        _receive(talk, type="input_audio_buffer.committed", item_id="a")
        assert not talk.ended
        _receive(talk, type=f"{self.PREFIX}.completed", item_id="a", transcript="One.")
        assert talk.ended

    def test_nothing_left_to_commit_is_an_answer_too(self) -> None:
        talk = self._opened()
        nothing = {"code": "input_audio_buffer_commit_empty", "message": "buffer too small"}
        talk.finalize()
        _receive(talk, type="error", error=nothing)
        assert not talk.ended
        talk.finish()
        _receive(talk, type="error", error=nothing)
        assert talk.ended

    def test_errors(self) -> None:
        talk = OpenAiTalk("nope", "en")
        with pytest.raises(SessionRefused, match="model_not_found: There is no"):
            _receive(talk, type="error", error={"code": "model_not_found", "message": "There is no nope."})
        talk = self._opened()
        with pytest.raises(SessionFailed, match="too quiet"):
            _receive(talk, type=f"{self.PREFIX}.failed", item_id="a", error={"message": "too quiet"})


class TestDeepgram:
    @staticmethod
    def _results(text: str, *, final: bool) -> dict[str, Any]:
        channel = {"alternatives": [{"transcript": text, "confidence": 0.9, "words": []}]}
        return {
            "type": "Results",
            "channel_index": [0, 1],
            "duration": 1.0,
            "start": 0.0,
            "is_final": final,
            "speech_final": final,
            "channel": channel,
        }

    def test_results_from_the_first_to_the_metadata(self) -> None:
        talk = DeepgramTalk()
        assert talk.opened
        assert talk.audio(PCM) == PCM
        assert _receive(talk, type="SpeechStarted", channel=[0], timestamp=0.1) is None
        assert _receive(talk, **self._results("two", final=False)) == Reading("", "two")
        assert _receive(talk, **self._results("two bees", final=True)) == Reading("two bees")
        assert _receive(talk, **self._results("or", final=False)) == Reading("two bees", " or")
        assert _receive(talk, **self._results("", final=True)) == Reading("two bees")
        assert [json.loads(message)["type"] for message in talk.finalize()] == ["Finalize"]
        assert [json.loads(message)["type"] for message in talk.finish()] == ["CloseStream"]
        _receive(talk, type="Metadata", request_id="r", duration=1.0, channels=1)
        assert talk.ended

    def test_an_end_that_was_not_asked_for_is_a_failure(self) -> None:
        talk = DeepgramTalk()
        with pytest.raises(SessionFailed, match="1011: NET-0001"):
            talk.closed(1011, "NET-0001")
        with pytest.raises(SessionFailed, match="no audio"):
            _receive(talk, type="Error", description="no audio", variant="x")
        talk.finish()
        talk.closed(1000, "")


class TestFlux:
    @staticmethod
    def _turn(event: str, transcript: str) -> dict[str, Any]:
        return {"type": "TurnInfo", "event": event, "turn_index": 0, "transcript": transcript}

    def test_turns_from_the_greeting_to_the_close(self) -> None:
        talk = FluxTalk()
        assert _receive(talk, type="Connected", request_id="r", sequence_id=0) is None
        assert talk.opened
        assert _receive(talk, **self._turn("StartOfTurn", "two")) == Reading("", "two")
        eager = _receive(talk, **self._turn("EagerEndOfTurn", "Two bees."))
        assert eager == Reading("", "Two bees.")
        assert _receive(talk, **self._turn("TurnResumed", "Two bees.")) == Reading("", "Two bees.")
        end = _receive(talk, **self._turn("EndOfTurn", "Two bees or not."))
        assert end == Reading("Two bees or not.")
        assert (_ends(eager), _ends(end)) == (0, 1)
        with pytest.raises(SessionFailed, match="1011: broken"):
            talk.closed(1011, "broken")
        assert [json.loads(message)["type"] for message in talk.finalize()] == ["CloseStream"]
        talk.closed(1000, "")
        assert talk.ended

    def test_an_error_of_the_server_is_a_failure(self) -> None:
        with pytest.raises(SessionFailed, match="no audio"):
            _receive(FluxTalk(), type="Error", code="x", description="no audio")


def test_ends_of_turns_are_counted_where_the_protocol_declares_them() -> None:
    native = NativeTalk()
    at = {"utterance": 1, "channel": 0, "start_ms": 0, "time_ms": 900}
    for reason, count in (("endpoint", 1), ("finalize", None), ("turn", 2), ("stop", None)):
        assert _ends(_receive(native, type="speech_ended", **at, reason=reason)) == count
    openai = OpenAiTalk("m", "en")
    _receive(openai, type="input_audio_buffer.speech_started", item_id="a", audio_start_ms=0)
    assert _ends(_receive(openai, type="input_audio_buffer.speech_stopped", item_id="a", audio_end_ms=900)) == 1
    deepgram = DeepgramTalk()
    assert _ends(_receive(deepgram, **TestDeepgram._results("two", final=False))) == 0
    assert _ends(_receive(deepgram, **TestDeepgram._results("two", final=True))) == 1


def _ends(reading: Reading | None) -> int | None:
    return reading.ends if reading is not None else None


class TestVllm:
    def test_one_text_from_the_first_commit_to_the_last(self) -> None:
        talk = VllmTalk("Qwen/Qwen3-ASR-1.7B")
        update, commit = map(json.loads, talk.hello())
        assert update == {"type": "session.update", "model": "Qwen/Qwen3-ASR-1.7B"}
        assert commit == {"type": "input_audio_buffer.commit"}
        _receive(talk, type="session.created", id="s", created=1)
        assert talk.opened
        assert base64.b64decode(json.loads(talk.audio(PCM))["audio"]) == PCM
        assert _receive(talk, type="transcription.delta", delta="And") == Reading("", "And")
        assert _receive(talk, type="transcription.delta", delta=" so") == Reading("", "And so")
        # It can't finalize and go on.
        assert not talk.can_finalize
        assert [json.loads(message) for message in talk.finish()] == [
            {"type": "input_audio_buffer.commit", "final": True}
        ]
        assert _receive(talk, type="transcription.done", text="And so.", usage={}) == Reading("And so.")
        assert talk.ended

    def test_an_unknown_model_is_a_refusal(self) -> None:
        talk = VllmTalk("nope")
        _receive(talk, type="session.created", id="s", created=1)
        with pytest.raises(SessionRefused, match="model_not_found: no such model"):
            _receive(talk, type="error", error="no such model", code="model_not_found")


class TestWhisperLiveKit:
    @staticmethod
    def _lines(*lines: tuple[str, str | None], buffer: str = "") -> dict[str, Any]:
        sent = [{"speaker": 1 if text else -2, "text": text, "start": start, "end": start} for start, text in lines]
        return {
            "status": "active_transcription",
            "lines": sent,
            "buffer_transcription": buffer,
            "buffer_diarization": "",
            "remaining_time_transcription": 0.3,
        }

    def test_lines_and_the_buffer_behind_them(self) -> None:
        talk = WhisperLiveKitTalk()
        _receive(talk, type="config", useAudioWorklet=True, mode="full")
        assert talk.opened
        assert _receive(talk, **self._lines(buffer=" And so")) == Reading("", "And so")
        silence = ("0:00:00.00", None)
        first = ("0:00:00.32", " And so, my")
        assert _receive(talk, **self._lines(silence, first, buffer=" fellow")) == Reading("And so, my", " fellow")
        # The last line grows.
        grown = ("0:00:00.32", " And so, my fellow")
        second = ("0:00:05.10", " Americans")
        assert _receive(talk, **self._lines(silence, grown, second)) == Reading("And so, my fellow Americans")
        assert talk.finish() == (b"",)
        _receive(talk, type="ready_to_stop")
        assert talk.ended

    def test_lines_that_are_left_out_for_their_age_are_kept(self) -> None:
        talk = WhisperLiveKitTalk()
        lines = [(f"0:0{minute}:00.00", f" {word}") for minute, word in enumerate(("one", "two", "three"))]
        _receive(talk, **self._lines(*lines[:2]))
        assert _receive(talk, **self._lines(*lines[1:])) == Reading("one two three")
        assert _receive(talk, **self._lines(("0:09:00.00", " four"))) == Reading("one two three four")

    def test_refusals(self) -> None:
        with pytest.raises(SessionRefused, match="--pcm-input"):
            _receive(WhisperLiveKitTalk(), type="config", useAudioWorklet=False)
        with pytest.raises(SessionRefused, match="invalid or missing API token"):
            WhisperLiveKitTalk().closed(4401, "invalid or missing API token")
        with pytest.raises(SessionRefused, match="no such language"):
            _receive(WhisperLiveKitTalk(), type="error", error="no such language")


class TestWhisperLive:
    @staticmethod
    def _segments(*segments: tuple[float, str, bool]) -> dict[str, Any]:
        segments = [
            {"start": f"{at:.3f}", "end": f"{at + 1:.3f}", "text": text, "completed": c} for at, text, c in segments
        ]
        return {"uid": "u", "segments": segments}

    def test_completed_segments_and_the_one_that_is_not(self) -> None:
        talk = WhisperLiveTalk("tiny.en", "en")
        (start,) = map(json.loads, talk.hello())
        assert (start["model"], start["language"], start["task"]) == ("tiny.en", "en", "transcribe")
        _receive(talk, uid="u", message="SERVER_READY", backend="faster_whisper")
        assert talk.opened
        np.testing.assert_allclose(np.frombuffer(bytes(talk.audio(PCM)), "<f4"), [0, 0.5, -1])  # type: ignore[arg-type]
        assert _receive(talk, uid="u", language="en", language_prob=0.9) is None
        assert _receive(talk, **self._segments((0, " And so", False))) == Reading("", "And so")
        segments = self._segments((0, " And so my", True), (2, " fellow", False))
        assert _receive(talk, **segments) == Reading("And so my", " fellow")
        # Messages hold the last ten segments: earlier ones are remembered, and known ones are not added again.
        segments = self._segments((2, " fellow", True), (3, " Americans", True))
        assert _receive(talk, **segments) == Reading("And so my fellow Americans")
        assert talk.quiet_s is not None
        assert talk.finish() == (b"END_OF_AUDIO",)
        talk.closed(1000, "")

    def test_a_full_server_refuses(self) -> None:
        with pytest.raises(SessionRefused, match="full"):
            _receive(WhisperLiveTalk("m", ""), uid="u", status="WAIT", message=3.5)
        with pytest.raises(SessionFailed, match="1006"):
            WhisperLiveTalk("m", "").closed(1006, "")


@pytest.mark.parametrize("protocol", sorted(PROTOCOLS))
def test_every_protocol_knows_its_path_and_its_key(protocol: str) -> None:
    target = Target("http://host:9", model="m", api_key="secret", query={"extra": "1"})
    adapter = make_adapter(protocol, target)
    assert adapter.url.startswith("ws://host:9/")
    assert "extra=1" in adapter.url
    assert "secret" not in repr(adapter)
    assert "secret" not in repr(target)
    assert protocol == "whisperlive" or "secret" in adapter.headers["Authorization"]


def test_a_path_and_a_query_of_the_users_own_hold() -> None:
    adapter = make_adapter("deepgram", Target("wss://host/mine?model=base&interim_results=false"))
    address = with_query(adapter.url, adapter.query_of("en"))
    assert address.startswith("wss://host/mine?")
    assert "model=base" in address
    assert "interim_results=false" in address
    assert "interim_results=true" not in address
    assert "language=en" in address


def test_bad_targets_are_reported() -> None:
    with pytest.raises(BadTarget, match="ws://localhost:8000"):
        make_adapter("native", Target("localhost"))
    with pytest.raises(BadTarget, match="--model"):
        make_adapter("vllm", Target("ws://host"))


class QuietTalk(Talk):
    """Says what comes, never that it is over."""

    quiet_s = 0.3

    def __init__(self) -> None:
        super().__init__()
        self.opened = True

    def finish(self) -> tuple[str, ...]:
        return ("over",)

    def receive(self, message: str | bytes) -> Reading:
        return Reading(str(message))

    def closed(self, code: int, reason: str) -> None:
        assert code == 1000


def test_a_server_that_never_ends_is_left_when_its_text_no_longer_changes() -> None:
    async def serve_same(socket: ServerConnection) -> None:
        """New text for half a second after the last audio, then the same again and again, until it receives the end."""
        await socket.recv()
        for number in range(1000):
            await socket.send(str(min(number, 10)))
            try:
                assert await asyncio.wait_for(socket.recv(), 0.05) == "over"
            except (asyncio.TimeoutError, TimeoutError):
                continue
            return

    async def talk() -> list[str]:
        async with serve(serve_same, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            adapter = WebSocketAdapter("quiet", 16_000, f"ws://127.0.0.1:{port}", lambda language: QuietTalk())
            async with adapter.session("") as session:
                await session.send(PCM)
                await session.finish()
                return [reading.final async for reading in session.readings()]

    texts = run(talk(), 20)
    assert texts[:11] == [str(number) for number in range(11)]
    assert set(texts[11:]) == {"10"}


def test_what_keeps_a_session_from_being_opened_is_a_refusal() -> None:
    async def shut(socket: ServerConnection) -> None:
        await socket.close(1013, "full")

    async def knock(url: str) -> str:
        with pytest.raises(SessionRefused) as refused:
            async with make_adapter("native", Target(url)).session("en"):
                pass
        return str(refused.value)

    async def all_doors() -> list[str]:
        async with serve(shut, "127.0.0.1", 0) as server:
            url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            closed = await knock(url)

        def denied(socket: ServerConnection, request: object) -> Response:
            return socket.respond(HTTPStatus.UNAUTHORIZED, "wrong key")

        async with serve(shut, "127.0.0.1", 0, process_request=denied) as server:
            return [closed, await knock(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"), await knock(url)]

    closed, unauthorized, nobody = run(all_doors(), 20)
    assert "close code 1013: full" in closed
    assert "HTTP 401: wrong key" in unauthorized
    assert "can't be reached" in nobody

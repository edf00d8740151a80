"""Real speech over a real socket to the real server with the embedded default."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from urllib.parse import urlencode

import numpy as np
import pytest
from numpy.typing import NDArray
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from tests.support.live_server import LiveServer
from tests.support.wire import Conversation, assert_said, run, speech, talk, transcribe, words


@pytest.fixture(scope="session")
def clip(librivox: Path) -> tuple[NDArray[np.int16], str]:
    """One sentence of a few seconds, and what is said in it."""
    entry = _sentence(librivox)
    return speech(librivox / entry["path"]), entry["text"]


def _sentence(folder: Path) -> dict:
    """One that Whisper tiny gets right: "He might even have been made amiable himself." """
    return next(entry for entry in _manifest(folder) if entry["id"].endswith("0930"))


def _manifest(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()]


def test_words_appear_while_they_are_spoken(server: LiveServer, clip: tuple[NDArray[np.int16], str]) -> None:
    samples, reference = clip

    async def script(talking: Conversation) -> Conversation:
        hearing = asyncio.create_task(talking.receive_all())
        await talking.send_followed(samples)
        shown_in_time = len(talking.of("partial"))
        await talking.send("stop")
        assert await hearing == 1000
        assert shown_in_time >= 2
        return talking

    talking = run(talk(server.url, script))
    kinds = [event["type"] for event in talking.events]
    assert kinds[0] == "ready"
    assert kinds[-1] == "done"
    assert kinds.index("speech_started") < kinds.index("partial") < kinds.index("speech_ended") < kinds.index("final")
    assert_said(talking.text, reference)
    stable: dict[int, str] = {}
    for partial in talking.of("partial"):
        assert partial["stable"].startswith(stable.get(partial["utterance"], ""))
        stable[partial["utterance"]] = partial["stable"]


def test_any_frame_size_gives_the_same_utterances_and_finals(
    server: LiveServer, clip: tuple[NDArray[np.int16], str]
) -> None:
    samples = clip[0][: 16_000 * 3]
    silence = np.zeros(16_000, np.int16)
    audio = np.concatenate([samples, silence, samples])

    def finals(chunk: int | None) -> list[tuple[int, int, int, str]]:
        talking = transcribe(server.url, audio, chunk)
        return [(e["utterance"], e["start_ms"], e["time_ms"], e["text"]) for e in talking.of("final")]

    whole = finals(None)
    assert len(whole) >= 2
    assert all(text for *_, text in whole)
    assert finals(1) == finals(320) == finals(1600) == whole


@pytest.mark.parametrize(
    ("encoding", "rate", "channels"), [("mulaw", 8000, 1), ("alaw", 8000, 2), ("f32le", 48000, 2), ("s16le", 44100, 1)]
)
def test_encodings_rates_and_channels(
    server: LiveServer, librivox: Path, encoding: str, rate: int, channels: int
) -> None:
    entry = _sentence(librivox)
    samples = np.repeat(speech(librivox / entry["path"], rate), channels)
    query = urlencode({"encoding": encoding, "sample_rate": rate, "channels": channels})
    talking = transcribe(f"{server.url}?{query}", _encoded(samples, encoding), 1000)
    assert_said(talking.text, entry["text"], 0.35)
    assert talking.of("done")[0]["audio_ms"] == pytest.approx(1000 * len(samples) / rate / channels, abs=1)


def _encoded(samples: NDArray[np.int16], encoding: str) -> NDArray[np.generic]:
    if encoding == "s16le":
        return samples
    if encoding == "f32le":
        return samples.astype(np.float32) / 32768
    from streaming_asr.core.audio import _COMPANDED, Encoding

    table = _COMPANDED[Encoding(encoding)]
    order = np.argsort(table)
    codes = order[np.searchsorted(table[order], samples / 32768).clip(0, 255)]
    return codes.astype(np.uint8)


def test_two_channels_get_a_transcript_each(server: LiveServer, librivox: Path) -> None:
    first, second = _sentence(librivox), _manifest(librivox)[0]
    left, right = speech(librivox / first["path"]), speech(librivox / second["path"])
    length = max(len(left), len(right))
    both = np.zeros((length, 2), np.int16)
    both[: len(left), 0] = left
    both[: len(right), 1] = right
    talking = transcribe(f"{server.url}?channels=2&channel_mode=split", both)
    for channel, entry in enumerate((first, second)):
        said = " ".join(event["text"] for event in talking.of("final") if event["channel"] == channel)
        assert_said(said, entry["text"], 0.3)


def test_word_times_lie_within_the_utterance(server: LiveServer, clip: tuple[NDArray[np.int16], str]) -> None:
    silence = np.zeros(16_000, np.int16)
    talking = transcribe(f"{server.url}?word_times=true", np.concatenate([silence, clip[0]]))
    for final in talking.of("final"):
        times = [time for word in final["words"] for time in (word["start_ms"], word["end_ms"])]
        assert times == sorted(times)
        assert final["start_ms"] - 400 <= times[0] <= times[-1] <= final["time_ms"] + 300
        assert words([word["text"] for word in final["words"]]) == words(final["text"])


def test_finalize_ends_the_utterance_at_once(server: LiveServer, clip: tuple[NDArray[np.int16], str]) -> None:
    async def script(talking: Conversation) -> None:
        await talking.send_audio(clip[0][: 16_000 * 2])
        await talking.send("finalize")
        finalized = await talking.receive("finalized")
        assert finalized["time_ms"] == 2000
        ended = talking.of("speech_ended")[-1]
        assert ended["reason"] == "finalize"
        assert talking.of("final")[-1]["utterance"] == ended["utterance"]
        await talking.send("finalize")
        await talking.receive("finalized")
        await talking.send_audio(clip[0][16_000 * 2 :])
        await talking.send("stop")
        assert await talking.receive_all() == 1000

    run(talk(server.url, script))


@pytest.mark.parametrize("after_s", [0.0, 0.12, 0.2])
def test_a_finalize_at_the_end_of_the_last_word_does_not_clip_it(
    server: LiveServer, librivox: Path, after_s: float
) -> None:
    """Also in a session that has finalized before, whose finals are decoded ahead of time."""

    async def script(talking: Conversation) -> None:
        for entry in _manifest(librivox)[1:3]:
            *_, (last_word, _, end_s) = entry["words"]
            samples = speech(librivox / entry["path"])[: round(16_000 * (end_s + after_s))]
            await talking.send_audio(samples[:-8000])
            await talking.send_paced(samples[-8000:], chunk_ms=20)
            await talking.send("finalize")
            await talking.receive("finalized")
            assert words(talking.of("final")[-1]["text"])[-1] == last_word

    run(talk(server.url, script))


def test_the_client_configures_in_mid_stream(server: LiveServer, clip: tuple[NDArray[np.int16], str]) -> None:
    async def script(talking: Conversation) -> None:
        await talking.send_audio(clip[0][:8000])
        await talking.send("configure", endpoint_ms=None, partials=False)
        assert (await talking.receive("configured"))["options"]["endpoint_ms"] is None
        await talking.send_audio(np.concatenate([clip[0][8000:], np.zeros(32_000, np.int16)]))
        await talking.send("stop")
        await talking.receive_all()
        assert [event["reason"] for event in talking.of("speech_ended")] == ["stop"]

    run(talk(server.url, script))


def test_many_messages_at_once_are_acted_on_in_their_order(
    server: LiveServer, clip: tuple[NDArray[np.int16], str]
) -> None:
    lengths = [400 + number for number in range(100)]

    async def script(talking: Conversation) -> None:
        await talking.receive("ready")
        chunks = np.array_split(clip[0], len(lengths))
        for length, chunk in zip(lengths, chunks, strict=True):
            await talking.send("configure", endpoint_ms=length)
            await talking.socket.send(chunk.tobytes())
        await talking.send("stop")
        await talking.receive_all()
        assert [event["options"]["endpoint_ms"] for event in talking.of("configured")] == lengths
        assert_said(talking.text, clip[1])

    run(talk(server.url, script))


def test_a_start_message_replaces_the_query(server: LiveServer) -> None:
    async def script(talking: Conversation) -> None:
        await talking.receive("ready")
        await talking.send("start", sample_rate=8000, encoding="mulaw", keywords=["Qwen"])
        options = (await talking.receive("ready"))["options"]
        assert (options["sample_rate"], options["encoding"], options["keywords"]) == (8000, "mulaw", ["Qwen"])
        await talking.socket.send(b"\xff" * 800)
        await talking.send("start")
        error = await talking.receive("error")
        assert (error["code"], error["fatal"]) == ("late_start", False)
        await talking.send("stop")
        assert (await talking.receive("done"))["audio_ms"] == 100

    run(talk(f"{server.url}?sample_rate=48000", script))


@pytest.mark.parametrize(
    ("message", "code", "says"),
    [
        ("{", "bad_json", "JSON"),
        ("[1]", "bad_message", "start, configure, finalize, stop, ping"),
        ('{"type":"sing"}', "bad_message", "start, configure, finalize, stop, ping"),
        ('{"type":"configure","endpoint_ms":"soon"}', "bad_option", "endpoint_ms"),
        ('{"type":"configure","endpoint_ms":5}', "bad_option", "100 to 10000"),
        ('{"type":"configure","endpont_ms":500}', "bad_option", "endpoint_ms"),
        ('{"type":"configure","channels":2}', "bad_option", "mid-stream"),
        ('{"type":"configure","language":"xx"}', "bad_option", "en"),
        ('{"type":"ping","colour":1}', "bad_message", "colour"),
    ],
)
def test_a_bad_message_is_an_error_and_the_session_goes_on(
    server: LiveServer, message: str, code: str, says: str
) -> None:
    async def script(talking: Conversation) -> None:
        await talking.socket.send(message)
        error = await talking.receive("error")
        assert (error["code"], error["fatal"]) == (code, False)
        assert says in error["message"]
        await talking.send("ping", id=7)
        assert (await talking.receive("pong"))["id"] == 7

    run(talk(server.url, script))


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("sample_rate=96000", "8000 to 48000"),
        ("sample_rate=fast", "sample_rate"),
        ("encoding=mp3", "encoding"),
        ("channels=3", "1 to 2"),
        ("langauge=en", "language"),
        ("language=xx", "knows en"),
        ("vad=psychic", "adaptive, thorough, "),
    ],
)
def test_a_bad_option_at_the_start_is_refused(server: LiveServer, query: str, says: str) -> None:
    async def script(talking: Conversation) -> None:
        assert await talking.receive_all() == 1008
        (error,) = talking.events
        assert (error["type"], error["code"], error["fatal"]) == ("error", "bad_option", True)
        assert says in error["message"]

    run(talk(f"{server.url}?{query}", script))


def test_flawed_audio_is_repaired_and_reported_once(server: LiveServer) -> None:
    flawed = np.array([np.nan, np.inf, -np.inf, 3.0, -2.0] * 3000, np.float32)

    async def script(talking: Conversation) -> None:
        await talking.socket.send(b"")
        await talking.send_audio(flawed, 1000)
        await talking.socket.send(b"\x00\x00\x00")
        await talking.send("stop")
        assert await talking.receive_all() == 1000
        codes = [event["code"] for event in talking.of("warning")]
        assert codes == ["audio_not_finite", "audio_clipped", "audio_incomplete"]

    run(talk(f"{server.url}?encoding=f32le", script))


def test_silence_is_not_transcribed(server: LiveServer) -> None:
    hiss = np.random.default_rng(0).normal(0, 30, 16_000 * 5).astype(np.int16)
    talking = transcribe(server.url, hiss)
    assert talking.text == ""
    assert not talking.of("partial")


def test_nothing_may_follow_a_stop(server: LiveServer, clip: tuple[NDArray[np.int16], str]) -> None:
    async def script(talking: Conversation) -> None:
        await talking.send_audio(clip[0])
        await talking.send("stop")
        await talking.send("finalize")
        assert await talking.receive_all() == 1000
        assert [event["code"] for event in talking.of("error")] == ["stopped"]
        assert talking.text

    run(talk(server.url, script))


def test_metrics_count_sessions_audio_and_decodes(server: LiveServer, clip: tuple[NDArray[np.int16], str]) -> None:
    audio = server.metric("streaming_asr_audio_seconds_total")
    utterances = server.metric('streaming_asr_utterances_total{reason="stop"}')
    finals = server.metric("streaming_asr_final_seconds_count")
    # Sessions of other tests may wait for their clients.
    sessions = server.metric('streaming_asr_sessions{protocol="/v1/stream"}')
    transcribe(server.url, clip[0])
    assert server.metric("streaming_asr_audio_seconds_total") - audio == pytest.approx(len(clip[0]) / 16_000, abs=0.01)
    assert server.metric('streaming_asr_utterances_total{reason="stop"}') == utterances + 1
    assert server.metric("streaming_asr_final_seconds_count") >= finals + 1
    assert server.metric("streaming_asr_event_loop_lag_seconds_count") > 0
    assert server.metric('streaming_asr_sessions{protocol="/v1/stream"}') <= sessions
    assert server.metric("streaming_asr_ready") == 1


def test_health_and_readiness(server: LiveServer) -> None:
    assert server.get("/healthz")[0] == 200
    assert server.get("/readyz") == (200, '{"status":"ready"}')
    assert server.get("/nowhere")[0] == 404


def test_a_websocket_at_another_path_is_not_found(server: LiveServer) -> None:
    with pytest.raises(InvalidStatus) as refused, connect(f"{server.url}/live"):
        pass
    assert refused.value.response.status_code == 404
    assert "/v1/stream" in refused.value.response.body.decode()


def test_a_longer_pre_roll_in_mid_stream_costs_nobody_a_session(server: LiveServer, librivox: Path) -> None:
    sentence = speech(next(librivox.glob("*0930.wav")))

    async def change(talking: Conversation) -> str:
        await talking.send_audio(np.zeros(5 * 16_000, np.int16))
        await talking.send("configure", pre_roll_ms=2000)
        await talking.send_audio(sentence)
        await talking.send("stop")
        assert await talking.receive_all() == 1000, talking.events[-3:]
        return talking.text

    async def keep(talking: Conversation) -> str:
        await talking.send_paced(sentence)
        await talking.send("stop")
        assert await talking.receive_all() == 1000, talking.events[-3:]
        return talking.text

    async def side_by_side() -> list[str]:
        changing = (talk(f"{server.url}?pre_roll_ms=0&first_partial_ms=100", change) for _ in range(4))
        return await asyncio.gather(talk(server.url, keep), talk(server.url, keep), *changing)

    said = words("he might even have been made amiable himself")
    assert [words(text)[: len(said)] for text in run(side_by_side())] == 6 * [said]


def test_a_turn_that_is_judged_to_be_over_ends_before_silence_would_end_it(server: LiveServer, librivox: Path) -> None:
    sentence = next(entry for entry in _manifest(librivox) if entry["id"].endswith("0870"))
    samples = np.concatenate([speech(librivox / sentence["path"]), np.zeros(8000, np.int16)])

    async def script(talking: Conversation) -> Conversation:
        # The first questions may come too late, while the network is loaded, or be dropped on a busy machine.
        for _ in range(5):
            await talking.send_audio(samples, 1600)
            await talking.send("ping")
            await talking.receive("pong")
            try:
                await asyncio.wait_for(talking.receive("speech_ended"), 3)
                break
            except asyncio.TimeoutError:
                await talking.send("finalize")
                await talking.receive("finalized")
        await talking.send("stop")
        await talking.receive_all()
        return talking

    # Silence alone would take 5 s, of which half a second is sent.
    options = {"endpointing": "turn", "endpoint_ms": 5000, "partials": False}
    talking = run(talk(f"{server.url}?{urlencode(options)}", script))
    ended = [event for event in talking.of("speech_ended") if event["reason"] == "turn"]
    assert ended
    assert ended[0]["probability"] > 0.5
    assert 'streaming_asr_turn_questions_total{outcome="answered"}' in server.get("/metrics")[1]


def test_a_turn_goes_on_after_its_eager_end_and_a_silence_that_leaves_its_utterance_no_room(
    server: LiveServer, librivox: Path
) -> None:
    first, second = (entry for entry in _manifest(librivox) if entry["id"].endswith(("0880", "0930")))

    async def script(talking: Conversation) -> Conversation:
        # As above, questions may be dropped. Nothing ends the turn meanwhile.
        for _ in range(8):
            await talking.send_audio(np.concatenate([speech(librivox / first["path"]), np.zeros(8000, np.int16)]), 1600)
            try:
                await asyncio.wait_for(talking.receive("eager_turn_end"), 3)
                break
            except asyncio.TimeoutError:
                await talking.send("finalize")
                await talking.receive("finalized")
        await talking.send_audio(np.zeros(32_000, np.int16), 1600)
        await talking.send_audio(speech(librivox / second["path"]), 1600)
        await talking.send("stop")
        await talking.receive_all()
        return talking

    waits = {"endpoint_ms": 10_000, "endpoint_min_ms": 10_000, "endpoint_max_ms": 10_000}
    options = {"endpointing": "turn", "eager_threshold": 0.05, "max_utterance_s": 5, "partials": False, **waits}
    talking = run(talk(f"{server.url}?{urlencode(options)}", script))
    eager = talking.of("eager_turn_end")[-1]
    kinds = [event["type"] for event in talking.events[talking.events.index(eager) :]]
    assert kinds[:5] == ["eager_turn_end", "turn_resumed", "speech_ended", "final", "speech_started"]
    cut, last = talking.of("speech_ended")[-2:]
    assert (cut["reason"], last["reason"]) == ("length", "stop")
    assert talking.of("final")[-2]["text"] == eager["text"]
    assert talking.of("final")[-1]["start_ms"] >= talking.of("turn_resumed")[-1]["time_ms"] > cut["time_ms"] + 2000
    assert_said(eager["text"], first["text"])
    assert_said(talking.of("final")[-1]["text"], second["text"])

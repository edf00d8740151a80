"""Words through Qwen3-ASR's architecture on the real engine: a small checkpoint that was trained, and spoken sentences.

Random weights show that two ways to decode agree. These show that words, languages and times are right while people
speak and after, in each protocol; `tests/vllm/trained` says what the checkpoint is.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import jiwer
import numpy as np
import pytest
import soundfile
import torch
from numpy.typing import NDArray
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from streaming_asr.core.options import SessionOptions
from streaming_asr.core.recognizer import SAMPLE_RATE, Audio, Context, DecodeJob, Hypothesis, Kind
from streaming_asr.server.app import Application
from streaming_asr.server.options import ServerOptions
from tests.support.serving import serving
from tests.support.wire import Conversation, run, speech, talk, transcribe
from tests.vllm.engine import LiveEngine
from tests.vllm.trained.checkpoint import HERE, WEIGHTS, load_network, write_checkpoint, write_tokenizer
from tests.vllm.trained.network import positions_of
from tests.vllm.trained.vocabulary import written

Samples = NDArray[np.int16]
Message = dict[str, Any]
Clips = list[tuple[Samples, str, str]]
"""Samples, language and text of each."""
PAUSE = np.zeros(SAMPLE_RATE, np.int16)
TRANSCRIPTION = "conversation.item.input_audio_transcription"
MOST_ERRORS = 0.05


class SpeakingServer(LiveEngine):
    """The engine with the trained checkpoint, and a server in front of it."""

    async def open(self) -> None:
        self._stack = contextlib.AsyncExitStack()
        application = Application(self.recognizer, ServerOptions(session=SessionOptions()))
        self.port = await self._stack.enter_async_context(serving(application))

    async def shut(self) -> None:
        await self._stack.aclose()

    def url(self, path: str) -> str:
        return f"ws://127.0.0.1:{self.port}{path}"

    def post(self, path: str, **sent: Any) -> httpx.Response:
        return httpx.post(f"http://127.0.0.1:{self.port}{path}", timeout=240, **sent).raise_for_status()

    def decode(self, audio: Audio, utterance: str, **more: Any) -> Hypothesis:
        job = DecodeJob(id=1, kind=Kind.FINAL, utterance=utterance, audio=audio, language="en", **more)
        return self.call(self.recognizer.decode(job))

    def messages(self, path: str, sent: Sequence[Message | bytes], until: str | None = None) -> list[Message]:
        """Send all at once, and receive until a message of a type, or until the server closes."""

        async def script() -> list[Message]:
            received: list[Message] = []
            async with connect(self.url(path), ping_timeout=None, max_size=None) as socket:
                for message in sent:
                    await socket.send(message if isinstance(message, bytes) else json.dumps(message))
                with contextlib.suppress(ConnectionClosed):
                    while not received or received[-1]["type"] != until:
                        received.append(json.loads(await socket.recv()))
            return received

        return run(script())


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SpeakingServer]:
    checkpoint = write_checkpoint(tmp_path_factory.mktemp("trained"))
    server = SpeakingServer(checkpoint, "--max-model-len=2048", "--max-num-seqs=16")
    with server:
        yield server


@pytest.fixture(scope="module")
def spoken() -> Clips:
    lines = [json.loads(line) for line in (HERE / "clips" / "manifest.jsonl").read_text().splitlines()]
    return [
        (speech(HERE / "clips" / line["path"]), line["language"], written(line["language"], line["words"]))
        for line in lines
    ]


def surrounded(*sentences: Samples) -> Samples:
    """Sentences with a second of silence around each."""
    return np.concatenate([PAUSE, *(piece for sentence in sentences for piece in (sentence, PAUSE))])


def as_float(samples: Samples) -> Audio:
    return (samples / 32768).astype(np.float32)


def as_wav(samples: Samples) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, SAMPLE_RATE, format="WAV")
    return file.getvalue()


def appended(samples: Samples) -> list[Message]:
    """OpenAI's messages for audio, 100 ms in each."""
    pieces = np.split(samples, range(1600, len(samples), 1600))
    audio = (base64.b64encode(piece.tobytes()).decode() for piece in pieces)
    return [{"type": "input_audio_buffer.append", "audio": piece} for piece in audio]


def plain(text: str) -> str:
    """Words in small letters and without punctuation; each Mandarin character is one."""
    kept = "".join(char if char.isalnum() else " " for char in text.lower())
    return " ".join("".join(f" {char} " if char > "\u2e80" else char for char in kept).split())


def test_vllm_answers_as_plain_torch_token_by_token(live: SpeakingServer, spoken: Clips, tmp_path: Path) -> None:
    network = load_network(WEIGHTS, write_tokenizer(tmp_path))
    # The last has two windows of the encoder.
    longest = np.concatenate([samples for samples, _, _ in spoken])
    asked = (spoken[0][0], Context()), (spoken[4][0], Context(keywords=("Marc", "open"))), (longest, Context())
    for n, (samples, context) in enumerate(asked):
        audio = live.windows(as_float(samples), name=f"torch {n}")
        completion = live.run(live.request(audio, context, max_tokens=60))
        features: torch.Tensor = audio.data["input_audio_features"]
        ids = live.prompt.ids(1, context, None)
        at = ids.index(network.audio)
        positions = [network.audio] * positions_of(features.shape[1])
        answer = network.greedy(features, [*ids[:at], *positions, *ids[at + 1 :]])
        assert [token for token in completion.tokens if token != network.end] == answer
    assert len(audio.frames) == 2


def test_recordings_are_right_in_both_languages(live: SpeakingServer, spoken: Clips) -> None:
    for language in ("en", "zh"):
        clips = [(samples, text) for samples, spoken_language, text in spoken if spoken_language == language]
        answers = [
            live.post("/v1/audio/transcriptions", files={"file": as_wav(surrounded(samples))}).json()["text"]
            for samples, _ in clips
        ]
        texts = [plain(text) for _, text in clips]
        assert jiwer.wer(texts, [plain(answer) for answer in answers]) <= MOST_ERRORS, answers


def test_words_become_stable_while_they_are_spoken(live: SpeakingServer, spoken: Clips) -> None:
    samples, _, text = spoken[8]

    async def script(talking: Conversation) -> Conversation:
        receiving = asyncio.create_task(talking.receive_all())
        await talking.send_followed(samples)
        await talking.send("stop")
        assert await receiving == 1000
        return talking

    talking = run(talk(live.url("/v1/stream"), script))
    (final,) = talking.of("final")
    assert (plain(final["text"]), final["language"]) == (plain(text), "en")
    stable = ""
    for partial in talking.of("partial"):
        assert partial["stable"].startswith(stable)
        stable = partial["stable"]
    assert final["text"].startswith(stable.strip())
    kinds = [event["type"] for event in talking.events]
    shown = [event["stable"] for event in talking.events[: kinds.index("speech_ended")] if event["type"] == "partial"]
    assert len(plain(shown[-1]).split()) >= 3, shown


def test_a_language_is_kept_once_two_sentences_in_a_row_had_it(live: SpeakingServer, spoken: Clips) -> None:
    sentences = [spoken[n] for n in (0, 4, 5, 2)]

    async def script(talking: Conversation) -> list[Message]:
        finals = []
        for samples, _, _ in sentences:
            await talking.send_audio(surrounded(samples), 1600)
            # Sent all at once, a sentence is decoded while the one before is not counted yet.
            finals.append(await talking.receive("final"))
        return finals

    finals = run(talk(live.url("/v1/stream"), script))
    assert [final["language"] for final in finals] == ["en", "zh", "zh", "zh"]
    assert [plain(final["text"]) for final in finals[:3]] == [plain(text) for _, _, text in sentences[:3]]


def test_a_chosen_language_needs_no_detection(live: SpeakingServer, spoken: Clips) -> None:
    for n, language in ((0, "en"), (4, "zh")):
        samples, _, text = spoken[n]
        (final,) = transcribe(live.url(f"/v1/stream?language={language}"), surrounded(samples)).of("final")
        assert (plain(final["text"]), final["language"]) == (plain(text), language)


def test_noise_that_passes_for_a_voice_gives_an_empty_final(live: SpeakingServer) -> None:
    noise = np.random.default_rng(3).standard_normal(2 * SAMPLE_RATE) * 0.1
    samples = (noise * 32767).clip(-32767, 32767).astype(np.int16)
    talking = transcribe(live.url("/v1/stream?vad=webrtc"), surrounded(samples))
    (final,) = talking.of("final")
    assert (final["text"], final["language"]) == ("", None)
    assert not [partial for partial in talking.of("partial") if partial["stable"] + partial["tentative"]]


def test_a_keyword_decides_how_a_name_is_written(live: SpeakingServer, spoken: Clips) -> None:
    url = live.url("/v1/stream?language=en")
    for keyword, name in (("", "Mark"), ("&keyword=Marc", "Marc"), ("&keyword=music", "Mark")):
        (final,) = transcribe(url + keyword, surrounded(spoken[1][0])).of("final")
        assert final["text"] == f"Call {name}."


def test_a_prefix_that_loops_is_dropped(live: SpeakingServer, spoken: Clips) -> None:
    samples, _, text = spoken[0]
    audio = as_float(samples)
    whole = live.decode(audio, "no prefix")
    looped = live.decode(audio, "looping prefix", prefix=whole.tokens[1:2] * 20)
    assert (looped.text, looped.cost.decodes) == (text, 2)
    assert live.decode(audio, "right prefix", prefix=whole.tokens[:2]).text == text


def test_subtitles_have_the_words_at_their_times(live: SpeakingServer, spoken: Clips) -> None:
    recording = np.concatenate([PAUSE, PAUSE, spoken[0][0], PAUSE, PAUSE, spoken[2][0], PAUSE])
    data = {"response_format": "srt"}
    answer = live.post("/v1/audio/transcriptions", files={"file": as_wav(recording)}, data=data)
    blocks = [block.splitlines() for block in answer.text.strip().split("\n\n")]
    texts = " ".join(line for block in blocks for line in block[2:])
    assert plain(texts) == plain(f"{spoken[0][2]} {spoken[2][2]}")
    first, last = (seconds(blocks[n][1].split(" --> ")[0]) for n in (0, -1))
    assert 1.5 < first < 2.3
    assert last > first + 2


def seconds(time: str) -> float:
    hours, minutes, rest = time.replace(",", ".").split(":")
    return 3600 * int(hours) + 60 * int(minutes) + float(rest)


def test_a_chat_answers_as_the_model_wrote_it(live: SpeakingServer, spoken: Clips) -> None:
    for n, name in ((0, "English"), (4, "Chinese")):
        samples, _, text = spoken[n]
        data = base64.b64encode(as_wav(surrounded(samples))).decode()
        content = [{"type": "input_audio", "input_audio": {"data": data, "format": "wav"}}]
        answer = live.post("/v1/chat/completions", json={"messages": [{"role": "user", "content": content}]}).json()
        assert answer["choices"][0]["message"]["content"] == f"language {name}<asr_text>{text}"


def test_openai_realtime(live: SpeakingServer, spoken: Clips) -> None:
    audio = {"input": {"format": {"type": "audio/pcm", "rate": SAMPLE_RATE}, "turn_detection": {"type": "server_vad"}}}
    update = {"type": "session.update", "session": {"type": "transcription", "audio": audio}}
    messages = live.messages(
        "/v1/realtime?intent=transcription",
        [update, *appended(surrounded(spoken[4][0]))],
        until=f"{TRANSCRIPTION}.completed",
    )
    assert messages[-1]["transcript"] == spoken[4][2]
    assert messages[-1]["languages"] == [{"code": "zh"}]
    assert "".join(one["delta"] for one in messages if one["type"] == f"{TRANSCRIPTION}.delta") == spoken[4][2]


def test_vllm_realtime(live: SpeakingServer, spoken: Clips) -> None:
    commit = {"type": "input_audio_buffer.commit"}
    sent = [commit, *appended(surrounded(spoken[0][0])), {**commit, "final": True}]
    assert live.messages("/v1/realtime", sent, until="transcription.done")[-1]["text"] == spoken[0][2]


def test_dashscope(live: SpeakingServer, spoken: Clips) -> None:
    session = {"modalities": ["text"], "turn_detection": {"type": "server_vad"}}
    update = {"type": "session.update", "session": session}
    messages = live.messages(
        "/api-ws/v1/realtime?model=qwen3-asr-flash-realtime",
        [update, *appended(surrounded(spoken[5][0])), {"type": "session.finish"}],
        until="session.finished",
    )
    (completed,) = [one for one in messages if one["type"] == f"{TRANSCRIPTION}.completed"]
    assert (completed["transcript"], completed["language"]) == (spoken[5][2], "zh")


def test_deepgram_listen(live: SpeakingServer, spoken: Clips) -> None:
    messages = live.messages(
        f"/v1/listen?encoding=linear16&sample_rate={SAMPLE_RATE}&language=multi",
        [surrounded(spoken[3][0]).tobytes(), {"type": "CloseStream"}],
    )
    finals = [one["channel"]["alternatives"][0] for one in messages if one["type"] == "Results" and one["is_final"]]
    (final,) = [final for final in finals if final["transcript"]]
    assert (final["transcript"], final["languages"]) == (spoken[3][2], ["en"])
    assert [word["punctuated_word"] for word in final["words"]] == spoken[3][2].split()


def test_deepgram_flux(live: SpeakingServer, spoken: Clips) -> None:
    messages = live.messages(
        f"/v2/listen?model=flux-general-en&encoding=linear16&sample_rate={SAMPLE_RATE}",
        [surrounded(spoken[0][0]).tobytes(), {"type": "CloseStream"}],
    )
    (end,) = [one for one in messages if one.get("event") == "EndOfTurn"]
    assert end["transcript"] == spoken[0][2]

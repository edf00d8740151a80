"""What profiles do to the text of real speech, through the real server."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest
from whisper_normalizer.english import EnglishTextNormalizer

from benchmarks.common.speech import Clip, clips
from benchmarks.studies.conversation import as_sent
from clients.events import Final
from clients.stream import open_stream
from streaming_asr.core.recognizer import SAMPLE_RATE, Audio
from tests.support.live_server import LiveServer
from tests.support.wire import run

REST_S = 0.7
"""How long the speaker rests between phrases: longer than the usual endpoint."""

pytestmark = pytest.mark.full


def _with_rests(clip: Clip, *last_words: int) -> Audio:
    """The clip with a rest after each of these words, in the room of its first moments, and silence behind it."""
    audio = clip.audio()
    room = np.resize(audio[: SAMPLE_RATE // 10], round(REST_S * SAMPLE_RATE))
    ends = [round(clip.words[word][2] * SAMPLE_RATE) for word in last_words]
    pieces = np.split(audio, ends)
    rested = [part for piece in pieces[:-1] for part in (piece, room)]
    return np.concatenate([*rested, pieces[-1], np.zeros(2 * SAMPLE_RATE, np.float32)])


async def _finals(server: LiveServer, audio: Audio, **options: object) -> list[str]:
    url = f"ws://127.0.0.1:{server.port}/v1/stream"
    async with open_stream(url, {"sample_rate": SAMPLE_RATE, "partials": False, "language": "en", **options}) as stream:

        async def send() -> None:
            await stream.send(as_sent(audio, 0.0))
            await stream.stop()

        sending = asyncio.create_task(send())
        finals = [event.text async for event in stream if isinstance(event, Final)]
        await sending
        return finals


def test_captions_of_a_speech_with_rhetorical_rests_are_sentences(server: LiveServer, librivox: Path) -> None:
    clip = next(clip for clip in clips(librivox.parent, librivox.name) if clip.id.endswith("0890"))
    words = [word for word, _, _ in clip.words]
    speech = _with_rests(clip, words.index("hearted"), words.index("selfish"))

    async def scenario() -> None:
        (whole,) = await _finals(server, speech, profile="captions")
        assert EnglishTextNormalizer()(whole) == EnglishTextNormalizer()(clip.text)
        assert len(await _finals(server, speech)) == 3
        assert len(await _finals(server, speech, profile="captions", endpoint_ms=500)) == 3

    run(scenario())

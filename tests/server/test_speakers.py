"""Speaker labels through a real server: two readers in one stream, and a server that has no more room for labels."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.support.live_server import LiveServer
from tests.support.wire import Conversation, run, speech, talk, transcribe

# They need a live recognizer.
pytestmark = pytest.mark.full

RATE = 16_000


@pytest.fixture(scope="module")
def limited() -> Iterator[LiveServer]:
    with LiveServer("--max-speaker-sessions", "1") as live:
        yield live


@pytest.fixture(scope="module")
def in_turn(librivox: Path) -> NDArray[np.int16]:
    """Two readers, two sentences each, with a pause after each sentence."""
    readers = librivox.parent / "readers"
    paths = [
        librivox / "sense_and_sensibility_01_0870.wav",
        readers / "1272-128104-0000.wav",
        librivox / "sense_and_sensibility_01_0930.wav",
        readers / "1272-128104-0001.wav",
    ]
    pause = np.zeros(RATE, np.int16)
    return np.concatenate([part for path in paths for part in (speech(path), pause)])


def test_two_readers_in_one_stream_are_labelled_right(limited: LiveServer, in_turn: NDArray[np.int16]) -> None:
    conversation = transcribe(f"{limited.url}?speakers=true&word_times=true", in_turn)
    finals = [final for final in conversation.of("final") if final["text"]]
    labelled = [(final["speaker"], {word["speaker"] for word in final["words"]}) for final in finals]
    assert labelled == [(0, {0}), (1, {1}), (0, {0}), (1, {1})]


def test_without_being_asked_for_no_message_has_a_label(limited: LiveServer, in_turn: NDArray[np.int16]) -> None:
    conversation = transcribe(f"{limited.url}?word_times=true", in_turn[: 8 * RATE])
    (final, *_) = conversation.of("final")
    assert "speaker" not in final
    assert "speaker" not in final["words"][0]


def test_a_session_that_is_one_too_many_is_refused_with_the_reason(limited: LiveServer) -> None:
    asked = f"{limited.url}?speakers=true"

    async def second(first: Conversation) -> str:
        await first.receive("ready")

        async def refused(talking: Conversation) -> str:
            error = await talking.receive("error")
            return f"{error['code']}: {error['message']}"

        return await talk(asked, refused)

    reason = run(talk(asked, second))
    assert reason.startswith("busy: The server is busy: speaker labels are on in 1 sessions, as many as are allowed;")


def test_channels_that_are_parties_are_labelled_by_their_number_without_a_place(
    limited: LiveServer, in_turn: NDArray[np.int16]
) -> None:
    left, right = in_turn[: 8 * RATE], np.zeros(8 * RATE, np.int16)
    right[: 5 * RATE] = in_turn[-6 * RATE : -RATE]
    frames = np.stack([left, right], axis=1).reshape(-1)
    query = "speakers=true&channels=2&channel_mode=split"
    finals = transcribe(f"{limited.url}?{query}", frames, chunk=3200).of("final")
    assert {(final["channel"], final["speaker"]) for final in finals if final["text"]} == {(0, 0), (1, 1)}

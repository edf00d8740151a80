"""The voice port: any network can be queried, by one session at once and by many in a batch."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.common.speech import OWN, clips
from streaming_asr.core.events import Event, SpeechEnded, SpeechStarted
from streaming_asr.core.options import Encoding, SessionOptions
from streaming_asr.core.recognizer import Audio
from streaming_asr.core.session import Session
from streaming_asr.core.voice import Detection, run_inline
from streaming_asr.server.live.voice_batches import VoiceBatcher
from streaming_asr.voice.detectors import make_detector
from tests.support.fakes import CAPABILITIES, silence, speech

FRAME = 160


class LoudnessNetwork:
    """Answers with the loudness of each frame, smoothed by what it remembers: unlike Silero in all that it is sent."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    def answer(self, queries: Sequence[LoudnessQuery]) -> NDArray[np.float32]:
        self.batches.append(len(queries))
        for query in queries:
            query.memory[0] = 0.5 * query.memory[0] + 0.5 * query.loudest
        return np.array([query.memory[0] for query in queries], np.float32)


@dataclass
class LoudnessQuery:
    network: LoudnessNetwork
    loudest: float
    memory: list[float]


class LoudnessDetector:
    frame_samples = FRAME

    def __init__(self, network: LoudnessNetwork) -> None:
        self._network = network
        self.reset()

    def detect(self, frames: Audio) -> Detection[NDArray[np.bool_]]:
        decisions = np.zeros(len(frames), bool)
        for index, frame in enumerate(frames):
            answer = yield LoudnessQuery(self._network, float(np.abs(frame).max()), self._memory)
            decisions[index] = answer > 0.1
        return decisions

    def reset(self) -> None:
        self._memory = [0.0]


def _loudness_session(key: str, network: LoudnessNetwork) -> Session:
    return Session(key, SessionOptions(encoding=Encoding.F32LE), CAPABILITIES, lambda _: LoudnessDetector(network))


def _silero_session(key: str) -> Session:
    return Session(key, SessionOptions(encoding=Encoding.F32LE, vad="silero"), CAPABILITIES, make_detector)


def _spoken(events: Sequence[Event]) -> list[tuple[int, int]]:
    starts = [event.start_ms for event in events if isinstance(event, SpeechStarted)]
    return list(zip(starts, (event.end_ms for event in events if isinstance(event, SpeechEnded)), strict=True))


def test_a_session_gets_the_answers_of_any_network_at_once() -> None:
    network = LoudnessNetwork()
    session = _loudness_session("s", network)
    audio = np.concatenate([silence(0.5), speech(1), silence(1)])
    ((start, end),) = _spoken(session.receive(audio.tobytes(), 0.0))
    assert (start, end) == (500, 1530)
    assert set(network.batches) == {1}


def test_a_detection_returns_its_result_and_what_it_was_sent_stays_with_it() -> None:
    detector = LoudnessDetector(LoudnessNetwork())
    frames = speech(0.1).reshape(-1, FRAME)
    assert run_inline(detector.detect(frames)).all()
    assert run_inline(detector.detect(np.zeros_like(frames)))[0], "the memory is gone"
    detector.reset()
    assert not run_inline(detector.detect(np.zeros_like(frames))).any()


def test_a_batch_goes_to_the_networks_that_it_is_for() -> None:
    """Sessions with Silero and with another network side by side: each gets what it gets alone."""
    network = LoudnessNetwork()
    clip = clips(OWN, "librivox")[0].audio()
    tracks = {"loud a": np.concatenate([speech(1), silence(1)]), "loud b": np.concatenate([silence(1), speech(1)])}
    tracks |= {"silero a": np.concatenate([clip, silence(1)]), "silero b": np.concatenate([silence(0.2), clip])}

    def session(key: str) -> Session:
        return _silero_session(key) if key.startswith("silero") else _loudness_session(key, network)

    alone = {key: session(key).receive(audio.tobytes(), 0.0) for key, audio in tracks.items()}
    assert all(alone.values())
    network.batches.clear()

    async def together() -> dict[str, list[Event]]:
        batcher = VoiceBatcher()
        return dict(zip(tracks, await asyncio.gather(*(_received(batcher, key) for key in tracks)), strict=True))

    async def _received(batcher: VoiceBatcher, key: str) -> list[Event]:
        detection = session(key).receiving(tracks[key].tobytes(), 0.0)
        answer = None
        try:
            while True:
                query = detection.send(answer)
                answered = asyncio.get_running_loop().create_future()
                batcher.ask(query, answered.set_result, answered.cancel)
                answer = await answered
        except StopIteration as end:
            events: list[Event] = end.value
            return events

    assert asyncio.run(together()) == alone
    assert max(network.batches) == 2

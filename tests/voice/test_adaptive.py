"""The default detector, and the one for recordings: alike at every level, without holes, and what they cost."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.common.speech import OWN, clips
from streaming_asr.core.options import SessionOptions
from streaming_asr.core.recognizer import SAMPLE_RATE, Audio
from streaming_asr.core.segmenter import Mark, Segmenter
from streaming_asr.core.voice import VoiceDetector, run_inline
from streaming_asr.voice.adaptive import AdaptiveDetector, ThoroughDetector
from streaming_asr.voice.silero import FRAME, SileroNetwork, SileroQuery

DETECTORS = (AdaptiveDetector, ThoroughDetector)
both = pytest.mark.parametrize("detector", DETECTORS)


def _quieter(audio: Audio, db: float) -> Audio:
    """As 16-bit samples would have it."""
    return (np.round(audio * 10 ** (-db / 20) * 32768) / 32768).astype(np.float32)


def _decided(detector: VoiceDetector, audio: Audio) -> NDArray[np.bool_]:
    """Whether each frame is voiced, given 3 at a time."""
    frames = audio[: len(audio) // FRAME * FRAME].reshape(-1, FRAME)
    return np.concatenate(
        [run_inline(detector.detect(frames[start : start + 3])) for start in range(0, len(frames), 3)]
    )


def _talk() -> tuple[Audio, NDArray[np.bool_]]:
    """All clips, a second of quiet room between them, and which frames lie within a word."""
    room = np.random.default_rng(0)
    parts, said = [], []
    at = 0.0
    for clip in clips(OWN, "librivox"):
        parts += [room.normal(0, 1e-3, SAMPLE_RATE).astype(np.float32), clip.audio()]
        at += 1
        said += [(at + start, at + end) for _, start, end in clip.words]
        at += len(parts[-1]) / SAMPLE_RATE
    audio = np.concatenate(parts)
    seconds = (np.arange(len(audio) // FRAME) + 0.5) * FRAME / SAMPLE_RATE
    within = np.zeros(len(seconds), bool)
    for start, end in said:
        within |= (seconds >= start) & (seconds < end)
    return audio, within


def _utterances(voiced: NDArray[np.bool_]) -> int:
    segmenter = Segmenter(FRAME, SessionOptions())
    boundaries = segmenter.push(voiced, np.ones(len(voiced), np.float32))
    return sum(boundary.mark is Mark.ONSET for boundary in boundaries)


@both
@pytest.mark.parametrize("db", [20, 30, 40])
def test_quiet_speech_is_voiced_as_loud_speech_is(detector: type[VoiceDetector], db: float) -> None:
    audio, within = _talk()
    loud, quiet = _decided(detector(), audio), _decided(detector(), _quieter(audio, db))
    assert (loud == quiet).mean() > 0.93
    assert quiet[within].mean() > 0.9
    assert abs(_utterances(loud) - _utterances(quiet)) <= 2


@both
def test_no_word_is_left_out_within_speech(detector: type[VoiceDetector]) -> None:
    """The endpoint would fire in the middle of a sentence."""
    for db in (0, 30):
        audio, within = _talk()
        voiced = _decided(detector(), _quieter(audio, db))
        missed = within & ~voiced
        longest = max((len(list(run)) for hole, run in itertools.groupby(missed) if hole), default=0)
        assert longest * FRAME / SAMPLE_RATE < 0.3


@both
@pytest.mark.parametrize(("first", "second"), [(0, 30), (30, 0)])
def test_a_voice_much_louder_or_quieter_than_the_one_before_is_voiced(
    detector: type[VoiceDetector], first: float, second: float
) -> None:
    audio, within = _talk()
    voiced = _decided(detector(), np.concatenate([_quieter(audio, first), _quieter(audio, second)]))
    after = voiced[-len(within) :]
    assert after[within[-len(after) :]].mean() > 0.75
    # Once the gain has come down or up, nothing is missing.
    half = len(after) // 2
    assert after[half:][within[half:]].mean() > 0.9


@both
@pytest.mark.parametrize("dbfs", [-20, -40, -60, -80, -95])
def test_noise_alone_never_becomes_a_voice(detector: type[VoiceDetector], dbfs: float) -> None:
    hiss = np.random.default_rng(0).normal(0, 10 ** (dbfs / 20), 30 * SAMPLE_RATE)
    hum = 10 ** (dbfs / 20) * np.sin(2 * np.pi * 100 * np.arange(len(hiss)) / SAMPLE_RATE)
    for noise in (hiss, hum, hiss + hum):
        assert not _decided(detector(), _quieter(noise, 0)).any()


@both
def test_noise_after_a_quiet_voice_is_not_raised_to_one(detector: type[VoiceDetector]) -> None:
    """The gain that the voice needed stays while it is silent."""
    voice = _quieter(clips(OWN, "librivox")[0].audio(), 30)
    hiss = np.random.default_rng(0).normal(0, 1e-4, 30 * SAMPLE_RATE).astype(np.float32)
    voiced = _decided(detector(), np.concatenate([voice, hiss]))
    assert voiced[: len(voice) // FRAME].mean() > 0.6
    assert not voiced[len(voice) // FRAME + 32 :].any()


@both
def test_an_offset_changes_little(detector: type[VoiceDetector]) -> None:
    audio, _ = _talk()
    offset = _decided(detector(), np.clip(audio + 0.1, -1, 1))
    assert (offset == _decided(detector(), audio)).mean() > 0.93


def _asked(monkeypatch: pytest.MonkeyPatch, audio: Audio) -> int:
    """Frames that Silero is given."""
    answer = SileroNetwork.answer
    given = []

    def counted(network: SileroNetwork, queries: Sequence[SileroQuery]) -> list[list[float]]:
        given.extend(len(query.frames) for query in queries)
        return answer(network, queries)

    with monkeypatch.context() as patched:
        patched.setattr(SileroNetwork, "answer", counted)
        _decided(AdaptiveDetector(), audio)
    return sum(given)


@pytest.mark.parametrize("rms", [0, 1e-4, 1e-3, 1e-2])
def test_a_quiet_room_costs_no_network(monkeypatch: pytest.MonkeyPatch, rms: float) -> None:
    room = np.random.default_rng(0).normal(0, rms, 60 * SAMPLE_RATE).astype(np.float32)
    assert _asked(monkeypatch, room) <= 0.01 * len(room) / FRAME


def test_clear_speech_costs_a_part_of_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    speech = np.concatenate([clip.audio() for clip in clips(OWN, "librivox")])
    assert _asked(monkeypatch, speech) < 0.8 * len(speech) / FRAME


def test_steady_noise_that_follows_a_voice_at_once_is_soon_not_taken_for_it() -> None:
    """As on many phone lines. Silero by itself takes up to 0.85 s here to notice that the voice has ended."""
    noise = np.random.default_rng(0).normal(0, 10 ** (-45 / 20), 2 * SAMPLE_RATE).astype(np.float32)
    for clip in clips(OWN, "librivox"):
        end = round(clip.words[-1][2] * SAMPLE_RATE)
        voiced = _decided(AdaptiveDetector(), np.concatenate([clip.audio()[:end], noise]))
        last = (int(np.flatnonzero(voiced)[-1]) + 1) * FRAME
        assert last - end < 0.75 * SAMPLE_RATE


def test_a_quieter_voice_is_not_taken_for_the_echo_of_a_louder_one_for_long() -> None:
    first, second = (clip.audio() for clip in clips(OWN, "librivox")[:2])
    pause = np.random.default_rng(0).normal(0, 1e-5, SAMPLE_RATE).astype(np.float32)
    voiced = _decided(AdaptiveDetector(), np.concatenate([first, pause, _quieter(second, 30)]))
    alone = _decided(AdaptiveDetector(), second)
    quiet = voiced[-len(alone) :]
    assert quiet.sum() > 0.85 * alone.sum()

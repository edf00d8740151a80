"""The voice detectors on real speech and on what is none."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from benchmarks.common.speech import OWN, clips
from streaming_asr.core.options import OptionError, SessionOptions
from streaming_asr.core.recognizer import SAMPLE_RATE, Audio
from streaming_asr.core.voice import VoiceDetector, run_inline
from streaming_asr.voice.detectors import (
    DETECTORS,
    CascadeDetector,
    SileroDetector,
    WebRtcDetector,
    make_detector,
    ungated,
)
from streaming_asr.voice.silero import CONTEXT, FRAME, WIDTH, Memory, SileroNetwork, SileroQuery, network

NAMES = tuple(DETECTORS)


def _made(name: str, threshold: float = 0.5) -> VoiceDetector:
    return make_detector(SessionOptions(vad=name, vad_threshold=threshold))


def decide(detector: VoiceDetector, frames: Audio) -> NDArray[np.bool_]:
    """Whether each frame is voiced."""
    return run_inline(detector.detect(frames))


def _clip(index: int = 0) -> Audio:
    return clips(OWN, "librivox")[index].audio()


def _frames(audio: Audio, detector: VoiceDetector) -> Audio:
    frame = detector.frame_samples
    return audio[: len(audio) // frame * frame].reshape(-1, frame)


@pytest.mark.parametrize("name", NAMES)
def test_words_are_voiced(name: str) -> None:
    """Against the words' times from a forced alignment, which no detector had a part in."""
    detector = _made(name)
    for clip in clips(OWN, "librivox"):
        detector.reset()
        voiced = decide(detector, _frames(clip.audio(), detector))
        seconds = np.arange(len(voiced)) * detector.frame_samples / SAMPLE_RATE
        said = np.zeros(len(voiced), bool)
        for _, start, end in clip.words:
            said |= (seconds >= start) & (seconds < end)
        assert voiced[said].mean() > 0.85


@pytest.mark.parametrize("name", NAMES)
def test_digital_silence_is_unvoiced(name: str) -> None:
    detector = _made(name)
    assert not decide(detector, np.zeros((100, detector.frame_samples), np.float32)).any()


@pytest.mark.parametrize("name", ["adaptive", "thorough", "silero", "cascade"])
@pytest.mark.parametrize("sound", ["hiss", "tone", "clicks"])
def test_noise_is_no_speech(name: str, sound: str) -> None:
    time = np.arange(5 * SAMPLE_RATE) / SAMPLE_RATE
    samples = {
        "hiss": np.random.default_rng(0).normal(0, 0.1, len(time)),
        "tone": 0.3 * np.sin(2 * np.pi * 440 * time),
        "clicks": np.where(np.arange(len(time)) % 4000 < 20, 0.5, 0.0),
    }[sound]
    detector = _made(name)
    assert decide(detector, _frames(samples.astype(np.float32), detector)).mean() < 0.02


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=15, deadline=None)
@given(cuts=st.lists(st.integers(0, 400), max_size=12))
def test_any_split_gives_the_same_decisions(name: str, cuts: list[int]) -> None:
    gap = np.zeros(SAMPLE_RATE, np.float32)
    detector = _made(name)
    frames = _frames(np.concatenate([_clip(1), gap, _clip(4)]), detector)
    whole = decide(detector, frames)
    detector.reset()
    bounds = sorted(min(cut, len(frames)) for cut in cuts)
    parts = [frames[a:b] for a, b in zip([0, *bounds], [*bounds, len(frames)], strict=True)]
    assert np.array_equal(np.concatenate([decide(detector, part) for part in parts]), whole)
    detector.reset()
    assert np.array_equal(np.concatenate([decide(detector, frame[None]) for frame in frames]), whole)


def test_silero_gives_the_probabilities_that_its_makers_model_gives() -> None:
    """Those of `silero_vad_16k_sequence.onnx` by onnxruntime, each sixth frame of the first clip."""
    expected = [
        *(0.04673, 0.07793, 0.84963, 0.99988, 1.0, 0.99995, 0.99995, 0.99996, 0.99999, 0.99998, 1.0, 0.9999, 0.99893),
        *(0.99998, 0.99997, 0.99998, 1.0, 1.0, 0.99999, 0.9999, 0.99975, 0.99482, 0.99991, 0.99943, 0.99946, 0.99278),
        *(0.99699, 0.99998, 0.99986, 0.99992, 0.99911, 0.99996, 0.99999, 0.99997, 0.99997, 0.99789, 0.05352),
    ]
    frames = _clip()[: len(_clip()) // FRAME * FRAME].reshape(-1, FRAME)
    (found,) = network().answer([SileroQuery(np.zeros(CONTEXT, np.float32), frames, Memory())])
    assert np.allclose(found[::6], expected, atol=2e-5)


@given(st.lists(st.tuples(st.integers(0, 100), st.integers(1, 20)), min_size=1, max_size=9))
@settings(max_examples=20, deadline=None)
def test_silero_answers_many_channels_as_it_answers_each(places: list[tuple[int, int]]) -> None:
    frames = _clip()[: len(_clip()) // FRAME * FRAME].reshape(-1, FRAME)

    def ask(start: int, count: int) -> SileroQuery:
        memory = Memory()
        memory.state = np.tanh(np.random.default_rng(start).normal(size=(2, WIDTH))).astype(np.float32)
        return SileroQuery(frames[start, -CONTEXT:], frames[start + 1 : start + 1 + count], memory)

    alone, together = ([ask(*place) for place in places] for _ in range(2))
    answers = network().answer(together)
    for single, among, answer in zip(alone, together, answers, strict=True):
        assert np.allclose(network().answer([single]), [answer], atol=1e-5)
        assert np.allclose(single.memory.state, among.memory.state, atol=1e-4)


def test_detectors_do_not_share_what_they_heard() -> None:
    one, other = _made("cascade"), _made("cascade")
    frames = _frames(_clip(), one)
    alone = decide(one, frames)
    one.reset()
    mixed = []
    for frame in frames:
        mixed.append(decide(one, frame[None]))
        decide(other, frames[:1])
    assert np.array_equal(np.concatenate(mixed), alone)


def test_the_cascade_hears_what_silero_hears_after_a_long_silence() -> None:
    detector = _made("cascade")
    quiet = np.zeros(20 * SAMPLE_RATE // 512 * 512, np.float32)
    after = decide(detector, _frames(np.concatenate([quiet, _clip()]), detector))[len(quiet) // 512 :]
    silero = decide(_made("silero"), _frames(_clip(), detector))
    assert (after == silero).mean() > 0.9


def test_the_cascade_asks_silero_about_a_part_of_clear_speech_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a session costs while somebody speaks; and what Silero is shown begins where the frame before it ends."""
    detector = _made("cascade")
    frames = _frames(np.concatenate([clip.audio() for clip in clips(OWN, "librivox")]), detector)
    places = {frame.tobytes(): place for place, frame in enumerate(frames)}
    answer = SileroNetwork.answer
    shown = []

    def watched(network: SileroNetwork, asks: Sequence[SileroQuery]) -> list[list[float]]:
        for ask in asks:
            place = places[ask.frames[0].tobytes()]
            assert np.array_equal(ask.frames, frames[place : place + len(ask.frames)])
            assert np.array_equal(ask.before, frames[place - 1, -CONTEXT:] if place else np.zeros(CONTEXT))
            shown.append(len(ask.frames))
        return answer(network, asks)

    monkeypatch.setattr(SileroNetwork, "answer", watched)
    voiced = [decide(detector, frames[start : start + 3]) for start in range(0, len(frames), 3)]
    assert np.concatenate(voiced).mean() > 0.7
    assert sum(shown) < 0.7 * len(frames)


@pytest.mark.parametrize("threshold", [0.05, 0.5, 0.95])
def test_the_cascade_lets_go_of_speech_that_ends_in_noise(threshold: float) -> None:
    """The gate stays open in such noise, so it is Silero that must say that the speech is over."""
    detector = _made("cascade", threshold)
    room = np.random.default_rng(0).normal(0, 0.02, 20 * SAMPLE_RATE).astype(np.float32)
    speech = _clip()
    room[SAMPLE_RATE : SAMPLE_RATE + len(speech)] += speech
    voiced = decide(detector, _frames(room, detector))
    ended = (SAMPLE_RATE + len(speech)) // FRAME
    assert voiced[:ended].any()
    assert not voiced[ended + 16 :].any()


def test_samples_beyond_full_scale_are_as_loud_as_can_be() -> None:
    """Resampling overshoots; a sample of 1.2 must not become -0.8."""
    detector = _made("webrtc")
    rumble = 1.2 * np.sin(2 * np.pi * 20 * np.arange(3 * SAMPLE_RATE) / SAMPLE_RATE)
    clipped = decide(detector, _frames(np.clip(rumble, -1, 1).astype(np.float32), detector))
    detector.reset()
    assert np.array_equal(decide(detector, _frames(rumble.astype(np.float32), detector)), clipped)


def test_a_wrong_name_threshold_or_mode_is_refused() -> None:
    with pytest.raises(OptionError, match=f"vad: 'ears' is not one of {', '.join(DETECTORS)}"):
        _made("ears")
    with pytest.raises(ValueError, match="between 0 and 1"):
        SileroDetector(1.5)
    with pytest.raises(ValueError, match="between 0 and 1"):
        CascadeDetector(float("nan"))
    with pytest.raises(ValueError, match="0, 1, 2 or 3"):
        WebRtcDetector(4)


def test_detectors_without_a_gate_take_over_in_mid_stream() -> None:
    """A client may begin to commit while audio flows."""
    for name in NAMES:
        assert _made(name).frame_samples == _made(ungated(name)).frame_samples

"""An utterance's items: what is frozen, what is new, and when a name may be used again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from streaming_asr.core.mel import floor_of, normalize
from streaming_asr.core.recognizer import Audio
from streaming_asr.recognizers.vllm.models.mel import LogMel
from streaming_asr.recognizers.vllm.models.qwen3_audio import Geometry, audio_tokens
from streaming_asr.recognizers.vllm.models.windows import UtteranceWindows, split_samples
from tests.vllm.engine import speech

BINS, WINDOW = 128, 800


def windows(name: str = "utterance") -> UtteranceWindows:
    return UtteranceWindows(name, BINS, WINDOW)


def whole_features(audio: Audio) -> np.ndarray:
    log_power = LogMel(BINS)(audio)
    return normalize(log_power, floor_of(log_power))


@pytest.mark.parametrize(
    ("frames", "items"),
    [
        (50, [50]),
        (800, [800]),
        (899, [899]),
        (900, [800, 100]),
        (1699, [800, 899]),
        (1700, [800, 800, 100]),
        (2400, [800, 800, 800]),
    ],
)
def test_a_window_is_frozen_once_a_second_follows_it(librivox: Path, frames: int, items: list[int]) -> None:
    audio = speech(librivox, 24)[: frames * 160 + 159]
    assert [item.frames for item in windows().items(audio, exact=True)] == items
    assert [len(part) // 160 for part in split_samples(audio, WINDOW)] == items


def test_items_together_are_the_whole_utterance(librivox: Path) -> None:
    audio = speech(librivox, 20)
    items = windows().items(audio, exact=True)
    np.testing.assert_array_equal(np.concatenate([item.features for item in items], axis=1), whole_features(audio))


def test_only_the_tail_is_new_while_no_louder_sound_comes(librivox: Path) -> None:
    audio = speech(librivox, 20)
    audio[1000] = 1.0  # The loudest of all is at the beginning.
    growing = windows()
    first = [item.name for item in growing.items(audio[: 160 * 1000], exact=False)]
    later = [item.name for item in growing.items(audio[: 160 * 1500], exact=False)]
    assert later[0] == first[0]
    assert later[1] != first[1]


def test_a_louder_sound_leaves_frozen_windows_to_partials_and_remakes_them_for_finals(librivox: Path) -> None:
    audio = np.concatenate((0.001 * speech(librivox, 9), speech(librivox, 3))).astype(np.float32)
    growing = windows()
    quiet = growing.items(audio[: 160 * 900], exact=False)
    partial = growing.items(audio, exact=False)
    final = growing.items(audio, exact=True)
    assert partial[0].name == quiet[0].name
    assert final[0].name != quiet[0].name
    assert final[1].name == partial[1].name
    np.testing.assert_array_equal(np.concatenate([item.features for item in final], axis=1), whole_features(audio))
    assert growing.items(audio, exact=False)[0].name == final[0].name


def test_a_higher_floor_that_cuts_nothing_off_keeps_the_name() -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, 160 * 1100).astype(np.float32)
    noise[160 * 950 :] *= 1.5
    growing = windows()
    before = growing.items(noise[: 160 * 900], exact=False)
    after = growing.items(noise, exact=True)
    assert after[0].name == before[0].name


def test_names_differ_between_utterances_and_contents(librivox: Path) -> None:
    audio = speech(librivox, 2)
    names = {
        windows("a").items(audio, exact=True)[0].name,
        windows("b").items(audio, exact=True)[0].name,
        windows("a").items(audio[:-160], exact=True)[0].name,
    }
    assert len(names) == 3
    assert windows("a").items(audio.copy(), exact=True)[0].name in names


def test_a_decode_of_earlier_audio_gets_its_own_items(librivox: Path) -> None:
    audio = speech(librivox, 20)
    growing = windows()
    growing.items(audio, exact=False)
    assert [item.frames for item in growing.items(audio[: 160 * 850], exact=False)] == [850]


@pytest.mark.parametrize(("frames", "tokens"), [(50, 7), (99, 13), (100, 13), (101, 14), (800, 104), (899, 117)])
def test_positions_of_an_item(frames: int, tokens: int) -> None:
    assert audio_tokens(frames) == tokens


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"n_window": 100}, "200 frames at a time"),
        ({"n_window_infer": 850}, "not a multiple"),
        ({"n_window_infer": 0}, "not a multiple"),
    ],
)
def test_a_geometry_that_is_not_understood_is_not_windowed(changed: dict[str, int], reason: str) -> None:
    audio = {"num_mel_bins": 128, "n_window": 50, "n_window_infer": 800}
    assert Geometry.of({"thinker_config": {"audio_config": audio}}) == Geometry(128, 800)
    geometry = Geometry.of({"thinker_config": {"audio_config": audio | changed}})
    assert geometry.window == 0
    assert reason in geometry.reason


def test_a_configuration_of_another_model_is_refused() -> None:
    with pytest.raises(ValueError, match="audio_config"):
        Geometry.of({"model_type": "llama"})

"""Clips made quieter, and put over other sounds, are what the condition says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from benchmarks.accuracy.__main__ import main
from benchmarks.common.conditions import Condition, speech_power
from benchmarks.common.speech import clips
from tests.conftest import HERE

SPEECH = HERE / "speech"


@pytest.mark.parametrize("snr_db", [20.0, 5.0])
def test_the_noise_is_as_far_below_the_speech_as_asked_for(snr_db: float) -> None:
    clip = clips(SPEECH, "librivox")[0]
    bed = np.random.default_rng(0).normal(0, 0.3, 20_000).astype(np.float32)
    audio = clip.audio()
    noisy = Condition(snr_db=snr_db, beds=[np.zeros(100, np.float32), bed]).apply(audio, clip.id)
    # What is left when the speech is taken out, at the level that it has in the mix.
    share = float(noisy @ audio / (audio @ audio))
    noise = noisy - np.float32(share) * audio
    assert 10 * np.log10(speech_power(audio) * share**2 / (noise**2).mean()) == pytest.approx(snr_db, abs=0.2)
    assert np.abs(noisy).max() <= 1


def test_a_quieter_clip_has_the_steps_of_sixteen_bits() -> None:
    audio = clips(SPEECH, "librivox")[0].audio()
    quiet = Condition(gain_db=-60).apply(audio, "clip")
    assert 20 * np.log10(np.abs(audio).max() / np.abs(quiet).max()) == pytest.approx(60, abs=1)
    np.testing.assert_array_equal(quiet * 32768, np.round(quiet * 32768))


def test_a_set_can_be_measured_over_another_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    noise = tmp_path / "hiss"
    noise.mkdir()
    soundfile.write(noise / "hiss.wav", np.random.default_rng(0).normal(0, 0.1, 16_000), 16_000)
    (noise / "manifest.jsonl").write_text('{"id": "hiss", "path": "hiss.wav", "language": "none", "text": ""}\n')
    (tmp_path / "librivox").symlink_to(SPEECH / "librivox")
    options = ["--speech", str(tmp_path), "--set", "librivox", "--noise-db", "10", "--noise-set", "gone"]
    assert main(options) == 1
    assert "gone" in capsys.readouterr().err

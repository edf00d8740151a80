"""Which recognizer a model gets, found by what a user types."""

from __future__ import annotations

from pathlib import Path

import pytest

from streaming_asr.recognizers.choose import FACTORIES, factory_for


@pytest.mark.parametrize(
    ("model", "recognizer"),
    [
        (None, "faster-whisper"),
        ("tiny", "faster-whisper"),
        ("small.en", "faster-whisper"),
        ("large-v3", "faster-whisper"),
        ("distil-large-v3", "faster-whisper"),
        ("Systran/faster-whisper-small", "faster-whisper"),
        ("Qwen/Qwen3-ASR-1.7B", "vllm"),
        ("openai/whisper-large-v3", "vllm"),
    ],
)
def test_names(model: str | None, recognizer: str) -> None:
    assert factory_for(model).name == recognizer


def test_folders(tmp_path: Path) -> None:
    (tmp_path / "whisper" / "model").mkdir(parents=True)
    (tmp_path / "whisper" / "model" / "model.bin").touch()
    (tmp_path / "qwen").mkdir()
    (tmp_path / "qwen" / "model.safetensors").touch()
    assert factory_for(str(tmp_path / "whisper")).name == "faster-whisper"
    assert factory_for(str(tmp_path / "whisper" / "model")).name == "faster-whisper"
    assert factory_for(str(tmp_path / "qwen")).name == "vllm"


def test_a_name_goes_before_the_model() -> None:
    assert factory_for("tiny", "vllm").name == "vllm"
    with pytest.raises(ValueError, match="no recognizer 'other', only faster-whisper, vllm"):
        factory_for(None, "other")


def test_names_are_unique() -> None:
    assert len({factory.name for factory in FACTORIES}) == len(FACTORIES)

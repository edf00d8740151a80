"""Which recognizer a model gets, told from what a user types."""

from __future__ import annotations

from pathlib import Path

import pytest

from streaming_asr.recognizers.choose import recognizer_for


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
    assert recognizer_for(model) == recognizer


def test_folders(tmp_path: Path) -> None:
    (tmp_path / "whisper" / "model").mkdir(parents=True)
    (tmp_path / "whisper" / "model" / "model.bin").touch()
    (tmp_path / "qwen").mkdir()
    (tmp_path / "qwen" / "model.safetensors").touch()
    assert recognizer_for(str(tmp_path / "whisper")) == "faster-whisper"
    assert recognizer_for(str(tmp_path / "whisper" / "model")) == "faster-whisper"
    assert recognizer_for(str(tmp_path / "qwen")) == "vllm"

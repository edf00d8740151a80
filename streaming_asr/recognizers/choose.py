"""Which recognizer serves a model, told from the model's name or folder."""

from __future__ import annotations

from pathlib import Path

RECOGNIZERS = ("faster-whisper", "vllm")

_WHISPER_SIZES = ("tiny", "base", "small", "medium", "large", "turbo", "distil")


def recognizer_for(model: str | None) -> str:
    """Name of the recognizer: CTranslate2 Whisper goes to faster-whisper, everything else to vLLM."""
    if model is None:
        return "faster-whisper"
    folder = Path(model).expanduser()
    if folder.is_dir():
        # CTranslate2's weights, in the folder itself or in one below it.
        found = (folder / "model.bin").is_file() or any(folder.glob("*/model.bin"))
        return "faster-whisper" if found else "vllm"
    name = model.rsplit("/", 1)[-1].lower()
    known = name.startswith(_WHISPER_SIZES) and "/" not in model
    return "faster-whisper" if known or "faster-whisper" in name or "ct2" in name else "vllm"

"""Offers Whisper under CTranslate2 on the command line."""

from __future__ import annotations

import argparse
from pathlib import Path

from streaming_asr.core.recognizer import Recognizer
from streaming_asr.recognizers.factory import RecognizerFactory

_SIZES = ("tiny", "base", "small", "medium", "large", "turbo", "distil")


def serves(model: str | None) -> bool:
    """Whether a model is a Whisper in CTranslate2's format; no model at all is the default one."""
    if model is None:
        return True
    folder = Path(model).expanduser()
    if folder.is_dir():
        # CTranslate2's weights, in the folder itself or in one below it.
        return (folder / "model.bin").is_file() or any(folder.glob("*/model.bin"))
    name = model.rsplit("/", 1)[-1].lower()
    known = name.startswith(_SIZES) and "/" not in model
    return known or "faster-whisper" in name or "ct2" in name


def add_flags(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"), help="faster-whisper's device")
    group.add_argument("--compute-type", help="CTranslate2's arithmetic; default int8 on CPU, float16 on GPU")
    group.add_argument("--workers", type=int, help="decodes that faster-whisper runs at once; default one a core")


def create(options: argparse.Namespace) -> Recognizer:
    from streaming_asr.recognizers.whisper.recognizer import FasterWhisperRecognizer

    if getattr(options, "word_aligner", None) is not None:
        raise ValueError("--word-aligner is for models under vLLM; this Whisper finds the times of words itself")
    return FasterWhisperRecognizer(
        options.model, device=options.device, compute_type=options.compute_type, workers=options.workers
    )


FACTORY = RecognizerFactory("faster-whisper", serves, create, add_flags)

"""Offers models under vLLM on the command line."""

from __future__ import annotations

import argparse
import importlib.util
import shlex
from collections.abc import Sequence
from pathlib import Path

from streaming_asr.core.recognizer import EngineNotInstalled, Recognizer
from streaming_asr.recognizers.factory import RecognizerFactory

EXAMPLE = "Qwen/Qwen3-ASR-1.7B"
ALIGNER_EXAMPLE = "Qwen/Qwen3-ForcedAligner-0.6B"


def serves(model: str | None) -> bool:
    """Whether a model may run under vLLM. Any may; its ``config.json``, which is read at the start, says more."""
    return model is not None


def create(options: argparse.Namespace) -> Recognizer:
    from streaming_asr.recognizers.vllm.recognizer import VllmRecognizer
    from streaming_asr.recognizers.vllm.word_aligner import VllmWordAligner

    if options.model is None:
        raise ValueError(f"vLLM needs a model, such as {EXAMPLE}")
    _check_name(options.model, options.engine)
    aligner = None
    if options.word_aligner is not None:
        engine = shlex.split(options.word_aligner_options)
        aligner = VllmWordAligner(options.word_aligner, engine, budget_ms=options.word_aligner_budget_ms)
    elif options.word_aligner_options:
        raise ValueError("--word-aligner-options are those of a word aligner; name one with --word-aligner")
    return VllmRecognizer(options.model, options.engine, aligner=aligner, self_check=options.self_check)


def _check_name(model: str, engine: Sequence[str]) -> None:
    """Check that a model's name may be one of vLLM's models: a folder with one, or a name of the Hugging Face hub's.

    Raises:
        ValueError: it can't be.
    """
    folder = Path(model).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise ValueError(f"the folder {model} has no model: neither config.json nor CTranslate2's model.bin")
        return
    if "/" in model and not model.startswith((".", "/", "~")):
        return
    named = f"there is no folder {model}, and no Whisper has that name"
    known = f"Names are such as base, tiny.en, small or {EXAMPLE}"
    unknown = f". Not known here, so vLLM's: {shlex.join(engine)}" if engine else ""
    raise ValueError(f"{named}. {known}{unknown}")


def add_flags(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--word-aligner",
        metavar="MODEL",
        help=f"second model under vLLM, which finds the times of words, such as {ALIGNER_EXAMPLE}",
    )
    group.add_argument(
        "--word-aligner-options",
        default="",
        metavar="OPTIONS",
        help="vLLM's options for it, as one argument: --word-aligner-options='--max-model-len 4096'",
    )
    group.add_argument(
        "--word-aligner-budget-ms",
        type=_budget,
        default=300,
        metavar="MS",
        help="time for which a final may wait for the times of its words",
    )
    group.add_argument(
        "--self-check",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="check at the start whether the device computes encoder windows as it must, under vLLM",
    )


def _budget(text: str) -> int:
    budget = int(text)
    if not 1 <= budget <= 60_000:
        raise argparse.ArgumentTypeError(f"{text} is not from 1 to 60000")
    return budget


def engine_help(model: str | None) -> str:
    if importlib.util.find_spec("vllm") is None:
        raise EngineNotInstalled("vLLM", model or EXAMPLE)
    from streaming_asr.recognizers.vllm.options import engine_help

    return engine_help()


FACTORY = RecognizerFactory("vllm", serves, create, add_flags, engine_help)

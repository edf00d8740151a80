"""Speech to measure with: sets with a manifest, or LibriSpeech as it is published.

A set is a folder with `manifest.jsonl`: a line of JSON for each clip, with at least `id`, `path`, `language`, `text`.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr

from streaming_asr.recognizers.base import SAMPLE_RATE, Audio

ENVIRONMENT = "STREAMING_ASR_SPEECH"
OWN = Path(__file__).parent.parent / "tests" / "speech"
"""The few clips that the repository carries."""


class NoSpeech(Exception):
    """There is no such folder, set or clip. The message says what was looked for, and where."""


@dataclass(frozen=True, slots=True)
class Clip:
    """One recording and what is said in it."""

    id: str
    path: Path
    language: str
    """ISO 639-1, or `none` where nothing is said."""
    text: str
    words: tuple[tuple[str, float, float], ...] = ()
    """(word, start, end) in seconds, where the set has them."""

    def audio(self) -> Audio:
        """Mono at 16 kHz, shape ``[n]``.

        Raises:
            NoSpeech: the file can't be read.
        """
        try:
            samples, rate = soundfile.read(self.path, dtype="float32", always_2d=True)
        except (OSError, soundfile.LibsndfileError) as error:
            raise NoSpeech(f"{self.path} can't be read: {error}") from None
        mono = samples.mean(axis=1)
        if rate != SAMPLE_RATE and len(mono):
            mono = soxr.resample(mono, rate, SAMPLE_RATE)
        return np.asarray(mono, np.float32)


def add_speech_option(parser: argparse.ArgumentParser) -> None:
    """`--speech DIR`, with the environment variable's value as its default."""
    parser.add_argument(
        "--speech",
        type=Path,
        default=Path(os.environ.get(ENVIRONMENT, OWN)),
        metavar="DIR",
        help=f"folder of sets, or of LibriSpeech (environment: {ENVIRONMENT}; default: the clips of the tests)",
    )


def sets(speech: Path) -> list[str]:
    """Names of the sets in a folder."""
    return sorted(manifest.parent.name for manifest in speech.glob("*/manifest.jsonl"))


def clips(speech: Path, name: str) -> list[Clip]:
    """The clips of one set; `.` reads the folder itself as LibriSpeech.

    Raises:
        NoSpeech: there is no such set.
    """
    folder = speech / name
    manifest = folder / "manifest.jsonl"
    if manifest.is_file():
        return [_entry(folder, json.loads(line)) for line in manifest.read_text(encoding="utf-8").splitlines() if line]
    found = list(_librispeech(folder))
    if not found:
        known = ", ".join(sets(speech)) or "none"
        raise NoSpeech(f"{folder} has neither manifest.jsonl nor LibriSpeech's *.trans.txt; sets here: {known}")
    return found


def _entry(folder: Path, entry: dict[str, object]) -> Clip:
    words = entry.get("words")
    return Clip(
        id=str(entry["id"]),
        path=folder / str(entry["path"]),
        language=str(entry["language"]),
        text=str(entry["text"]),
        words=tuple((str(word), float(start), float(end)) for word, start, end in words)
        if isinstance(words, list)
        else (),
    )


def _librispeech(folder: Path) -> Iterator[Clip]:
    for transcripts in sorted(folder.glob("**/*.trans.txt")):
        for line in transcripts.read_text(encoding="utf-8").splitlines():
            name, _, text = line.partition(" ")
            yield Clip(name, transcripts.parent / f"{name}.flac", "en", text)

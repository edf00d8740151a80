"""Speech to measure with: sets with a manifest, or LibriSpeech as it is published.

A set is a folder with `manifest.jsonl`: a line of JSON for each clip, with at least `id`, `path`, `language`, `text`.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import soundfile
import soxr

from benchmarks.common.conditions import Condition
from streaming_asr.core.recognizer import SAMPLE_RATE, Audio
from streaming_asr.engine.media.audio import open_media, read_audio
from streaming_asr.engine.media.reader import UnreadableMedia
from streaming_asr.engine.media.repairs import Repair

T = TypeVar("T")
ENVIRONMENT = "STREAMING_ASR_SPEECH"
OWN = Path(__file__).parents[2] / "tests" / "speech"
"""The few clips that the repository carries."""
DEFAULT_SET = "librivox"


class NoSpeech(Exception):
    """A folder, set or clip does not exist. The message says what was looked for, and where."""


@dataclass(frozen=True, slots=True)
class Clip:
    """One recording and what is said in it."""

    id: str
    path: Path
    language: str
    """ISO 639-1, or `none` where nothing is said."""
    text: str
    duration_s: float | None = None
    """Seconds, where the set says it."""
    words: tuple[tuple[str, float, float], ...] = ()
    """(word, start, end) in seconds, where the set has them."""
    segments: tuple[tuple[str, float, float], ...] = ()
    """(id of the utterance, start, end) in seconds, in recordings of several."""
    turns: tuple[tuple[str, float, float], ...] = ()
    """(speaker, start, end) in seconds, in talk among several, who may speak at once."""
    condition: Condition | None = None
    """What is done to the recording before it is used."""
    of_set: str = field(default="", compare=False)
    """Name of the set: the kind of speech, by which figures are given."""

    def audio(self) -> Audio:
        """Mono at 16 kHz, shape ``[n]``.

        Raises:
            NoSpeech: the file can't be read.
        """
        audio = self._recorded()
        return audio if self.condition is None else self.condition.apply(audio, self.id)

    def _recorded(self) -> Audio:
        try:
            samples, rate = soundfile.read(self.path, dtype="float32", always_2d=True)
        except (OSError, soundfile.LibsndfileError) as error:
            return self._by_ffmpeg(str(error))
        mono = samples.mean(axis=1)
        if rate != SAMPLE_RATE and len(mono):
            mono = soxr.resample(mono, rate, SAMPLE_RATE)
        return np.asarray(mono, np.float32)

    def _by_ffmpeg(self, reason: str) -> Audio:
        """What libsndfile does not read, as AAC."""
        try:
            reader = open_media(os.open(self.path, os.O_RDONLY))
            pieces = [piece for piece in read_audio(reader) if not isinstance(piece, Repair)]
        except (OSError, UnreadableMedia) as error:
            raise NoSpeech(f"{self.path} can't be read: {reason} {error}") from None
        if not pieces:
            raise NoSpeech(f"{self.path} can't be read: {reason}")
        return np.concatenate(pieces)


def add_speech_option(parser: argparse.ArgumentParser) -> None:
    """`--speech DIR`, with the environment variable's value as its default."""
    parser.add_argument(
        "--speech",
        type=Path,
        default=Path(os.environ.get(ENVIRONMENT, OWN)),
        metavar="DIR",
        help=f"folder of sets, or of LibriSpeech (environment: {ENVIRONMENT}; default: the clips of the tests)",
    )


def add_sets_option(parser: argparse.ArgumentParser) -> None:
    """`--set NAME`, which may be repeated, for the benchmarks whose streams speak; `clips_of` reads its value."""
    parser.add_argument(
        "--set",
        action="append",
        dest="sets",
        metavar="NAME",
        help="of clips; may be repeated: each stream then speaks a clip of each set in turn, and figures are given by"
        f" set too (default: {DEFAULT_SET}, the clips of the tests)",
    )


def clips_of(speech: Path, names: Sequence[str] | None) -> list[Clip]:
    """The clips of several sets, one set after the other; None for the default.

    Raises:
        NoSpeech: a set does not exist.
    """
    return [clip for name in dict.fromkeys(names or [DEFAULT_SET]) for clip in clips(speech, name)]


def evenly_spaced(items: list[T], count: int | None) -> list[T]:
    """The given number of them, at even distances; None for all."""
    if count is None or count >= len(items):
        return items
    return [items[place] for place in np.linspace(0, len(items) - 1, count).round().astype(int)]


def sets(speech: Path) -> list[str]:
    """Names of the sets in a folder."""
    return sorted(manifest.parent.name for manifest in speech.glob("*/manifest.jsonl"))


def clips(speech: Path, name: str) -> list[Clip]:
    """The clips of one set; `.` reads the folder itself as LibriSpeech.

    Raises:
        NoSpeech: the set does not exist.
    """
    folder = speech / name
    manifest = folder / "manifest.jsonl"
    if manifest.is_file():
        entries = [json.loads(line) for line in manifest.read_text(encoding="utf-8").splitlines() if line]
        return [replace(_entry(folder, entry), of_set=name) for entry in entries]
    found = [replace(clip, of_set=name) for clip in _librispeech(folder)]
    if not found:
        known = ", ".join(sets(speech)) or "none"
        raise NoSpeech(f"{folder} has neither manifest.jsonl nor LibriSpeech's *.trans.txt; sets here: {known}")
    return found


def _entry(folder: Path, entry: dict[str, object]) -> Clip:
    duration = entry.get("duration_s")
    return Clip(
        id=str(entry["id"]),
        path=folder / str(entry["path"]),
        language=str(entry["language"]),
        text=str(entry["text"] or ""),
        duration_s=float(duration) if isinstance(duration, (int, float)) else None,
        words=_spans(entry.get("words")),
        segments=_spans(entry.get("segments")),
        turns=_turns(entry.get("turns")),
    )


def _spans(entries: object) -> tuple[tuple[str, float, float], ...]:
    if not isinstance(entries, list):
        return ()
    return tuple((str(name), float(start), float(end)) for name, start, end in entries)


def _turns(entries: object) -> tuple[tuple[str, float, float], ...]:
    if not isinstance(entries, list):
        return ()
    return tuple((str(speaker), float(start), float(end)) for start, end, speaker in entries)


def _librispeech(folder: Path) -> Iterator[Clip]:
    for transcripts in sorted(folder.glob("**/*.trans.txt")):
        for line in transcripts.read_text(encoding="utf-8").splitlines():
            name, _, text = line.partition(" ")
            yield Clip(name, transcripts.parent / f"{name}.flac", "en", text)

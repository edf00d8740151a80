"""Turns with their silences: the rows of a data set in the schema that eot-bench publishes.

A row has `id`, `language`, `audio` and `silence_spans`, a list of `{"start", "end"}` in seconds. The last span is the
true end of the turn; the earlier ones are pauses within it.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr

from benchmarks.common.speech import Clip, NoSpeech
from streaming_asr.core.recognizer import SAMPLE_RATE, Audio

SHORTEST_S = 0.1
"""A shorter silence is not a place to decide."""
_COLUMNS = ("id", "language", "audio", "silence_spans")
_EPSILON = 1e-6


@dataclass(frozen=True, slots=True)
class Silence:
    """A place where a listener decides whether the speaker is done."""

    start_s: float
    end_s: float
    is_end: bool
    """Whether the speaker is done; else the turn goes on after it."""

    @property
    def length_s(self) -> float:
        return self.end_s - self.start_s


@dataclass(frozen=True, slots=True)
class Row:
    """One turn of one speaker."""

    id: str
    language: str
    """ISO 639-1."""
    silences: tuple[Silence, ...]
    """In order; the last one is the end of the turn."""
    audio: Callable[[], Audio]
    """Reads the recording: 16 kHz mono, shape ``[n]``. Raises `NoSpeech` if this is not possible."""


def read_rows(path: Path) -> list[Row]:
    """The rows of a data set.

    Args:
        path: a Parquet file, or a JSON Lines file whose `audio` is a path relative to it (or an object with `path`), or
            a folder with files of either kind.

    Raises:
        NoSpeech: there are none, or a row does not fit the schema. The message says which and why.
    """
    files = sorted((*path.rglob("*.parquet"), *path.rglob("*.jsonl"))) if path.is_dir() else [path]
    rows = [row for file in files for row in (_in_parquet(file) if file.suffix == ".parquet" else _in_lines(file))]
    if not rows:
        raise NoSpeech(f"{path} has no rows: a .parquet or .jsonl file with {', '.join(_COLUMNS)} is needed")
    return rows


def silences_of(spans: object, where: str) -> tuple[Silence, ...]:
    """The silences of a row, without those that are too short; the last of all is the end of the turn.

    Raises:
        NoSpeech: `spans` is not a list of objects with `start` and `end`, in order and with at least one of 0.1 s.
    """
    if not isinstance(spans, list) or not spans:
        raise NoSpeech(f"{where}: silence_spans is not a list of silences")
    try:
        times = [(float(span["start"]), float(span["end"])) for span in spans]
    except (KeyError, TypeError, ValueError):
        raise NoSpeech(f"{where}: a silence of silence_spans has no start and end in seconds") from None
    flat = [time for span in times for time in span]
    if flat != sorted(flat) or flat[0] < 0:
        raise NoSpeech(f"{where}: silence_spans is not in order of time")
    silences = tuple(
        Silence(start, end, number == len(times) - 1)
        for number, (start, end) in enumerate(times)
        if end - start >= SHORTEST_S - _EPSILON
    )
    if not silences or not silences[-1].is_end:
        raise NoSpeech(f"{where}: the last silence, the end of the turn, is shorter than {SHORTEST_S:g} s")
    return silences


def _in_lines(file: Path) -> Iterator[Row]:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise NoSpeech(f"{file} can't be read: {error}") from None
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                entry = json.loads(line)
            except ValueError as error:
                raise NoSpeech(f"{file}:{number} is not JSON: {error}") from None
            yield _row(entry, f"{file}:{number}", file.parent)


def _in_parquet(file: Path) -> Iterator[Row]:
    try:
        import pyarrow.parquet
    except ImportError:
        raise NoSpeech(f"{file}: reading Parquet needs `pip install pyarrow`") from None
    try:
        # By batches: the recordings are in the file, and a table of all would double them in memory.
        for batch in pyarrow.parquet.ParquetFile(file).iter_batches(batch_size=64, columns=list(_COLUMNS)):
            for entry in batch.to_pylist():
                yield _row(entry, f"{file}, {entry['id']!r}", file.parent)
    except (OSError, ValueError, KeyError) as error:
        raise NoSpeech(f"{file} can't be read: {error}") from None


def _row(entry: object, where: str, folder: Path) -> Row:
    if not isinstance(entry, Mapping):
        raise NoSpeech(f"{where}: a row is an object with {', '.join(_COLUMNS)}")
    if missing := [name for name in _COLUMNS if entry.get(name) in (None, "")]:
        raise NoSpeech(f"{where}: the row has no {', '.join(missing)}")
    return Row(
        id=str(entry["id"]),
        language=str(entry["language"]).strip().lower(),
        silences=silences_of(entry["silence_spans"], where),
        audio=_audio(entry["audio"], where, folder),
    )


def _audio(audio: Any, where: str, folder: Path) -> Callable[[], Audio]:
    """The reader of a row's recording, in any of the forms that the column may have."""
    if isinstance(audio, Mapping) and audio.get("bytes"):
        encoded: bytes = audio["bytes"]
        return lambda: _decoded(encoded, where)
    if isinstance(audio, Mapping) and audio.get("array") is not None and audio.get("sampling_rate"):
        samples, rate = np.asarray(audio["array"], np.float32), int(audio["sampling_rate"])
        return lambda: _at_16_khz(samples, rate)
    path = audio.get("path") if isinstance(audio, Mapping) else audio
    if not isinstance(path, str):
        raise NoSpeech(f"{where}: audio is neither a path nor an object with bytes, path or array")
    return Clip("", folder / path, "", "").audio


def _decoded(encoded: bytes, where: str) -> Audio:
    try:
        samples, rate = soundfile.read(io.BytesIO(encoded), dtype="float32", always_2d=True)
    except (OSError, soundfile.LibsndfileError) as error:
        raise NoSpeech(f"{where}: the audio can't be read: {error}") from None
    return _at_16_khz(samples.mean(axis=1), rate)


def _at_16_khz(samples: Audio, rate: int) -> Audio:
    resampled = samples if rate == SAMPLE_RATE else soxr.resample(samples, rate, SAMPLE_RATE)
    return np.asarray(resampled, np.float32)

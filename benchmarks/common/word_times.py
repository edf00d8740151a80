"""Where each word of a clip is spoken: as its set says, or as Whisper recognizes it.

Whisper's times are those of its attention, good to about a tenth of a second; all servers are measured by the same.
They are kept in the user's cache, since they never change; of very many clips the oldest go.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rapidfuzz.distance import Levenshtein
from rich.console import Console
from rich.progress import track

from benchmarks.common.measures.emission import TimedWord
from benchmarks.common.normalization import plain_words
from benchmarks.common.speech import Clip

LANGUAGES = frozenset({"en"})
"""That the embedded model knows."""
_CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "streaming-asr" / "word-times"
_MADE_BY = "whisper tiny.en, 1"
MOST_KEPT = 20_000
"""Clips in the cache, some 2 KB each."""


def timed_words(clips: Iterable[Clip], console: Console | None = None) -> dict[str, tuple[TimedWord, ...]]:
    """The words of each clip, by its id; clips in languages whose words can't be timed here have none.

    Args:
        console: for progress; None shows none.
    """
    found: dict[str, tuple[TimedWord, ...]] = {}
    missing: list[Clip] = []
    for clip in clips:
        if clip.words:
            found[clip.id] = clip.words
        elif clip.language in LANGUAGES and clip.text:
            cached = _cached(clip)
            if cached is None:
                missing.append(clip)
            else:
                found[clip.id] = cached
    if missing:
        model = _whisper()
        shown = track(missing, "When each word is spoken", console=console) if console else missing
        for clip in shown:
            found[clip.id] = words = placed(clip.text, _recognized(model, clip))
            _keep(clip, words)
        _drop_oldest()
    return found


def placed(text: str, recognized: Iterable[TimedWord]) -> tuple[TimedWord, ...]:
    """The reference's words at the times of those that were recognized. A word that was misrecognized, between two that
    were recognized right, shares the time between them; at the ends such words are left out.
    """
    known = [(plain, start_s, end_s) for word, start_s, end_s in recognized for plain in plain_words(word)]
    words = plain_words(text)
    times: dict[int, tuple[float, float]] = {}
    for step in Levenshtein.opcodes(words, [word for word, _, _ in known]):
        if step.tag == "equal":
            for offset in range(step.src_end - step.src_start):
                times[step.src_start + offset] = known[step.dest_start + offset][1:]
    if not times:
        return ()
    for place in range(min(times), max(times)):
        if place not in times:
            after = min(other for other in times if other > place)
            start_s, gap = times[place - 1][1], after - place + 1
            end_s = start_s + max(0.0, times[after][0] - start_s) / (gap - 1)
            times[place] = start_s, end_s
    return tuple((words[place], *times[place]) for place in sorted(times))


def _whisper() -> Any:
    from faster_whisper import WhisperModel

    from streaming_asr.recognizers.whisper.weights import find_weights

    return WhisperModel(str(find_weights("tiny.en")), device="cpu", compute_type="int8")


def _recognized(model: Any, clip: Clip) -> list[TimedWord]:
    segments, _ = model.transcribe(clip.audio(), language=clip.language, beam_size=5, word_timestamps=True)
    return [(word.word, float(word.start), float(word.end)) for segment in segments for word in segment.words or ()]


def _file(clip: Clip) -> Path:
    digest = hashlib.sha256(clip.path.read_bytes() + clip.text.encode() + _MADE_BY.encode()).hexdigest()
    return _CACHE / f"{digest[:32]}.json"


def _cached(clip: Clip) -> tuple[TimedWord, ...] | None:
    try:
        read: list[tuple[str, float, float]] = json.loads(_file(clip).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return tuple((word, start_s, end_s) for word, start_s, end_s in read)


def _keep(clip: Clip, words: tuple[TimedWord, ...]) -> None:
    try:
        _CACHE.mkdir(parents=True, exist_ok=True)
        _file(clip).write_text(json.dumps(words), encoding="utf-8")
    except OSError:
        return  # Next time they are found anew.


def _drop_oldest() -> None:
    kept = list(_CACHE.glob("*.json"))
    if len(kept) > MOST_KEPT:
        for file in sorted(kept, key=lambda file: file.stat().st_mtime)[: len(kept) - MOST_KEPT]:
            file.unlink(missing_ok=True)


Timed = Mapping[str, tuple[TimedWord, ...]]

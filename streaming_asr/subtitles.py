"""Finals -> a transcript file: plain text, JSON, SubRip (srt) or WebVTT (vtt)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import msgspec

from streaming_asr.events import Final

CUE_CHARS = 84
"""Longest cue: two lines of 42 characters, as broadcasters' guidelines have it."""
STYLES = ("text", "json", "srt", "vtt")


@dataclass(frozen=True, slots=True)
class Cue:
    """One subtitle; times in ms of the stream."""

    start_ms: int
    end_ms: int
    text: str


def written(finals: Sequence[Final], style: str) -> str:
    """The transcript in one of `STYLES`."""
    spoken = [final for final in finals if final.text]
    if style == "text":
        return "".join(f"{final.text}\n" for final in spoken)
    if style == "json":
        return msgspec.json.format(msgspec.json.encode(spoken)).decode() + "\n"
    cues = [cue for final in spoken for cue in cues_of(final)]
    if style == "srt":
        blocks = (f"{n}\n{_span(cue, ',')}\n{cue.text}\n\n" for n, cue in enumerate(cues, 1))
        return "".join(blocks)
    return "WEBVTT\n\n" + "".join(f"{_span(cue, '.')}\n{cue.text}\n\n" for cue in cues)


def cues_of(final: Final) -> list[Cue]:
    """A final's cues: split where they grow too long, at the words' times, or by their length where there are none."""
    timed = [(word.text, word.start_ms, word.end_ms) for word in final.words or ()] or _spread(final)
    cues: list[Cue] = []
    for text, start, end in timed:
        last = cues[-1] if cues else None
        if last is not None and len(last.text) + 1 + len(text) <= CUE_CHARS:
            cues[-1] = Cue(last.start_ms, end, f"{last.text} {text}")
        else:
            cues.append(Cue(start, end, text))
    return cues


def _spread(final: Final) -> Iterable[tuple[str, int, int]]:
    """Words with times in proportion to their place in the text. Scripts without spaces are cut by length."""
    words = [part for word in final.text.split() for part in _pieces(word)]
    total = sum(map(len, words))
    said = 0
    for word in words:
        start = final.start_ms + (final.end_ms - final.start_ms) * said // total
        said += len(word)
        yield word, start, final.start_ms + (final.end_ms - final.start_ms) * said // total


def _pieces(word: str) -> Iterable[str]:
    half = CUE_CHARS // 2
    return (word[start : start + half] for start in range(0, len(word), half))


def _span(cue: Cue, point: str) -> str:
    return f"{_time(cue.start_ms, point)} --> {_time(cue.end_ms, point)}"


def _time(ms: int, point: str) -> str:
    seconds, ms = divmod(ms, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{seconds:02}{point}{ms:03}"

"""Finals -> a transcript file: plain text, JSON, SubRip (srt) or WebVTT (vtt)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from streaming_asr.core.events import Final
from streaming_asr.core.scripts import following
from streaming_asr.text.timed_words import TimedWord, timed_words

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
    cues: list[Cue] = []
    for word in timed_words(final.text, final.start_ms, final.end_ms, final.words):
        last = cues[-1] if cues else None
        text = following(last.text, word.text) if last is not None else word.text
        if last is not None and len(last.text) + len(text) <= CUE_CHARS:
            cues[-1] = Cue(last.start_ms, word.end_ms, last.text + text)
        else:
            cues += _of_word(word)
    return cues


def _of_word(word: TimedWord) -> list[Cue]:
    """A cue that begins with a word; several where the word itself is too long."""
    length = word.end_ms - word.start_ms
    cuts = [*range(0, len(word.text), CUE_CHARS), len(word.text)]
    times = [word.start_ms + length * cut // len(word.text) for cut in cuts]
    return [Cue(times[n], times[n + 1], word.text[start : start + CUE_CHARS]) for n, start in enumerate(cuts[:-1])]


def _span(cue: Cue, point: str) -> str:
    return f"{_time(cue.start_ms, point)} --> {_time(cue.end_ms, point)}"


def _time(ms: int, point: str) -> str:
    seconds, ms = divmod(ms, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{seconds:02}{point}{ms:03}"

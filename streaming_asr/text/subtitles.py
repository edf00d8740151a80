"""Finals -> a transcript file: plain text, JSON, SubRip (srt) or WebVTT (vtt).

The cues are those that the clients make of the same finals (`clients/cues.py`, `clients/browser/subtitles.js`): all
three pass the cases of `tests/vectors/subtitles.json`.
"""

from __future__ import annotations

import html
import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, groupby, pairwise

import msgspec

from streaming_asr.core.events import Final
from streaming_asr.core.recognizer import Word
from streaming_asr.core.scripts import CLAUSE_ENDS, SENTENCE_ENDS, split, width
from streaming_asr.text.timed_words import TimedWord, time_pieces

MAX_WIDTH = 84
"""Columns of a cue: two lines of 42, as broadcasters' guidelines have it."""
MAX_MS = 7_000
PAUSE_MS = 400
"""A gap between words at which a cue may well end."""
STYLES = ("text", "json", "srt", "vtt")

_SENTENCE_END = re.compile(rf"[{re.escape(SENTENCE_ENDS)}][\"'”’»)\]」』）】]*\s*$")
_CLAUSE_END = re.compile(rf"[{re.escape(CLAUSE_ENDS)}]\s*$")


@dataclass(frozen=True, slots=True)
class Cue:
    """One subtitle; times in ms of the stream."""

    start_ms: int
    end_ms: int
    text: str
    speaker: int | None = None
    """From 0; None where it is not known."""


def render(finals: Sequence[Final], style: str) -> str:
    """The transcript in one of `STYLES`."""
    spoken = [final for final in finals if final.text]
    if style == "text":
        return "".join(f"{_named(final.speaker)}{final.text}\n" for final in spoken)
    if style == "json":
        return msgspec.json.format(msgspec.json.encode(spoken)).decode() + "\n"
    cues = [cue for final in spoken for cue in cues_of(final)]
    if style == "srt":
        return "".join(
            # SubRip has no way to escape anything. An arrow would be read as times.
            f"{number}\n{_span(cue, ',')}\n{_named(cue.speaker)}{cue.text.replace('-->', '→')}\n\n"
            for number, cue in enumerate(cues, 1)
        )
    return "WEBVTT\n\n" + "".join(
        f"{_span(cue, '.')}\n{_voice(cue.speaker)}{html.escape(cue.text, quote=False)}\n\n" for cue in cues
    )


def _named(speaker: int | None) -> str:
    return "" if speaker is None else f"Speaker {speaker + 1}: "


def _voice(speaker: int | None) -> str:
    """WebVTT's mark of who speaks."""
    return "" if speaker is None else f"<v Speaker {speaker + 1}>"


def cues_of(final: Final) -> list[Cue]:
    """The cues of a final, in order and none longer than can be read at a glance, unless a word alone is.

    Joined they are the text, and each is of one speaker. With the recognizer's words each cue has the times of its
    words; without, each word gets a part of the final's time in proportion to its width.
    """
    cues: list[Cue] = []
    for speaker, spoken in _by_speaker(final):
        while spoken:
            count = _fit_cue(spoken)
            start_ms, end_ms = spoken[0].start_ms, spoken[count - 1].end_ms
            cues.append(Cue(start_ms, max(start_ms + 1, end_ms), _join(spoken[:count]), speaker))
            spoken = spoken[count:]
    return cues


def parts_of(final: Final) -> list[Cue]:
    """What each speaker says in a final, in order: as `cues_of`, however long it is."""
    return [
        Cue(words[0].start_ms, max(words[0].start_ms + 1, words[-1].end_ms), _join(words), speaker)
        for speaker, words in _by_speaker(final)
    ]


def _by_speaker(final: Final) -> list[tuple[int | None, list[TimedWord]]]:
    """The words of a final, each with its white space, in runs of one speaker."""
    words = _align(final.text, final.start_ms, final.end_ms, final.words or ())
    words = words or time_pieces(final.text, final.start_ms, final.end_ms)
    runs = groupby(words, lambda word: final.speaker if word.speaker is None else word.speaker)
    return [(speaker, list(run)) for speaker, run in runs]


def _align(text: str, start_ms: int, end_ms: int, words: Sequence[Word]) -> list[TimedWord]:
    """The recognizer's words, each with its white space and punctuation; none if they are not those of the text.

    Each is within the final, begins no earlier than the one before, and ends before the next begins.
    """
    spans: list[tuple[int, int]] = []
    for word in words:
        bare = word.text.strip()
        begin = text.find(bare, spans[-1][1] if spans else 0)
        if not bare or begin < 0:
            return []
        spans.append((begin, begin + len(bare)))
    ends = list(accumulate(map(len, split(text))))
    cuts = [_cut_between(ends, before[1], after[0]) for before, after in pairwise(spans)]
    timed: list[TimedWord] = []
    begin_ms = start_ms
    for word, (begin, end) in zip(words, pairwise([0, *cuts, len(text)]), strict=False):
        begin_ms = max(begin_ms, min(word.start_ms, end_ms))
        if timed:
            timed[-1] = replace(timed[-1], end_ms=min(timed[-1].end_ms, begin_ms))
        end_of_word = max(begin_ms, min(word.end_ms, end_ms))
        timed.append(TimedWord(text[begin:end], begin_ms, end_of_word, None, word.speaker))
    return [piece for each in timed for piece in _subdivide(each)]


def _cut_between(ends: Sequence[int], low: int, high: int) -> int:
    """The last of the places where a piece of the text ends that is in the range; `high` if there is none."""
    index = bisect_right(ends, high) - 1
    return ends[index] if index >= 0 and ends[index] >= low else high


def _subdivide(word: TimedWord) -> list[TimedWord]:
    """The word; its parts where it is too long for a cue and can be cut, as where a recognizer gives one time to a
    sentence of Chinese."""
    if width(word.text.strip()) <= MAX_WIDTH:
        return [word]
    return [replace(piece, speaker=word.speaker) for piece in time_pieces(word.text, word.start_ms, word.end_ms)]


def _fit_cue(words: Sequence[TimedWord]) -> int:
    """How many of the words the first cue has: all that fit, or those before the best cut in the later half of them.

    The best is the end of a sentence, then a pause, then the end of a clause, then white space.
    """
    fitting = 1
    while fitting < len(words):
        if width(_join(words[: fitting + 1])) > MAX_WIDTH or words[fitting].end_ms - words[0].start_ms > MAX_MS:
            break
        fitting += 1
    if fitting == len(words):
        return fitting
    cuts = range(fitting, max(1, fitting // 2) - 1, -1)
    rules = (
        lambda cut: _SENTENCE_END.search(words[cut - 1].text),
        lambda cut: words[cut].start_ms - words[cut - 1].end_ms >= PAUSE_MS,
        lambda cut: _CLAUSE_END.search(words[cut - 1].text),
        lambda cut: words[cut].text[0].isspace(),
    )
    return next((cut for rule in rules for cut in cuts if rule(cut)), fitting)


def _join(words: Sequence[TimedWord]) -> str:
    # An empty line would end the cue.
    return re.sub(r"\s*[\r\n]\s*", "\n", "".join(word.text for word in words).strip())


def _span(cue: Cue, point: str) -> str:
    return f"{_time(cue.start_ms, point)} --> {_time(cue.end_ms, point)}"


def _time(ms: int, point: str) -> str:
    seconds, ms = divmod(ms, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{seconds:02}{point}{ms:03}"

"""Utterances -> subtitle cues short enough to read.

The server's subtitles (`streaming_asr/text/subtitles.py`) and the page's (`clients/browser/subtitles.js`) have the same
cues: all three pass the cases of `tests/vectors/subtitles.json`.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby, pairwise

from msgspec.structs import replace

from clients.events import Final, Word
from clients.scripts import CLAUSE_ENDS, SENTENCE_ENDS, split, width

MAX_WIDTH = 84
"""Columns of a cue: two lines of 42, as broadcasters' guidelines have it."""
MAX_MS = 7_000
PAUSE_MS = 400
"""A gap between words at which a cue may well end."""

_SENTENCE_END = re.compile(rf"[{re.escape(SENTENCE_ENDS)}][\"'”’»)\]」』）】]*\s*$")
_CLAUSE_END = re.compile(rf"[{re.escape(CLAUSE_ENDS)}]\s*$")


@dataclass(frozen=True)
class Cue:
    start_ms: int
    end_ms: int
    text: str
    channel: int = 0
    speaker: int | None = None
    """From 0; None where it is not known."""


def cues_of(final: Final) -> list[Cue]:
    """The cues of an utterance, in order and none longer than can be read at a glance, unless a word alone is.

    Joined they are the text, and each is of one speaker. With word times each cue has the times of its words; without,
    each word gets a part of the utterance's time in proportion to its width.
    """
    words = _align(final.text, final.start_ms, final.time_ms, final.words or ())
    words = words or _time_pieces(final.text, final.start_ms, final.time_ms)
    cues: list[Cue] = []
    for speaker, group in groupby(words, lambda word: final.speaker if word.speaker is None else word.speaker):
        spoken = list(group)
        while spoken:
            count = _fit_cue(spoken)
            start_ms, end_ms = spoken[0].start_ms, spoken[count - 1].end_ms
            cues.append(Cue(start_ms, max(start_ms + 1, end_ms), _join(spoken[:count]), final.channel, speaker))
            spoken = spoken[count:]
    return cues


def _align(text: str, start_ms: int, end_ms: int, words: Sequence[Word]) -> list[Word]:
    """The server's words, each with its white space and punctuation; none if they are not those of the text.

    Each is within the utterance, begins no earlier than the one before, and ends before the next begins.
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
    timed: list[Word] = []
    begin_ms = start_ms
    for word, (begin, end) in zip(words, pairwise([0, *cuts, len(text)]), strict=False):
        begin_ms = max(begin_ms, min(word.start_ms, end_ms))
        if timed:
            timed[-1] = replace(timed[-1], end_ms=min(timed[-1].end_ms, begin_ms))
        timed.append(_word(text[begin:end], begin_ms, max(begin_ms, min(word.end_ms, end_ms)), word.speaker))
    return [piece for each in timed for piece in _subdivide(each)]


def _cut_between(ends: Sequence[int], low: int, high: int) -> int:
    """The last of the places where a piece of the text ends that is in the range; `high` if there is none."""
    index = bisect_right(ends, high) - 1
    return ends[index] if index >= 0 and ends[index] >= low else high


def _subdivide(word: Word) -> list[Word]:
    """The word; its parts where it is too long for a cue and can be cut."""
    if width(word.text.strip()) <= MAX_WIDTH:
        return [word]
    return [replace(piece, speaker=word.speaker) for piece in _time_pieces(word.text, word.start_ms, word.end_ms)]


def _time_pieces(text: str, start_ms: int, end_ms: int) -> list[Word]:
    """The pieces of a text, each with a part of the time in proportion to its width."""
    pieces = split(text)
    widths = [max(1, width("".join(piece.split()))) for piece in pieces]
    words, passed, total, start = [], 0, sum(widths), start_ms
    for piece, columns in zip(pieces, widths, strict=True):
        passed += columns
        end = start_ms + (end_ms - start_ms) * passed // total
        words.append(_word(piece, start, end))
        start = end
    return words


def _word(text: str, start_ms: int, end_ms: int, speaker: int | None = None) -> Word:
    return Word(text=text, start_ms=start_ms, end_ms=end_ms, speaker=speaker)


def _fit_cue(words: Sequence[Word]) -> int:
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


def _join(words: Sequence[Word]) -> str:
    # An empty line would end the cue.
    return re.sub(r"\s*[\r\n]\s*", "\n", "".join(word.text for word in words).strip())

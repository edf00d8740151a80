"""What one server showed at one number of streams, over all rounds."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from rapidfuzz.distance import Levenshtein

from benchmarks.load.figures import Figure, WordErrors, figures, word_errors
from benchmarks.load.speaking import Take
from benchmarks.session_log import Outcome, Shown

FIRST, FINAL, WORDS = "first text", "time to final", "words shown"


@dataclass
class Result:
    """Collected round by round."""

    streams: int
    takes: list[Take] = field(default_factory=list)
    """The sessions that count."""
    cpu_s: float = 0.0
    audio_s: float = 0.0
    rss_mib: float = 0.0
    invalid: list[str] = field(default_factory=list)
    """Why rounds say more of the generator than of the server."""

    @property
    def done(self) -> list[Take]:
        return [take for take in self.takes if take.log.outcome is Outcome.DONE]

    @property
    def failures(self) -> list[str]:
        """Of each session that was refused or failed, its clip and reason."""
        logs = (take.log for take in self.takes if take.log.outcome is not Outcome.DONE)
        return [f"{log.clip}: {log.outcome.value}: {log.reason}" for log in logs]

    @property
    def final_share(self) -> float | None:
        """Of sessions whose text was all final at their end; only these have a time to final."""
        return len(_all_final(self.done)) / len(self.done) if self.done else None

    @property
    def cpu_per_audio_s(self) -> float | None:
        """CPU seconds of the server and its children for each second of audio."""
        return self.cpu_s / self.audio_s if self.audio_s and self.cpu_s else None

    def erasure(self, *, exact: bool) -> float | None:
        """Words taken back for each word of the last texts (normalized erasure, arXiv 2004.03643).

        Args:
            exact: whether a change of case or punctuation counts too.
        """
        last = sum(len(_text(take.log.shown[-1]).split()) for take in self.done if take.log.shown)
        return sum(erased(take.log.shown, exact=exact) for take in self.done) / last if last else None

    def errors(self) -> WordErrors:
        return word_errors(self.takes)

    def times(self) -> dict[str, Figure]:
        """By name, seconds: from the onset of speech to the first text, from its end to the last final, and from the
        end of each word to its first showing."""
        shown = next(figure for figure in figures(self.done) if figure.name == FIRST)
        final = next(figure for figure in figures(_all_final(self.done)) if figure.name == FINAL)
        words = Figure(WORDS, tuple(late for take in self.done for _, late in emissions(take)))
        return {FIRST: shown, FINAL: final, WORDS: words}


def erased(shown: Iterable[Shown], *, exact: bool) -> int:
    """Words that were shown and taken back, over all revisions of a session: all from the first that changed on."""
    count = 0
    before: list[str] = []
    for state in shown:
        now = _text(state).split() if exact else _plain_words(_text(state))
        kept = next((i for i, pair in enumerate(zip(before, now, strict=False)) if pair[0] != pair[1]), None)
        count += len(before) - (min(len(before), len(now)) if kept is None else kept)
        before = now
    return count


def emissions(take: Take) -> Iterator[tuple[str, float]]:
    """Each word of the clip that was ever shown in its place, and how long after its end that was first so; seconds.

    A state of the transcript is compared with those words only that have begun by then.
    """
    words = [(plain, start, end) for word, start, end in take.utterance.clip.words if (plain := _plain(word))]
    first: dict[int, float] = {}
    for state in take.log.shown:
        said = [word for word, start, _ in words if start <= state.at_s]
        for index in _matched(said, _plain_words(_text(state))):
            first.setdefault(index, state.at_s)
    for index, at_s in sorted(first.items()):
        yield words[index][0], at_s - words[index][2]


def _matched(said: Sequence[str], text: Sequence[str]) -> Iterator[int]:
    """Which of the words said are in the text, by the fewest edits."""
    for block in Levenshtein.opcodes(said, text):
        if block.tag == "equal":
            yield from range(block.src_start, block.src_end)


def _all_final(takes: Iterable[Take]) -> list[Take]:
    return [take for take in takes if take.log.shown and not take.log.shown[-1].partial.strip()]


def _text(shown: Shown) -> str:
    return shown.final + shown.partial


def _plain_words(text: str) -> list[str]:
    return [plain for word in text.split() if (plain := _plain(word))]


def _plain(word: str) -> str:
    return re.sub(r"[^\w']+", "", word.lower())


def spread(figure: Figure) -> dict[str, float | int | None]:
    """p50, p90, p95 and how many."""
    told: dict[str, float | int | None] = {f"p{percent}": figure.percentile(percent) for percent in (50, 90, 95)}
    return told | {"mean": float(np.mean(figure.values)) if figure.values else None, "n": len(figure.values)}

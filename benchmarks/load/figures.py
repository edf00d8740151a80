"""What the sessions of a run show: the one place where logs become figures."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import jiwer
import numpy as np

from benchmarks.common.measures.emission import lagging, word_delays
from benchmarks.common.measures.readings import readings
from benchmarks.common.measures.stability import Stability, pooled, stability
from benchmarks.common.normalization import plain_words, units
from benchmarks.common.session_log import Outcome
from benchmarks.common.stats import percentiles
from benchmarks.load.pipecat_stops import STOP_S
from benchmarks.load.speaking import Take
from benchmarks.load.utterances import Utterance

BY_PIPECAT = "time to final, Pipecat's rule"
WORD_SHOWN = "word shown after it was said"
_QUIET = 0.02
"""Of the loudest sample: a clip's speech is from the first to the last sample above."""
_PLACED_WITHIN_S = 0.1
"""How exactly it is known when a word was spoken."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured quantity."""

    name: str
    values: tuple[float, ...]
    """Seconds."""

    def percentile(self, percent: float) -> float | None:
        found = percentiles(self.values, percent)
        return found[0] if found else None


def figures(takes: Iterable[Take]) -> list[Figure]:
    """Of the sessions that are done. Those that got no text have no latency, but word errors."""
    done = [take for take in takes if take.log.outcome is Outcome.DONE and take.log.shown]
    first, final, finalized, by_pipecat = [], [], [], []
    for take in done:
        onset, end = speech_span(take.utterance)
        first.append(take.log.shown[0].at_s - onset)
        if (last := _last_final(take)) is not None and is_whole(take):
            final.append(last - end)
            if take.log.finalize_s is not None:
                finalized.append(last - take.log.finalize_s)
                if take.utterance.stops_s and finalized[-1] > -STOP_S:
                    by_pipecat.append(finalized[-1] + STOP_S)
    found = [Figure("first text", tuple(first)), Figure("time to final", tuple(final))]
    if finalized:
        found.append(Figure("final after finalize", tuple(finalized)))
    if by_pipecat:
        found.append(Figure(BY_PIPECAT, tuple(by_pipecat)))
    return [*found, *_of_words(done)]


def _of_words(takes: Sequence[Take]) -> Iterator[Figure]:
    """How soon words were to be read."""
    shown: list[float] = []
    aware: list[float] = []
    unaware: list[float] = []
    for take in takes:
        read = readings(take.log.shown)
        if not read or not read[-1].words:
            continue  # All that was shown has been taken back.
        shown += word_delays(read, take.utterance.words)
        spoken = len(plain_words(take.utterance.clip.text))
        aware.append(lagging(read, spoken, take.utterance.speech_s))
        unaware.append(lagging(read, spoken, take.utterance.speech_s, take.finished_log().sent))
    if shown:
        yield Figure(WORD_SHOWN, tuple(shown))
    yield Figure("lagging (LAAL), by the clock", tuple(aware))
    yield Figure("lagging (LAAL), by the audio sent", tuple(unaware))


def steadiness(takes: Iterable[Take]) -> Stability:
    """Of all texts of the sessions that are done."""
    done = (take for take in takes if take.log.outcome is Outcome.DONE)
    return pooled(stability(readings(take.log.shown)) for take in done)


@dataclass(frozen=True, slots=True)
class WordErrors:
    """Pooled over sessions: characters instead of words in languages without spaces."""

    words: int = 0
    """Of the references."""
    wrong: int = 0
    left_out: int = 0
    added: int = 0

    @property
    def rate(self) -> float | None:
        return (self.wrong + self.left_out + self.added) / self.words if self.words else None


def word_errors(takes: Iterable[Take]) -> WordErrors:
    """Of the last text of each session that is done, partial text included."""
    pairs = []
    for take in takes:
        clip = take.utterance.clip
        if take.log.outcome is Outcome.DONE and (reference := units(clip.text, clip.language)):
            text = take.log.shown[-1].final + take.log.shown[-1].partial if take.log.shown else ""
            pairs.append((" ".join(reference), " ".join(units(text, clip.language))))
    if not pairs:
        return WordErrors()
    counted = jiwer.process_words([reference for reference, _ in pairs], [text for _, text in pairs])
    return WordErrors(
        counted.hits + counted.substitutions + counted.deletions,
        counted.substitutions,
        counted.deletions,
        counted.insertions,
    )


def is_whole(take: Take) -> bool:
    """Whether all of a session's text was final at its end, the last words among it.

    A last final that is older than the last word lost what was said since: it would count as quick.
    """
    last = _last_final(take)
    if last is None or take.log.shown[-1].partial.strip():
        return False
    words = take.utterance.words
    return not words or last >= words[-1][2] - _PLACED_WITHIN_S


def without_final(takes: Iterable[Take]) -> int:
    """Sessions that are done but have no time to final: something was said, and not all of it became final."""
    done = (take for take in takes if take.log.outcome is Outcome.DONE and take.utterance.clip.text)
    return sum(not is_whole(take) for take in done)


def _last_final(take: Take) -> float | None:
    before, at_s = "", None
    for shown in take.log.shown:
        if shown.final != before:
            before, at_s = shown.final, shown.at_s
    return at_s


def speech_span(utterance: Utterance) -> tuple[float, float]:
    """Where speech begins and ends in a clip, in seconds: by its words where they are known, else by its loudness."""
    if words := utterance.clip.words:
        return words[0][1], words[-1][2]
    pcm = np.frombuffer(b"".join(chunk.pcm for chunk in utterance.speech), "<i2").astype(np.float32)
    loud = np.flatnonzero(np.abs(pcm) > _QUIET * np.abs(pcm).max())
    if not len(loud):
        return 0.0, utterance.speech_s
    rate = len(pcm) / utterance.speech_s
    return float(loud[0] / rate), float((loud[-1] + 1) / rate)

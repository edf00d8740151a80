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
from benchmarks.load import talk
from benchmarks.load.pipecat_stops import STOP_S
from benchmarks.load.speaking import Take
from benchmarks.load.utterances import Utterance

FIRST_TEXT, FINAL = "first text", "time to final"
BY_PIPECAT = "time to final, Pipecat's rule"
IN_RESTS = "time to final, in rests"
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
        if (onset := _onset(take)) is not None:
            first.append(take.log.shown[0].at_s - onset)
        if (last := last_final(take)) is not None and is_whole(take):
            final.append(last - end_of_speech(take, last))
            if take.log.finalize_s is not None:
                finalized.append(last - take.log.finalize_s)
                if take.utterance.stops_s and not is_talk(take) and finalized[-1] > -STOP_S:
                    by_pipecat.append(finalized[-1] + STOP_S)
    found = [Figure(FIRST_TEXT, tuple(first)), Figure(FINAL, tuple(final))]
    in_rests, after_stops = after_rests(done), after_pipecat_stops(done)
    if any(value is not None for value in in_rests):
        found.append(Figure(IN_RESTS, tuple(value for value in in_rests if value is not None)))
    if finalized:
        found.append(Figure("final after finalize", tuple(finalized)))
    by_pipecat += [value for value in after_stops if value is not None]
    if by_pipecat:
        found.append(Figure(BY_PIPECAT, tuple(by_pipecat)))
    return [*found, *_of_words([take for take in done if not is_talk(take)])]


def by_set(takes: Iterable[Take]) -> dict[str, list[Take]]:
    """The sessions of each set of clips: of each kind of speech."""
    found: dict[str, list[Take]] = {}
    for take in takes:
        found.setdefault(take.utterance.clip.of_set, []).append(take)
    return dict(sorted(found.items()))


def is_talk(take: Take) -> bool:
    """Whether a session's clip is talk, of which the turns are known and not the words."""
    return bool(take.utterance.clip.turns)


def after_rests(takes: Iterable[Take]) -> list[float | None]:
    """For each rest between stretches of talk: seconds until all text was final, None where it was not in the rest."""
    sessions = [take for take in takes if take.log.outcome is Outcome.DONE and is_talk(take)]
    return [value for take in sessions for value in talk.final_in_rests(_stretches(take), take.log.shown)]


def after_pipecat_stops(takes: Iterable[Take]) -> list[float | None]:
    """For each of Pipecat's stops in talk: seconds from its end of speech until all text was final; None where the
    next stop came first, or where no text came.
    """
    sessions = [take for take in takes if take.log.outcome is Outcome.DONE and is_talk(take)]
    found = [value for take in sessions for value in talk.final_after_stops(take.log.asked_s, take.log.shown, STOP_S)]
    return [None if value is None else value + STOP_S for value in found]


def _stretches(take: Take) -> list[talk.Span]:
    return talk.stretches(take.utterance.clip.turns)


def _onset(take: Take) -> float | None:
    if is_talk(take):
        return talk.onset(_stretches(take), take.log.shown[0].at_s)
    return speech_span(take.utterance)[0]


def end_of_speech(take: Take, last_final_s: float) -> float:
    """Where speech ends in a session's clip, seconds."""
    if is_talk(take):
        return talk.end_of_speech(_stretches(take), last_final_s)
    return speech_span(take.utterance)[1]


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
    if aware:
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
    last = last_final(take)
    if last is None or take.log.shown[-1].partial.strip():
        return False
    if is_talk(take):
        return last >= end_of_speech(take, last) - talk.LABELLED_WITHIN_S
    words = take.utterance.words
    return not words or last >= words[-1][2] - _PLACED_WITHIN_S


def without_final(takes: Iterable[Take]) -> int:
    """Sessions that are done but have no time to final: something was said, and not all of it became final."""
    done = (take for take in takes if take.log.outcome is Outcome.DONE and has_speech(take))
    return sum(not is_whole(take) for take in done)


def has_speech(take: Take) -> bool:
    """Whether there are surely words in a session's clip."""
    return talk.has_words(_stretches(take)) if is_talk(take) else bool(take.utterance.clip.text)


def last_final(take: Take) -> float | None:
    """When text last became final, seconds."""
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

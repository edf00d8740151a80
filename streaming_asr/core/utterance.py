"""One utterance: what is known of it, what it wants decoded next, and its one final.

    OPEN <--RESUME / PAUSE--> PAUSED --LONG_PAUSE--> RESTING
     |                          |                       |
     +-------- END / CUT -------+-----------------------+--> ENDED --final decoded, or given up--> SETTLED

A speculative final, decoded while PAUSED or RESTING, covers exactly the audio that the final would if the silence held.
So at the endpoint its result *is* the final, and the utterance is settled at once. If speech goes on, it is cancelled
where the recognizer can, and is a partial where it can't.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from typing import NamedTuple

from streaming_asr.core import scripts
from streaming_asr.core.language_lock import UtteranceLanguage
from streaming_asr.core.options import SessionOptions
from streaming_asr.core.recognizer import SAMPLE_RATE, Audio, Context, Hypothesis, Kind
from streaming_asr.core.segmenter import samples_of
from streaming_asr.core.transcript import Transcript

MAX_ATTEMPTS = 3
"""Failed decodes after which a final is given up and the latest partial text takes its place."""
MAX_PARTIAL_FAILURES = 3
"""Failed partials in a row after which an utterance is left to its final."""
LEAST_KEPT = 0.4
"""Share of the words of the stable text in a final, below which the recognizer may have skipped speech. Whisper skips
the first seconds of long noisy utterances now and then, and begins at a later sentence."""
MIN_STABLE_WORDS, MAX_STABLE_WORDS = 8, 200
"""Stable text of fewer words proves nothing; of longer ones the beginning is compared, since the time grows with the
square."""


class State(enum.Enum):
    """How far an utterance has come."""

    OPEN = "open"
    """It is being spoken."""
    PAUSED = "paused"
    """Silence has lasted for a short pause: if it goes on, the utterance ends where `final_end` says."""
    RESTING = "resting"
    """Silence has lasted so long that it can't go on, but the turn may: it waits for its end where `final_end` says."""
    ENDED = "ended"
    """It ended; its final is still to be decoded."""
    SETTLED = "settled"
    """Its final can be published."""


TRANSITIONS: dict[State, frozenset[State]] = {
    State.OPEN: frozenset({State.PAUSED, State.ENDED}),
    State.PAUSED: frozenset({State.OPEN, State.RESTING, State.ENDED}),
    State.RESTING: frozenset({State.ENDED}),
    State.ENDED: frozenset({State.SETTLED}),
    State.SETTLED: frozenset(),
}


class OwnAudio(NamedTuple):
    """What an utterance keeps of the channel's audio, which is not kept for it any more."""

    samples: Audio
    """From its start to its `final_end`."""
    voiced: list[tuple[int, int]]
    """Where they are voiced, if annotators are given audio: spans of samples from its start on."""


@dataclass(frozen=True, slots=True)
class InFlight:
    """A job that the recognizer is busy with."""

    kind: Kind
    end: int
    """Sample of the channel at which its audio ends, exclusive."""
    prefix: tuple[int, ...]
    context: Context


class Utterance:
    """State of one utterance. Positions are 16 kHz samples of the channel.

    Args:
        number: counts from 1 in the session.
        start: first sample, pre-roll included.
        speech_start: first voiced sample.
        now: seconds, when the onset was detected.
    """

    def __init__(self, number: int, start: int, speech_start: int, now: float) -> None:
        self.state = State.OPEN
        self.number = number
        self.start = start
        self.speech_start = speech_start
        self.speech_end = speech_start
        """End of the last voiced frame; exact once paused or ended."""
        self.transcript = Transcript()
        self.final_end: int | None = None
        """Where the final's audio ends: None while open, certain once ended."""
        self.text_since = now
        """When the latest decode began, or could have; for fairness among the partials of utterances."""
        self.final_since = now
        """When the final became wanted."""
        self.audio: OwnAudio | None = None
        """None while it is that of the channel."""
        self.result: Hypothesis | None = None
        """The hypothesis of exactly ``[start, final_end)``, without a prefix unless that skipped speech."""
        self.in_flight: dict[int, InFlight] = {}
        """Jobs that the recognizer is busy with, by number."""
        self.attempts = 0
        """Failed decodes of ``[start, final_end)``."""
        self.partial_failures = 0
        """Failed partials in a row."""
        self.without_context = False
        """Set when a hypothesis repeated its context: from then on the utterance is decoded without one."""
        self._doubted: Hypothesis | None = None
        """A final that lacks much of the stable text, while it is decoded again, beginning with that."""
        self._language = UtteranceLanguage()
        self._partial_end = start
        """Where the audio of the latest partial ends, decoded or not."""
        self._text_end = start
        """Where the audio of the text shown ends."""

    @property
    def ended(self) -> bool:
        return self.state is State.ENDED or self.state is State.SETTLED

    @property
    def partial_language(self) -> str | None:
        """ISO 639-1 code of the language of the next partial: that of the text that it begins with, else the one
        detected so far, if it is certain."""
        return self.transcript.language if self.transcript.prefix else self._language.certain

    @property
    def settled(self) -> bool:
        """Whether its final can be published."""
        return self.state is State.SETTLED

    def pause(self, final_end: int, speech_end: int, now: float) -> None:
        """Silence has lasted for a short pause."""
        self._become(State.PAUSED)
        self.final_end, self.speech_end = final_end, speech_end
        self.final_since = now

    def rest(self, audio: OwnAudio) -> None:
        """The silence has become a long pause."""
        self._become(State.RESTING)
        self.audio = audio

    def resume(self) -> None:
        """Speech goes on after a pause."""
        self._become(State.OPEN)
        self._drop_final()

    def end(self, final_end: int, speech_end: int, now: float) -> None:
        """The utterance is over, at a pause or without one."""
        self._become(State.ENDED)
        if final_end != self.final_end:
            self._drop_final()
        self.final_end, self.speech_end = final_end, speech_end
        self.final_since = now
        self._settle()

    def wants(self, end: int, options: SessionOptions) -> Kind | None:
        """What should be decoded next, given the audio up to sample `end`; None while that is under way."""
        if self.state is not State.OPEN:
            if self._final_decided or self._final_under_way():
                return None
            return Kind.FINAL if self.ended else Kind.SPECULATIVE
        if not options.partials or self.in_flight or self.partial_failures >= MAX_PARTIAL_FAILURES:
            return None
        if self._partial_end == self.start:
            due = self.speech_start + samples_of(options.first_partial_ms)
        elif self.transcript.revision == 0:
            # Nothing is shown yet: try again as soon as a first partial would be due.
            due = self._partial_end + samples_of(min(options.first_partial_ms, options.partial_interval_ms))
        else:
            due = self._partial_end + samples_of(options.partial_interval_ms)
        return Kind.PARTIAL if end >= due else None

    def begin(self, job: int, kind: Kind, end: int, context: Context, now: float) -> InFlight:
        """Give a job to the recognizer. A final's audio ends at `final_end`, a partial's at sample `end`."""
        if kind is Kind.PARTIAL or self.final_end is None:
            flight = InFlight(kind, end, self.transcript.prefix, context)
            self._partial_end = end
        else:
            flight = InFlight(kind, self.final_end, self.transcript.prefix if self._doubted else (), context)
        if self.without_context:
            flight = replace(flight, context=Context())
        self.in_flight[job] = flight
        self.text_since = now
        return flight

    def superseded(self, *, abortable: bool) -> list[int]:
        """Jobs whose results no longer matter: finals of audio that went on, and partials of an ended utterance.

        Args:
            abortable: whether a decode that is cancelled ends at once. Otherwise a final of audio that went on is worth
                its result while the utterance is open: it shows the text as a partial does.
        """
        if not self.in_flight or not (self.ended or abortable):
            return []
        return [
            job
            for job, flight in self.in_flight.items()
            if (self.ended if flight.kind is Kind.PARTIAL else flight.end != self.final_end)
        ]

    def decoded(self, job: int, hypothesis: Hypothesis, options: SessionOptions) -> bool:
        """Take a result; returns whether the text to show has changed."""
        flight = self.in_flight.pop(job)
        if flight.kind is Kind.PARTIAL:
            self.partial_failures = 0
        elif flight.end == self.final_end:
            if self._doubted is None and self._lacks_stable_text(hypothesis):
                self._doubted = hypothesis
            else:
                self.result = hypothesis if self._doubted is None else self._more_complete(self._doubted, hypothesis)
                self._settle()
        self._partial_end = max(self._partial_end, flight.end)
        # At a pause this is the text of all that was said, though a partial may have taken more of the silence.
        at_pause = flight.kind is Kind.SPECULATIVE and flight.end == self.final_end
        if self.ended or (flight.end < self._text_end and not at_pause):
            return False
        shown = self.transcript.language if self.transcript.revision else None
        if not self._language.add(hypothesis, 1000 * (flight.end - self.speech_start) / SAMPLE_RATE, shown):
            return False
        self._text_end = max(self._text_end, flight.end)
        doubtful = hypothesis.language is not None and self._language.certain is None
        return self.transcript.update(
            hypothesis,
            # At a pause the last word is whole.
            0 if at_pause else options.withheld_words,
            doubtful=doubtful,
            unsure=hypothesis.unsure and not at_pause,
        )

    def suspect(self, job: int) -> None:
        """Drop a result that repeats the context: the decode is wanted again, without context."""
        del self.in_flight[job]
        self.without_context = True

    def failed(self, job: int, *, counts: bool, now: float) -> None:
        """Take a failure; one that does not count (the engine died) may be repeated without limit."""
        flight = self.in_flight.pop(job)
        self.text_since = self.final_since = now
        if not counts:
            return
        if flight.kind is Kind.PARTIAL:
            self.partial_failures += 1
        elif flight.end == self.final_end:
            self.attempts += 1
            self._settle()

    def _lacks_stable_text(self, hypothesis: Hypothesis) -> bool:
        """Whether a final has so little of the stable text that speech may have been skipped, rather than corrected."""
        if self.final_end is None or self._text_end > self.final_end or hypothesis.language != self.transcript.language:
            return False
        stable = scripts.lower_words(self.transcript.partial.stable)[:MAX_STABLE_WORDS]
        if len(stable) < MIN_STABLE_WORDS:
            return False
        final = scripts.lower_words(hypothesis.text)[: 2 * MAX_STABLE_WORDS]
        both = SequenceMatcher(None, stable, final, autojunk=False)
        return sum(block.size for block in both.get_matching_blocks()) < LEAST_KEPT * len(stable)

    def _more_complete(self, free: Hypothesis, forced: Hypothesis) -> Hypothesis:
        """Of a final and the one that was forced to begin with the stable text: the forced one if it adds that text to
        the words of the free one. If it has about as many words, the free one has corrected them."""
        stable, alone, together = (
            len(scripts.lower_words(text)) for text in (self.transcript.partial.stable, free.text, forced.text)
        )
        return forced if together >= alone + stable / 2 else free

    @property
    def _final_decided(self) -> bool:
        """Whether the decode of ``[start, final_end)`` has succeeded, or is given up."""
        return self.result is not None or self.attempts >= MAX_ATTEMPTS

    def _settle(self) -> None:
        if self.state is State.ENDED and self._final_decided:
            self._become(State.SETTLED)

    def _drop_final(self) -> None:
        self.final_end = self.result = self._doubted = None
        self.attempts = 0

    def _become(self, state: State) -> None:
        assert state in TRANSITIONS[self.state], f"an utterance that is {self.state.value} became {state.value}"
        self.state = state

    def _final_under_way(self) -> bool:
        return any(
            flight.kind is not Kind.PARTIAL and flight.end == self.final_end for flight in self.in_flight.values()
        )

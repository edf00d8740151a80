"""One utterance: what is known of it, what it wants decoded next, and its one final.

    open --PAUSE--> paused --END--> ended --final decoded--> settled
      ^---RESUME------'

A speculative final covers exactly the audio that the final would if the silence held, so at the endpoint its result
*is* the final.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from streaming_asr.core.events import EndReason
from streaming_asr.core.options import SessionOptions
from streaming_asr.core.recognizer import Context, Hypothesis, Kind
from streaming_asr.core.segmenter import samples_of
from streaming_asr.core.transcript import Transcript

MAX_ATTEMPTS = 3
"""Failed decodes after which a final is given up and the latest partial text takes its place."""
MAX_PARTIAL_FAILURES = 3
"""Failed partials in a row after which an utterance is left to its final."""


@dataclass(frozen=True, slots=True)
class InFlight:
    """A job that the recognizer is busy with."""

    kind: Kind
    end: int
    """Samples of the channel up to which it hears."""
    prefix: tuple[int, ...]
    context: Context


class Utterance:
    """State of one utterance. Positions are 16 kHz samples of the channel.

    Args:
        number: counts from 1 in the session.
        start: first sample, pre-roll included.
        speech_start: first voiced sample.
        now: seconds, when the onset was heard.
    """

    def __init__(self, number: int, start: int, speech_start: int, now: float) -> None:
        self.number = number
        self.start = start
        self.speech_start = speech_start
        self.speech_end = speech_start
        """End of the last voiced frame; exact once paused or ended."""
        self.transcript = Transcript()
        self.final_end: int | None = None
        """Where the final's audio ends if the silence holds; certain once `reason` is set."""
        self.reason: EndReason | None = None
        """Why it ended, or None while it is open."""
        self.wanted_since = now
        """When the decode that is wanted now became wanted; for fairness among utterances."""
        self.result: Hypothesis | None = None
        """The hypothesis of exactly ``[start, final_end)``, decoded without prefix."""
        self.in_flight: dict[int, InFlight] = {}
        self.attempts = 0
        self.partial_failures = 0
        self.without_context = False
        """Set when a hypothesis looked like its context given back: from then on it is told none."""
        self._partial_end = start
        """Up to where the latest partial hears, or heard."""
        self._text_end = start
        """Up to where the text shown has heard."""

    @property
    def ended(self) -> bool:
        return self.reason is not None

    @property
    def settled(self) -> bool:
        """Whether its final can be published."""
        return self.ended and (self.result is not None or self.attempts >= MAX_ATTEMPTS)

    def pause(self, final_end: int, speech_end: int, now: float) -> None:
        self.final_end, self.speech_end = final_end, speech_end
        self.wanted_since = now

    def resume(self) -> None:
        self.final_end = None
        self.result = None
        self.attempts = 0

    def end(self, final_end: int, speech_end: int, reason: EndReason, now: float) -> None:
        if final_end != self.final_end:
            self.resume()
        self.final_end, self.speech_end, self.reason = final_end, speech_end, reason
        self.wanted_since = now

    def wants(self, heard: int, options: SessionOptions) -> Kind | None:
        """What should be decoded next, given the audio up to sample `heard`; None while that is under way."""
        if self.final_end is not None:
            covered = self.result is not None or self.attempts >= MAX_ATTEMPTS or self._final_under_way()
            if covered:
                return None
            return Kind.FINAL if self.ended else Kind.SPECULATIVE
        if not options.partials or self.in_flight or self.partial_failures >= MAX_PARTIAL_FAILURES:
            return None
        if self._partial_end == self.start:
            due = self.speech_start + samples_of(options.first_partial_ms)
        elif self.transcript.revision == 0:
            # Nothing is shown yet: look again as soon as a first look would be worth while.
            due = self._partial_end + samples_of(min(options.first_partial_ms, options.partial_interval_ms))
        else:
            due = self._partial_end + samples_of(options.partial_interval_ms)
        return Kind.PARTIAL if heard >= due else None

    def begin(self, job: int, kind: Kind, heard: int, context: Context, now: float) -> InFlight:
        """A job of this utterance goes to the recognizer; finals hear their own end, partials all that is `heard`."""
        if kind is Kind.PARTIAL or self.final_end is None:
            flight = InFlight(kind, heard, self.transcript.prefix, context)
            self._partial_end = heard
            self.wanted_since = now
        else:
            flight = InFlight(kind, self.final_end, (), context)
        if self.without_context:
            flight = replace(flight, context=Context())
        self.in_flight[job] = flight
        return flight

    def superseded(self) -> list[int]:
        """Jobs whose results no longer matter: partials of an ended utterance, finals of audio that went on."""
        return [
            job
            for job, flight in self.in_flight.items()
            if self.ended and (flight.kind is Kind.PARTIAL or flight.end != self.final_end)
        ]

    def decoded(self, job: int, hypothesis: Hypothesis, options: SessionOptions) -> bool:
        """Take a result; returns whether the text to show has changed."""
        flight = self.in_flight.pop(job)
        if flight.kind is Kind.PARTIAL:
            self.partial_failures = 0
        elif flight.end == self.final_end:
            self.result = hypothesis
        self._partial_end = max(self._partial_end, flight.end)
        if self.ended or flight.end < self._text_end:
            return False
        self._text_end = flight.end
        # At a pause the last word is whole.
        withheld = options.withheld_words if flight.kind is Kind.PARTIAL else 0
        return self.transcript.update(hypothesis, withheld)

    def suspect(self, job: int) -> None:
        """The result was the context given back: the decode is wanted again, without context."""
        del self.in_flight[job]
        self.without_context = True

    def failed(self, job: int, *, counts: bool, now: float) -> None:
        """Take a failure; one that does not count (the engine died) may be repeated without end."""
        flight = self.in_flight.pop(job)
        self.wanted_since = now
        if not counts:
            return
        if flight.kind is Kind.PARTIAL:
            self.partial_failures += 1
        elif flight.end == self.final_end:
            self.attempts += 1

    def _final_under_way(self) -> bool:
        return any(
            flight.kind is not Kind.PARTIAL and flight.end == self.final_end for flight in self.in_flight.values()
        )

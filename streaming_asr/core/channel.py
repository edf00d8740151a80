"""One channel of a session: 16 kHz samples in -> events out; jobs out, results in."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from streaming_asr.core.annotations import Annotations
from streaming_asr.core.context import ContextWindow
from streaming_asr.core.echo import is_echo
from streaming_asr.core.events import (
    EagerTurnEnd,
    EndReason,
    Event,
    Final,
    Finalized,
    Partial,
    SessionWarning,
    SpeechEnded,
    SpeechResumed,
    SpeechStarted,
    TurnResumed,
)
from streaming_asr.core.options import OptionError, SessionOptions
from streaming_asr.core.pause_judge import PauseJudge
from streaming_asr.core.recognizer import (
    SAMPLE_RATE,
    Audio,
    Capabilities,
    DecodeFailed,
    DecodeJob,
    Hypothesis,
    Kind,
    RecognizerDown,
    Word,
)
from streaming_asr.core.segmenter import Boundary, Mark, Segmenter, samples_of
from streaming_asr.core.tape import AudioTape
from streaming_asr.core.turn import Pause, TurnDetector, TurnQuestion
from streaming_asr.core.utterance import OwnAudio, Utterance
from streaming_asr.core.voice import Detection, VoiceDetector
from streaming_asr.core.voiced_frames import VoicedFrames


class Demand(NamedTuple):
    """A decode that is wanted."""

    kind: Kind
    since: float
    """Seconds; when it became wanted, for partials when the last decode began."""
    utterance: Utterance
    channel: Channel
    when_idle: bool = False
    """Whether it is only wanted while the recognizer has nothing else to do."""

    def urgency(self) -> tuple[bool, Kind, float]:
        """Sorts the most urgent first."""
        return self.when_idle, self.kind, self.since

    def take(self, job: int, now: float) -> DecodeJob | None:
        """Make the job, numbered `job`, from the audio of this moment; None if it is no longer wanted."""
        return self.channel.take_job(self, job, now)


def utterance_name(session: str, channel: int, number: int) -> str:
    """The name of an utterance in jobs, unique within the process.

    Args:
        session: its key.
        channel: from 0.
        number: as in events.
    """
    return f"{session}.{channel}/{number}"


def ms_of(samples: int) -> int:
    """Milliseconds of a number of samples, rounded down."""
    return samples * 1000 // SAMPLE_RATE


class Channel:
    """Transcribes one speaker (or a mix): finds its utterances, makes their jobs, and publishes their finals in order.

    Args:
        key: of the session, unique within the process; see `utterance_name`.
        index: of this channel in the session, from 0.
        options: of the session.
        capabilities: of the recognizer.
        detector: a fresh voice detector.
        next_number: returns the number of the session's next utterance.
        turns: what judges its pauses; None where silence alone ends utterances.
        annotations: what changes its events before they are returned; None if nothing does.
    """

    def __init__(
        self,
        key: str,
        index: int,
        options: SessionOptions,
        capabilities: Capabilities,
        detector: VoiceDetector,
        next_number: Callable[[], int],
        turns: TurnDetector | None = None,
        annotations: Annotations | None = None,
    ) -> None:
        self._key = key
        self._index = index
        self._options = options
        self._capabilities = capabilities
        self._detector = detector
        self._next_number = next_number
        self._judge = PauseJudge(index, turns)
        self.annotations = annotations
        self._lead_in = samples_of(options.lead_in_ms)
        """No speech before this counts."""
        self._segmenter = Segmenter(detector.frame_samples, options, self._judge.asks_at_ms(options))
        self._segmenter.claim_from(self._lead_in)
        self._tape = AudioTape()
        self._voiced = VoicedFrames(detector.frame_samples)
        """Only of audio that annotators are given."""
        self._context = ContextWindow(options, rolling=self._rolls(options))
        self._utterances: deque[Utterance] = deque()
        """Those without a published final, oldest first; only the last may be open."""
        self._finalizing: deque[tuple[int, int]] = deque()
        """(last utterance number, position) of finalizes that wait for finals."""
        self._released: list[str] = []
        self._dropped_jobs: list[int] = []
        self._finalizes = False
        """Whether the client has ended utterances itself: it probably will again, soon after the speech ends."""
        self._abandoned = False

    @property
    def index(self) -> int:
        return self._index

    @property
    def held_samples(self) -> int:
        """Audio kept for utterances whose final is not returned yet, and for the pre-roll of the next."""
        own = sum(len(utterance.audio.samples) for utterance in self._utterances if utterance.audio is not None)
        return len(self._tape) + own + (self.annotations.held_samples if self.annotations is not None else 0)

    @property
    def pending(self) -> bool:
        """Whether there is an utterance whose final is not returned yet."""
        return bool(self._utterances) or (self.annotations is not None and self.annotations.pending)

    @property
    def speaking(self) -> bool:
        return self._segmenter.open

    @property
    def in_speech(self) -> bool:
        """See `Segmenter.in_speech`."""
        return self._segmenter.in_speech

    def reconfigure(
        self, options: SessionOptions, turns: TurnDetector | None, detector: VoiceDetector | None = None
    ) -> None:
        """Use other options and another turn detector from here on, and another voice detector if one is given.

        Raises:
            OptionError: the frames of the new voice detector have another length.
        """
        if detector is not None:
            if detector.frame_samples != self._detector.frame_samples:
                raise OptionError("vad", f"{options.vad} can't take over in mid-stream from {self._options.vad}")
            self._detector = detector
        self._options = options
        self._judge.reconfigure(turns, options)
        self._segmenter.reconfigure(options, self._judge.asks_at_ms(options))
        verdict = self._judge.weigh(self._utterances[-1].result if self._utterances else None, options)
        self._segmenter.wait_for(verdict.wait_ms if verdict is not None else None)
        # A longer pre-roll can't reach back to what has been forgotten under the shorter one.
        self._segmenter.claim_from(self._tape.start)
        self._context.reconfigure(options, rolling=self._rolls(options))

    def receiving(self, samples: Audio, now: float) -> Detection[list[Event]]:
        """Take the next samples, shape ``[n]``; returns the events."""
        self._tape.append(samples)
        frame = self._detector.frame_samples
        start = self._segmenter.position
        count = (self._tape.end - start) // frame
        if not count:
            return []
        frames = self._tape.slice(start, start + count * frame).reshape(count, frame)
        energies = np.einsum("ij,ij->i", frames, frames) / frame
        decisions = yield from self._detector.detect(frames)
        if self._abandoned:
            return []
        if start < self._lead_in:
            decisions = decisions.copy()
            decisions[: -(-(self._lead_in - start) // frame)] = False
        if self.annotations is not None and self.annotations.needs_audio:
            self._voiced.append(decisions, start)
        events = self._apply(self._segmenter.push(decisions, energies), EndReason.ENDPOINT, now)
        self._forget()
        return self._annotated(events, now)

    def take_question(self) -> TurnQuestion | None:
        """A pause to be judged, if there is one. It is returned once, and only while it lasts."""
        return self._judge.take_question()

    def judged(self, question: TurnQuestion, probability: float, now: float) -> list[Event]:
        """Take the answer to a question. It is ignored once speech went on, or a later question was answered."""
        events: list[Event] = []
        if self._judge.answered(question, probability):
            events = self._weigh(now)
            self._forget()
        return self._annotated(events, now)

    def _weigh(self, now: float) -> list[Event]:
        """Take into account what has become known of the pause."""
        utterance = self._utterances[-1]
        verdict = self._judge.weigh(utterance.result, self._options)
        if verdict is None:
            return []
        events: list[Event] = []
        eager = self._options.eager_threshold
        if utterance.result is not None and eager is not None and verdict.probability >= eager:
            events += self._eager_end(utterance, utterance.result, verdict.probability)
        self._segmenter.wait_for(verdict.wait_ms)
        if self._tape.end - self._segmenter.position < self._detector.frame_samples:
            events += self._apply(self._segmenter.end_if_due(), EndReason.ENDPOINT, now)
        return events

    def _eager_end(self, utterance: Utterance, result: Hypothesis, probability: float) -> list[Event]:
        text = result.text.strip()
        if self._judge.eager or not text:
            return []
        self._judge.eager = True
        end_ms = ms_of(utterance.speech_end)
        return [EagerTurnEnd(utterance.number, self._index, end_ms, text, probability, result.language)]

    def finalize(self, reason: EndReason, now: float) -> list[Event]:
        """End the open utterance now; `Finalized` follows once all audio so far has its finals."""
        position = self._tape.end
        events = self._apply(self._segmenter.finalize(position), reason, now)
        if reason is EndReason.FINALIZE:
            self._finalizes = True
            last = self._utterances[-1].number if self._utterances else 0
            if (last, position) not in self._finalizing:
                self._finalizing.append((last, position))
            events += self._publish()
        self._forget()
        return self._annotated(events, now)

    def clear(self) -> None:
        """Drop the open utterance: it gets no final. Utterances that have ended still get theirs."""
        self._segmenter.clear(self._tape.end)
        self._judge.reset()
        if self._utterances and not self._utterances[-1].ended:
            dropped = self._utterances.pop()
            self._dropped_jobs += dropped.in_flight
            self._released.append(self._name(dropped))
        self._forget()

    def demand(self) -> Demand | None:
        """The most urgent decode wanted, or None."""
        if not self._utterances:
            return None
        return min(self._demands(), default=None, key=Demand.urgency)

    def take_job(self, demand: Demand, job: int, now: float) -> DecodeJob | None:
        """As `Demand.take`, for a demand of this channel."""
        utterance = demand.utterance
        if utterance not in self._utterances or utterance.wants(self._tape.end, self._options) is not demand.kind:
            return None
        # While a query of the voice detector is open, the audio may be longer than an utterance is allowed to be.
        end = min(self._tape.end, utterance.start + samples_of(self._options.max_utterance_s * 1000))
        flight = utterance.begin(job, demand.kind, end, self._context.build(), now)
        language = self._context.language
        if language is None and (flight.kind is Kind.PARTIAL or flight.prefix):
            language = utterance.partial_language
        return DecodeJob(
            id=job,
            kind=flight.kind,
            utterance=self._name(utterance),
            audio=self._samples(utterance, flight.end),
            context=flight.context,
            language=language,
            prefix=flight.prefix if self._capabilities.prefix_forcing else (),
            word_times=self._options.word_times and flight.kind is not Kind.PARTIAL,
        )

    def _demands(self) -> Iterator[Demand]:
        for index, utterance in enumerate(self._utterances):
            kind = utterance.wants(self._tape.end, self._options)
            if kind is None or (index and self._context.rolling and kind is not Kind.PARTIAL):
                # With rolling context a final is decoded with the one before as context, so it waits for it.
                continue
            since = utterance.text_since if kind is Kind.PARTIAL else utterance.final_since
            early = kind is Kind.SPECULATIVE and self._segmenter.in_short_pause
            yield Demand(kind, since, utterance, self, when_idle=early and not self._finalizes)

    def complete(self, job: int, hypothesis: Hypothesis, now: float) -> list[Event]:
        """Take a job's result. The result of a job that is not in flight (any more) is ignored."""
        utterance = self._owner(job)
        if utterance is None:
            return []
        flight = utterance.in_flight[job]
        voiced_s = (flight.end - utterance.speech_start) / SAMPLE_RATE
        if is_echo(hypothesis.text, flight.context, voiced_s):
            utterance.suspect(job)
            return []
        events: list[Event] = []
        changed = utterance.decoded(job, hypothesis, self._options)
        speculative = flight.kind is Kind.SPECULATIVE and utterance.final_end == flight.end
        shown = utterance.transcript.partial
        # Stable text is not taken back, so what is shown may differ from what the final would be.
        as_final = speculative and (shown.stable + shown.tentative).strip() == hypothesis.text.strip()
        if changed or (as_final and not utterance.ended and utterance.transcript.revision):
            events.append(self._partial(utterance, flight.end, as_final))
        if speculative and utterance.result is hypothesis and not utterance.ended:
            events += self._weigh(now)
        events += self._publish()
        self._forget()
        return self._annotated(events, now)

    def fail(self, job: int, error: DecodeFailed, now: float) -> list[Event]:
        """Take a job's failure. A final is decoded again, and given up after `MAX_ATTEMPTS` failures."""
        utterance = self._owner(job)
        if utterance is None:
            return []
        utterance.failed(job, counts=not isinstance(error, RecognizerDown), now=now)
        events = self._publish()
        self._forget()
        return self._annotated(events, now)

    def take_superseded(self) -> list[int]:
        """Jobs in flight whose results no longer matter. Each is returned once."""
        jobs, self._dropped_jobs = self._dropped_jobs, []
        for utterance in self._utterances:
            for job in utterance.superseded(abortable=self._capabilities.abortable):
                del utterance.in_flight[job]
                jobs.append(job)
        return jobs

    def take_released(self) -> list[str]:
        """Names of utterances that have no further job. Each is returned once."""
        released, self._released = self._released, []
        return released

    def abandon(self) -> None:
        """Drop everything pending."""
        self._abandoned = True
        self._released += [self._name(utterance) for utterance in self._utterances]
        self._utterances.clear()
        self._finalizing.clear()
        self._judge.reset()
        if self.annotations is not None:
            self.annotations.abandon()

    def annotate(self, annotations: Annotations) -> None:
        """Have events changed from now on, which none were until now. Stable text that was sent is not taken back."""
        self.annotations = annotations
        if self._utterances:
            latest = self._utterances[-1]
            annotations.go_on_after(latest.number, latest.transcript.partial.stable)

    def _annotated(self, events: list[Event], now: float) -> list[Event]:
        return events if self.annotations is None or not events else self.annotations.passed(events, now)

    def _rolls(self, options: SessionOptions) -> bool:
        if not self._capabilities.context:
            return False
        return self._capabilities.rolling_context if options.rolling_context is None else options.rolling_context

    def _name(self, utterance: Utterance) -> str:
        return utterance_name(self._key, self._index, utterance.number)

    def _owner(self, job: int) -> Utterance | None:
        return next((utterance for utterance in self._utterances if job in utterance.in_flight), None)

    def _apply(self, boundaries: list[Boundary], reason: EndReason, now: float) -> list[Event]:
        events: list[Event] = []
        for index, boundary in enumerate(boundaries):
            if boundary.mark is Mark.ONSET:
                utterance = Utterance(self._next_number(), boundary.position, boundary.speech, now)
                self._utterances.append(utterance)
                events.append(SpeechStarted(utterance.number, self._index, ms_of(boundary.speech)))
                continue
            utterance = self._utterances[-1]
            if boundary.mark is Mark.SHORT_PAUSE:
                utterance.pause(boundary.position, boundary.speech, now)
            elif boundary.mark is Mark.PAUSE:
                if not self._finalizes:
                    utterance.final_since = now
            elif boundary.mark is Mark.LONG_PAUSE:
                utterance.rest(self._own_audio(utterance, boundary.position))
            elif boundary.mark is Mark.ASK:
                self._judge.ask(self._pause(utterance, boundary))
            elif boundary.mark is Mark.RESUME:
                events += self._resumed(utterance, boundary)
            elif boundary.mark is Mark.CUT:
                if self._judge.eager:
                    onset = boundaries[index + 1]
                    events.append(TurnResumed(utterance.number, self._index, ms_of(onset.speech)))
                events += self._ended(utterance, boundary, EndReason.LENGTH, now)
            else:
                events += self._ended(utterance, boundary, reason, now)
        return events

    def _pause(self, utterance: Utterance, boundary: Boundary) -> Pause:
        partial = utterance.transcript.partial
        return Pause(
            audio=self._tape.slice(utterance.start, boundary.position),
            silence_ms=ms_of(boundary.position - boundary.speech),
            text=partial.stable + partial.tentative,
            language=utterance.transcript.language,
        )

    def _resumed(self, utterance: Utterance, boundary: Boundary) -> list[Event]:
        at_ms = ms_of(boundary.position)
        events: list[Event] = []
        if utterance.result is not None:
            events.append(SpeechResumed(utterance.number, self._index, at_ms))
        if self._judge.eager:
            events.append(TurnResumed(utterance.number, self._index, at_ms))
        self._judge.reset()
        utterance.resume()
        return events

    def _ended(self, utterance: Utterance, boundary: Boundary, reason: EndReason, now: float) -> list[Event]:
        events: list[Event] = []
        start_ms, end_ms = ms_of(utterance.speech_start), ms_of(boundary.speech)
        probability = None
        verdict = self._judge.verdict
        if verdict is not None and reason is EndReason.ENDPOINT:
            reason = EndReason.TURN if verdict.over else EndReason.TIMEOUT
        if verdict is not None and boundary.position == utterance.final_end:
            probability = verdict.probability
        self._judge.reset()
        utterance.end(boundary.position, boundary.speech, now)
        silence_ms = ms_of(self._tape.end - boundary.speech)
        events.append(SpeechEnded(utterance.number, self._index, start_ms, end_ms, reason, probability, silence_ms))
        return events + self._publish()

    def _partial(self, utterance: Utterance, end: int, speculative: bool) -> Partial:
        transcript = utterance.transcript
        if self.annotations is not None and self.annotations.needs_audio:
            self._keep_speech(self.annotations, utterance, end, final=False)
        return Partial(
            utterance=utterance.number,
            channel=self._index,
            revision=transcript.revision,
            stable=transcript.partial.stable,
            tentative=transcript.partial.tentative,
            language=transcript.language,
            start_ms=ms_of(utterance.speech_start),
            end_ms=ms_of(end),
            speculative=speculative,
            logprobs=transcript.logprobs,
        )

    def _keep_speech(self, annotations: Annotations, utterance: Utterance, end: int, *, final: bool) -> None:
        """Have the audio of an utterance, up to sample `end`, given to the annotators of its partial or final."""
        own = utterance.audio
        voiced = self._voiced.spans(utterance.start, end) if own is None else own.voiced
        annotations.keep(utterance.number, self._samples(utterance, end), utterance.start, voiced, final=final)

    def _samples(self, utterance: Utterance, end: int) -> Audio:
        """The audio of an utterance up to sample `end`, or up to its `final_end` if it keeps its own."""
        if utterance.audio is None:
            return self._tape.slice(utterance.start, end)
        return utterance.audio.samples[: end - utterance.start]

    def _own_audio(self, utterance: Utterance, end: int) -> OwnAudio:
        samples = self._tape.slice(utterance.start, end).copy()
        samples.flags.writeable = False
        return OwnAudio(samples, self._voiced.spans(utterance.start, end))

    def _publish(self) -> list[Event]:
        """The finals that are ready, in the order of speech, and each `Finalized` right after the finals before it."""
        events = self._finalized()
        while self._utterances and self._utterances[0].settled:
            utterance = self._utterances.popleft()
            self._released.append(self._name(utterance))
            events += self._final(utterance)
            events += self._finalized()
        return events

    def _finalized(self) -> list[Event]:
        events: list[Event] = []
        oldest = self._utterances[0].number if self._utterances else None
        while self._finalizing and (oldest is None or oldest > self._finalizing[0][0]):
            events.append(Finalized(self._index, ms_of(self._finalizing.popleft()[1])))
        return events

    def _final(self, utterance: Utterance) -> list[Event]:
        hypothesis = utterance.result
        events: list[Event] = []
        if hypothesis is None:
            partial = utterance.transcript.partial
            pieces = (partial.stable + partial.tentative,)
            hypothesis = Hypothesis(pieces=pieces, language=utterance.transcript.language)
            message = "The recognizer failed on this utterance; its final is the latest partial text."
            events.append(SessionWarning("decode_failed", message, self._index, utterance.number))
        text = known = hypothesis.text.strip()
        if self.annotations is not None:
            known = self.annotations.guarded(text, hypothesis.language)
            if self.annotations.needs_audio and utterance.final_end is not None:
                self._keep_speech(self.annotations, utterance, utterance.final_end, final=True)
        self._context.add_final(known, hypothesis)
        offset = ms_of(utterance.start)
        words = None
        if self._options.word_times and hypothesis.words is not None:
            words = tuple(
                Word(word.text, word.start_ms + offset, word.end_ms + offset, word.probability)
                for word in hypothesis.words
            )
        logprobs = None
        if hypothesis.logprobs is not None:
            logprobs = tuple(zip(hypothesis.pieces, hypothesis.logprobs, strict=True))
        events.append(
            Final(
                utterance=utterance.number,
                channel=self._index,
                text=text,
                language=hypothesis.language if text else None,
                start_ms=ms_of(utterance.speech_start),
                end_ms=ms_of(utterance.speech_end),
                confidence=hypothesis.confidence if text else None,
                words=words,
                logprobs=logprobs,
            )
        )
        return events

    def _forget(self) -> None:
        """Keep only the audio that is still needed. Not to be called while boundaries are yet to be applied: they may
        begin an utterance further back than a later one could."""
        keep = self._segmenter.position - self._segmenter.look_back
        for utterance in self._utterances:
            if utterance.audio is None:
                keep = min(keep, utterance.start)
                break
        self._tape.forget_before(keep)
        self._voiced.forget_before(keep)

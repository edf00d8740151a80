"""One stream: wire audio in -> events out; decode jobs out, hypotheses in. No sockets, no clock, no event loop."""

from __future__ import annotations

import itertools
import math
from collections import deque

import numpy as np
from numpy.typing import NDArray

from streaming_asr.core.annotations import Annotations, Inquiry
from streaming_asr.core.annotator import Annotator, AnnotatorsFactory, no_annotators
from streaming_asr.core.audio import AudioDecoder
from streaming_asr.core.channel import Channel, Demand, ms_of
from streaming_asr.core.events import Done, EndReason, Event, SessionWarning
from streaming_asr.core.language_tags import find_known
from streaming_asr.core.options import CHANGEABLE, OptionError, SessionOptions
from streaming_asr.core.recognizer import SAMPLE_RATE, Capabilities, DecodeFailed, Hypothesis
from streaming_asr.core.segmenter import samples_of
from streaming_asr.core.turn import TurnDetectorFactory, TurnQuestion, silence_alone
from streaming_asr.core.voice import Detection, DetectorFactory, run_inline

FORCED_FINALS = 4
FORCED_FINALS_S = 2.0
"""A session whose client ends more utterances than this by `finalize`, in so much audio, does not count as live."""
LIVE_SLACK_S = 2.0
"""Seconds of audio that may be received ahead of real time and still count as live: networks send it in bursts."""
FIRST_SLACK_S = 0.5
"""As much of it has a session without a head start when it begins; it grows as time goes by."""
LIVE_WINDOW_S = 10.0
"""Time over which the pace of the audio is judged. Earlier audio does not count: a backlog sent after connecting is
forgotten, and a client's clock that runs fast by a thousandth never adds up to more than the slack."""
_PACE_STEP_S = 0.5
"""The pace is noted once in this time, so its history has a bound."""


class SessionStopped(Exception):
    """Audio or a command was received after the stop."""


class Session:
    """State of one stream, whatever its protocol.

    Args:
        key: unique within the process.
        options: of this stream.
        capabilities: of the recognizer.
        make_detector: makes the voice detector of each channel, and the next one if options change.
        make_turn_detector: makes what judges the pauses.
        make_annotators: makes what changes the texts of each channel.
        recorded: whether the audio is a recording, which never counts as live. Silence alone ends its utterances: its
            finals are not urgent, and it is received faster than pauses can be judged.
        head_start: whether the session counts as live although its first `LIVE_SLACK_S` of audio come at once.

    Raises:
        OptionError: the recognizer can't do what an option asks, or there is no detector of a name.
    """

    def __init__(
        self,
        key: str,
        options: SessionOptions,
        capabilities: Capabilities,
        make_detector: DetectorFactory,
        *,
        make_turn_detector: TurnDetectorFactory = silence_alone,
        make_annotators: AnnotatorsFactory = no_annotators,
        recorded: bool = False,
        head_start: bool = True,
    ) -> None:
        self.key = key
        self._recorded = recorded
        self._full_slack_at: float | None = -math.inf if head_start else None
        """From when on it has all of `LIVE_SLACK_S`; None until audio is received."""
        self.capabilities = capabilities
        self._make_detector = make_detector
        self._make_turn_detector = silence_alone if recorded else make_turn_detector
        self._make_annotators = make_annotators
        self.options = _fitted(options, capabilities)
        self._decoder = AudioDecoder(options)
        numbers = itertools.count(1)
        turns = self._make_turn_detector(options)
        self._channels = [
            Channel(
                key,
                index,
                self.options,
                capabilities,
                make_detector(options),
                lambda: next(numbers),
                turns,
                self._annotations(index),
            )
            for index in range(self._decoder.tracks)
        ]
        self._samples = 0
        self._pace: deque[tuple[float, int]] = deque()
        """(time, samples received before it) over the last `LIVE_WINDOW_S`, oldest first."""
        self._forced: deque[int] = deque(maxlen=FORCED_FINALS)
        """Where `finalize` last ended utterances, samples."""
        self._stopped = False
        self._done = False
        self._repaired: set[str] = set()
        """Codes of what has been repaired and reported."""

    @property
    def bytes_per_second(self) -> int:
        """Bytes of one second of audio on the wire."""
        return self._decoder.bytes_per_second

    @property
    def tracks(self) -> int:
        """Number of transcripts: one, or one per channel."""
        return len(self._channels)

    @property
    def audio_ms(self) -> int:
        """Length of the stream so far."""
        return ms_of(self._samples)

    def live(self, now: float) -> bool:
        """Whether the audio is received as it is spoken, not faster, as from a file; judged by the last seconds. Nor
        does a session count whose client ends utterances so often that their finals would delay those of others.
        """
        if self._recorded or self._forces_finals:
            return False
        if not self._pace:
            return True
        self._forget_pace(now)
        since, before = self._pace[0]
        slack_s = LIVE_SLACK_S
        if self._full_slack_at is not None:
            slack_s -= max(0.0, self._full_slack_at - now)
        return (self._paced - before) / SAMPLE_RATE - (now - since) <= slack_s

    @property
    def _paced(self) -> int:
        """Samples received that must come as they are spoken: all but the lead-in."""
        return max(0, self._samples - samples_of(self.options.lead_in_ms))

    @property
    def _forces_finals(self) -> bool:
        full = len(self._forced) == FORCED_FINALS
        return full and self._samples - self._forced[0] < FORCED_FINALS_S * SAMPLE_RATE

    @property
    def held_s(self) -> float:
        """Seconds of audio kept because it still needs decoding, summed over the channels."""
        return sum(channel.held_samples for channel in self._channels) / SAMPLE_RATE

    @property
    def stopped(self) -> bool:
        return self._stopped

    @property
    def done(self) -> bool:
        """Whether `Done` has been returned: nothing is pending, and there will be no more events."""
        return self._done

    @property
    def speaking(self) -> bool:
        """Whether an utterance is open."""
        return any(channel.speaking for channel in self._channels)

    @property
    def in_speech(self) -> bool:
        """Whether an end now would cut a word in two; False in a pause, however short."""
        return any(channel.in_speech for channel in self._channels)

    @property
    def pending(self) -> bool:
        """Whether an utterance still waits for its final."""
        return any(channel.pending for channel in self._channels)

    def receive(self, data: bytes | memoryview, now: float) -> list[Event]:
        """Take audio from the wire, of any length; `now` in seconds. Returns the events that follow from it.

        Raises:
            SessionStopped: after `stop`.
            UnexpectedFormat: the audio has a WAV header of another format.
        """
        return run_inline(self.receiving(data, now))

    def receiving(self, data: bytes | memoryview, now: float) -> Detection[list[Event]]:
        """As `receive`, but the voice detector's queries are yielded to the caller, which may answer those of many
        sessions at once. Until they are answered, results of decodes may be given to the session, and nothing else.
        """
        self._check_open()
        self._note_pace(now)
        events = yield from self._pushing(self._decoder.decode(data), now)
        return events + self._flaw_warnings()

    def take_questions(self) -> list[TurnQuestion]:
        """Pauses to be judged, after audio was received: each once, and only while it lasts. They need not be."""
        questions = (channel.take_question() for channel in self._channels)
        return [question for question in questions if question is not None]

    def judged(self, question: TurnQuestion, probability: float, now: float) -> list[Event]:
        """Take the answer to a question, at any time; one that comes too late is ignored.

        Args:
            probability: that the speaker is done, 0..1.
        """
        return self._channels[question.channel].judged(question, probability, now)

    def take_inquiries(self) -> list[Inquiry]:
        """Questions of annotators, after any method returned events: each once. What became of each is to be reported
        by `annotated` or `annotation_missed`, no later than it is due.
        """
        return [
            inquiry
            for channel in self._channels
            if channel.annotations is not None
            for inquiry in channel.annotations.take_inquiries()
        ]

    def annotated(self, inquiry: Inquiry, answer: object, now: float) -> list[Event]:
        """Take the answer to a question of an annotator."""
        annotations = self._channels[inquiry.channel].annotations
        return [] if annotations is None else annotations.answered(inquiry, answer, now) + self._finish()

    def annotation_missed(self, inquiry: Inquiry, now: float, *, failed: bool) -> list[Event]:
        """A question of an annotator was not answered in time, or its answer failed: finals go on without it."""
        annotations = self._channels[inquiry.channel].annotations
        return [] if annotations is None else annotations.missed(inquiry, now, failed=failed) + self._finish()

    def receiving_decoded(self, frames: NDArray[np.float32], now: float) -> Detection[list[Event]]:
        """As `receiving`, of audio that has been decoded.

        Args:
            frames: 16 kHz, shape ``[n, tracks]``.
        """
        self._check_open()
        self._note_pace(now)
        return (yield from self._pushing(np.ascontiguousarray(frames.T), now))

    def finalize(self, now: float) -> list[Event]:
        """End the open utterances now. `Finalized` follows, for each channel, once their finals have been returned.

        Raises:
            SessionStopped: after `stop`.
        """
        self._check_open()
        events = self._push(self._decoder.flush(), now)
        if self.speaking:
            self._forced.append(self._samples)
        for channel in self._channels:
            events += channel.finalize(EndReason.FINALIZE, now)
        return events + self._flaw_warnings()

    def stop(self, now: float) -> list[Event]:
        """End the stream. Everything pending is still transcribed, then `Done` is returned."""
        if self._stopped:
            return []
        self._stopped = True
        events = self._push(self._decoder.flush(), now)
        for channel in self._channels:
            events += channel.finalize(EndReason.STOP, now)
        return events + self._flaw_warnings() + self._finish()

    def clear(self, now: float) -> list[Event]:
        """Drop the open utterances: they get no final. Utterances that have ended still get theirs.

        Raises:
            SessionStopped: after `stop`.
        """
        self._check_open()
        events = self._push(self._decoder.flush(), now)
        for channel in self._channels:
            channel.clear()
        return events + self._flaw_warnings()

    def configure(self, now: float, **changes: object) -> list[Event]:
        """Change options while audio flows. A new `encoding` or `sample_rate` is that of the audio that follows.

        Raises:
            OptionError: a value is wrong, or the option can only be set before the first audio.
            SessionStopped: after `stop`.
        """
        self._check_open()
        for name in changes:
            if name not in CHANGEABLE:
                raise OptionError(name, f"can't change in mid-stream; these can: {', '.join(sorted(CHANGEABLE))}")
        before, after = self.options, _fitted(self.options.changed(**changes), self.capabilities)
        detector_changes = (before.vad, before.vad_threshold) != (after.vad, after.vad_threshold)
        turns = self._make_turn_detector(after)
        annotators = [self._reannotated(channel, before, after) for channel in self._channels]
        for channel, new in zip(self._channels, annotators, strict=True):
            channel.reconfigure(after, turns, self._make_detector(after) if detector_changes else None)
            if channel.annotations is not None:
                channel.annotations.reconfigure(new)
            elif new:
                channel.annotate(Annotations(channel.index, new, recorded=self._recorded, live=self.live))
        self.options = after
        if (before.encoding, before.sample_rate) == (after.encoding, after.sample_rate):
            return []
        events = self._push(self._decoder.flush(), now) + self._flaw_warnings()
        self._decoder = AudioDecoder(after)
        return events

    def report_repair(self, code: str, message: str) -> list[Event]:
        """Report that something the client sent was repaired before it reached the session, once for each code."""
        if code in self._repaired:
            return []
        self._repaired.add(code)
        return [SessionWarning(code, message, repair=True)]

    def demand(self) -> Demand | None:
        """The most urgent decode wanted, or None."""
        most_urgent: Demand | None = None
        for channel in self._channels:
            demand = channel.demand()
            if demand is not None and (most_urgent is None or demand.urgency() < most_urgent.urgency()):
                most_urgent = demand
        return most_urgent

    def complete(self, job: int, hypothesis: Hypothesis, now: float) -> list[Event]:
        """Take a job's result, in any order; one that no longer matters is ignored."""
        events = [event for channel in self._channels for event in channel.complete(job, hypothesis, now)]
        return events + self._finish()

    def fail(self, job: int, error: DecodeFailed, now: float) -> list[Event]:
        """Take a job's failure."""
        events = [event for channel in self._channels for event in channel.fail(job, error, now)]
        return events + self._finish()

    def take_superseded(self) -> list[int]:
        """Jobs in flight whose results no longer matter; they may be cancelled. Each is returned once."""
        return [job for channel in self._channels for job in channel.take_superseded()]

    def take_released(self) -> list[str]:
        """Names of utterances that have no further job. Each is returned once."""
        return [name for channel in self._channels for name in channel.take_released()]

    def abandon(self) -> None:
        """Drop everything pending, without events: the client is gone."""
        self._stopped = self._done = True
        for channel in self._channels:
            channel.abandon()

    def _annotations(self, channel: int) -> Annotations | None:
        annotators = self._make_annotators(self.options, self.capabilities)
        if not annotators:
            return None
        return Annotations(channel, annotators, recorded=self._recorded, live=self.live)

    def _reannotated(self, channel: Channel, before: SessionOptions, after: SessionOptions) -> list[Annotator]:
        """The annotators of a channel under other options: those that it has, where nothing changes for them."""
        old = {} if channel.annotations is None else {one.name: one for one in channel.annotations.annotators}
        annotators = []
        for new in self._make_annotators(after, self.capabilities):
            kept = old.get(new.name)
            same = kept is not None and all(getattr(before, name) == getattr(after, name) for name in new.options)
            annotators.append(kept if kept is not None and same else new)
        return annotators

    def _note_pace(self, now: float) -> None:
        if self._full_slack_at is None:
            self._full_slack_at = now + LIVE_SLACK_S - FIRST_SLACK_S
        if not self._pace or now - self._pace[-1][0] >= _PACE_STEP_S:
            self._pace.append((now, self._paced))
            self._forget_pace(now)

    def _forget_pace(self, now: float) -> None:
        while len(self._pace) > 1 and self._pace[1][0] <= now - LIVE_WINDOW_S:
            self._pace.popleft()

    def _check_open(self) -> None:
        if self._stopped:
            raise SessionStopped("the stream has been stopped; open a new session to send more audio")

    def _push(self, tracks: NDArray[np.float32], now: float) -> list[Event]:
        return run_inline(self._pushing(tracks, now))

    def _pushing(self, tracks: NDArray[np.float32], now: float) -> Detection[list[Event]]:
        self._samples += tracks.shape[1]
        events: list[Event] = []
        for channel, samples in zip(self._channels, tracks, strict=True):
            events += yield from channel.receiving(samples, now)
        return events

    def _finish(self) -> list[Event]:
        if not self._stopped or self._done or self.pending:
            return []
        self._done = True
        return [Done(self.audio_ms)]

    def _flaw_warnings(self) -> list[Event]:
        """Warnings about flaws in the audio, once for each kind."""
        flaws = self._decoder.flaws
        if not flaws:
            return []
        warnings: list[Event] = []
        for code, count, message in (
            ("audio_not_finite", flaws.not_finite, "NaN or infinite samples were replaced by silence."),
            (
                "audio_clipped",
                flaws.clipped,
                "Samples outside -1..1 were clipped"
                + ("." if self._recorded else "; f32le audio must be scaled to -1..1."),
            ),
            (
                "audio_incomplete",
                flaws.incomplete_bytes,
                "A buffer ended in mid-sample; check encoding and channels. The incomplete sample was dropped.",
            ),
            ("wav_header", flaws.wav_headers, "A WAV header in the audio was skipped; send raw audio without headers."),
        ):
            if count:
                warnings += self.report_repair(code, message)
        return warnings


def _fitted(options: SessionOptions, capabilities: Capabilities) -> SessionOptions:
    """The options within the limits of this recognizer."""
    language = options.language
    if language is not None:
        language = find_known(language, capabilities.languages)
        if language is None:
            known = ", ".join(capabilities.languages)
            raise OptionError("language", f"{capabilities.model} does not know {options.language!r}; it knows {known}")
    longest = min(options.max_utterance_s, capabilities.max_audio_s)
    return options.changed(language=language, max_utterance_s=longest)

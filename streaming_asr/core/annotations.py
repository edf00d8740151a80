"""The annotators of one channel, between its events and the client: finals stay in order, and none waits too long.

    WAITING --its turn--> ASKING --all annotators are done, or time is up--> sent

Only the oldest final can be ASKING, so that an annotator sees the finals of a channel one after the other. A final that
has waited for as long as all annotators together may take goes on without those that have not answered, and the client
is warned. Other events do not wait, except `Finalized`, which says that the finals before it were sent.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from streaming_asr.core.annotator import Annotation, Annotator, Question, Speech, TooLate, Watch
from streaming_asr.core.events import EagerTurnEnd, Event, Final, Finalized, Partial, SessionWarning
from streaming_asr.core.recognizer import SAMPLE_RATE, Audio

logger = logging.getLogger(__name__)

MAX_WAITING = 64
"""Finals of a live channel that wait; with more, the oldest goes on without its annotators. Those of a recording are
bounded by the audio that is kept."""
MAX_FOLLOWED = 16
"""Finals of a channel that annotators follow at once. A further one is not followed."""
RECORDED_BUDGET_MS = 30_000
"""For which a final of a recording may wait for each annotator: nobody waits for it, and no more audio is read."""

FAILED, LATE = "annotation_failed", "annotation_late"
"""Codes of warnings."""


@dataclass(frozen=True, slots=True)
class Inquiry:
    """A question to be answered. Report what became of it by `Session.annotated` or `Session.annotation_missed`."""

    channel: int
    number: int
    """Counts from 1 on each channel."""
    annotator: str
    """Its name, for people."""
    question: Question
    due: float
    """Seconds, by the clock of the session's caller: if there is no answer by then, that is to be reported."""


@dataclass(slots=True)
class _Waiting:
    """A final that is not sent yet."""

    final: Final
    speech: Speech | None
    annotators: Sequence[Annotator]
    """Those of the time at which it was decoded."""
    due: float
    next: int = 0
    """Index of the annotator whose turn it is."""
    annotation: Annotation | None = None
    """Of that annotator, while it asks a question."""
    inquiry: int = 0
    """Number of that question."""
    followed_by: list[Finalized] = field(default_factory=list)


@dataclass(slots=True)
class _Watching:
    """An annotator that looks at a partial."""

    annotator: Annotator
    utterance: int
    watch: Watch


@dataclass(slots=True)
class _Following:
    """An annotator that looks at a final which was sent."""

    annotator: Annotator
    utterance: int
    watch: Watch


class Annotations:
    """The annotators of one channel, and the finals that wait for them.

    Args:
        channel: its index.
        annotators: in the order in which they work.
        recorded: whether the audio is a recording, whose finals may wait for `RECORDED_BUDGET_MS`.
        live: whether, at a given time, audio is received as it is spoken. If not, nobody waits for its finals, either.
    """

    def __init__(
        self,
        channel: int,
        annotators: Sequence[Annotator],
        *,
        recorded: bool,
        live: Callable[[float], bool] = lambda now: True,
    ) -> None:
        self._channel = channel
        self._recorded = recorded
        self._live = live
        self._annotators: tuple[Annotator, ...] = ()
        self.reconfigure(annotators)
        self._waiting: deque[_Waiting] = deque()
        """Oldest first."""
        self._speech: dict[tuple[int, bool], Speech] = {}
        """Of events that come next, by utterance and whether it is the final."""
        self._watching: dict[int, _Watching] = {}
        """By the number of the question that each waits for; at most one an annotator."""
        self._following: dict[int, _Following] = {}
        """By the number of the question that each waits for."""
        self._asked = 0
        """Questions so far."""
        self._inquiries: list[Inquiry] = []
        """Those not taken yet."""
        self._shown = Shown()
        self._settled = 0
        """Number of the latest utterance that has its final."""
        self._failing: set[str] = set()
        """Annotators whose failure was logged."""

    @property
    def annotators(self) -> Sequence[Annotator]:
        return self._annotators

    @property
    def needs_audio(self) -> bool:
        """Whether `keep` is to be called before each final and partial."""
        return any(annotator.needs_audio for annotator in self._annotators)

    @property
    def pending(self) -> bool:
        """Whether a final waits, or is followed."""
        return bool(self._waiting or self._following)

    @property
    def held_samples(self) -> int:
        """Audio of the finals that wait, which is kept if an annotator needs it."""
        return sum(
            len(one.speech.audio) if one.speech else (one.final.end_ms - one.final.start_ms) * SAMPLE_RATE // 1000
            for one in self._waiting
        )

    def keep(
        self, utterance: int, audio: Audio, start: int, voiced: Sequence[tuple[int, int]] = (), *, final: bool
    ) -> None:
        """Keep the audio of an utterance, from sample `start`, for its partial or final, which comes next.

        Args:
            voiced: see `Speech`.
        """
        self._speech[utterance, final] = Speech(audio, start * 1000 // SAMPLE_RATE, voiced)

    def guarded(self, text: str, language: str | None) -> str:
        """A text as it may be used elsewhere: changed by the annotators that guard it, and by no others."""
        return self._text(text, language, [annotator for annotator in self._annotators if annotator.guards])

    def go_on_after(self, utterance: int, stable: str) -> None:
        """The channel had no annotators until now, and the stable text of its utterance was sent."""
        self._shown = Shown(utterance, stable, empty=not stable)

    def passed(self, events: Sequence[Event], now: float) -> list[Event]:
        """Take the channel's events; returns those that can be sent now."""
        sent: list[Event] = []
        for event in events:
            if isinstance(event, Final):
                sent += self._final(event, now)
            elif isinstance(event, Finalized) and self._waiting:
                self._waiting[-1].followed_by.append(event)
            elif isinstance(event, Partial):
                sent += self._partial(event, now)
            elif isinstance(event, EagerTurnEnd):
                sent.append(replace(event, text=self._text(event.text, event.language, self._annotators)))
            else:
                sent.append(event)
        return sent

    def take_inquiries(self) -> list[Inquiry]:
        """Questions to be answered. Each is returned once."""
        inquiries, self._inquiries = self._inquiries, []
        return inquiries

    def answered(self, inquiry: Inquiry, answer: Any, now: float) -> list[Event]:
        """Take the answer to a question; one that comes too late is ignored."""
        if (watching := self._watching.pop(inquiry.number, None)) is not None:
            return self._watch(watching, answer, now)
        if (following := self._following.pop(inquiry.number, None)) is not None:
            return self._follow(following, answer, now)
        waiting = self._asking(inquiry)
        if waiting is None or waiting.annotation is None:
            return []
        return self._go_on(waiting, waiting.annotation, answer, now) + self._advance(now)

    def missed(self, inquiry: Inquiry, now: float, *, failed: bool) -> list[Event]:
        """A question was not answered in time, or its answer failed."""
        if (watching := self._watching.pop(inquiry.number, None)) is not None:
            watching.watch.close()
            return []
        if (following := self._following.pop(inquiry.number, None)) is not None:
            following.watch.close()
            return [self._not_followed(following.annotator, following.utterance, FAILED if failed else LATE)]
        waiting = self._asking(inquiry)
        if waiting is None:
            return []
        return self._leave_out(waiting, FAILED if failed else LATE) + self._advance(now)

    def reconfigure(self, annotators: Sequence[Annotator]) -> None:
        """Use other annotators from the next event on. A final that waits keeps those that it has."""
        self._annotators = tuple(annotators)
        for annotator in annotators:
            annotator.recorded = self._recorded

    def abandon(self) -> None:
        """Drop everything."""
        for waiting in self._waiting:
            if waiting.annotation is not None:
                waiting.annotation.close()
        for watching in self._watching.values():
            watching.watch.close()
        for following in self._following.values():
            following.watch.close()
        self._waiting.clear()
        self._watching.clear()
        self._following.clear()
        self._speech.clear()
        self._inquiries.clear()

    # Finals

    def _final(self, final: Final, now: float) -> list[Event]:
        self._settled = max(self._settled, final.utterance)
        wait_ms = sum(self._budget_ms(annotator, now) for annotator in self._annotators)
        speech = self._speech.pop((final.utterance, True), None)
        self._waiting.append(_Waiting(final, speech, self._annotators, now + wait_ms / 1000))
        sent = self._advance(now)
        while len(self._waiting) > MAX_WAITING and not self._recorded:
            waiting = self._waiting[0]
            waiting.due = now
            sent += self._leave_out(waiting, LATE) + self._advance(now)
        return sent

    def _advance(self, now: float) -> list[Event]:
        """Let annotators work on the oldest final, and send it once they are done, until one of them asks."""
        sent: list[Event] = []
        while self._waiting and self._waiting[0].annotation is None:
            waiting = self._waiting[0]
            if waiting.next == len(waiting.annotators):
                self._waiting.popleft()
                sent += [waiting.final, *waiting.followed_by]
                for annotator in waiting.annotators:
                    if annotator.follow_ms:
                        sent += self._begin_to_follow(annotator, waiting.final, now)
                continue
            annotator = waiting.annotators[waiting.next]
            if annotator.budget_ms and now >= waiting.due:
                sent += self._leave_out(waiting, LATE)
                continue
            try:
                annotated = annotator.final(waiting.final, waiting.speech if annotator.needs_audio else None)
            except Exception:
                self._log(annotator)
                sent += self._leave_out(waiting, FAILED)
                continue
            if isinstance(annotated, Final):
                self._take(waiting, annotated)
            else:
                sent += self._go_on(waiting, annotated, None, now)
        return sent

    def _go_on(self, waiting: _Waiting, annotation: Annotation, answer: Any, now: float) -> list[Event]:
        """Run an annotator up to its next question, or to its end."""
        annotator = waiting.annotators[waiting.next]
        try:
            question = annotation.send(answer)
            if not annotator.budget_ms:
                raise RuntimeError(f"{annotator.name} asks a question, but has no budget for it")
        except StopIteration as end:
            if not isinstance(end.value, Final):
                logger.error("The annotator %s returned no final: %r", annotator.name, type(end.value))
                return self._leave_out(waiting, FAILED)
            self._take(waiting, end.value)
            return []
        except Exception:
            self._log(annotator)
            return self._leave_out(waiting, FAILED)
        waiting.annotation = annotation
        due = min(waiting.due, now + self._budget_ms(annotator, now) / 1000)
        waiting.inquiry = self._ask(annotator, question, due)
        return []

    def _begin_to_follow(self, annotator: Annotator, final: Final, now: float) -> list[Event]:
        if len(self._following) >= MAX_FOLLOWED:
            return [self._not_followed(annotator, final.utterance, LATE)]
        try:
            watch = annotator.follow(final)
        except Exception:
            self._log(annotator)
            return [self._not_followed(annotator, final.utterance, FAILED)]
        return [] if watch is None else self._follow(_Following(annotator, final.utterance, watch), None, now)

    def _follow(self, following: _Following, answer: Any, now: float) -> list[Event]:
        """Run what follows a final up to its next question, or to its end."""
        annotator = following.annotator
        try:
            question = following.watch.send(answer)
        except StopIteration as end:
            return list(end.value or ())
        except Exception:
            self._log(annotator)
            return [self._not_followed(annotator, following.utterance, FAILED)]
        self._following[self._ask(annotator, question, now + annotator.follow_ms / 1000)] = following
        return []

    def _not_followed(self, annotator: Annotator, utterance: int, code: str) -> SessionWarning:
        why = "was late" if code == LATE else "failed"
        return SessionWarning(
            code, f"The {annotator.name} of this utterance {why}, and is not sent.", self._channel, utterance
        )

    def _take(self, waiting: _Waiting, final: Final) -> None:
        waiting.annotation = None
        waiting.final = final
        waiting.next += 1

    def _leave_out(self, waiting: _Waiting, code: str) -> list[Event]:
        """Let a final go on without the annotator whose turn it is."""
        annotator = waiting.annotators[waiting.next]
        if waiting.annotation is not None:
            if code == LATE and (annotated := self._hurried(annotator, waiting.annotation)) is not None:
                self._take(waiting, annotated)
                return []
            waiting.annotation.close()
        final = waiting.final
        why = "were late" if code == LATE else "failed"
        message = f"The {annotator.name} of this utterance {why}; its final was sent without."
        if annotator.guards:
            final = replace(final, text="", language=None, confidence=None, words=None, logprobs=None)
            message = f"The {annotator.name} of this utterance {why}; its text is not sent."
        self._take(waiting, final)
        return [SessionWarning(code, message, self._channel, final.utterance)]

    def _hurried(self, annotator: Annotator, annotation: Annotation) -> Final | None:
        """What an annotator makes of a final without the answer that it waits for; None if it can't do without."""
        try:
            annotation.throw(TooLate())
        except StopIteration as end:
            return end.value if isinstance(end.value, Final) else None
        except TooLate:
            pass
        except Exception:
            self._log(annotator)
        return None

    def _asking(self, inquiry: Inquiry) -> _Waiting | None:
        """The final that waits for the answer to a question."""
        if self._waiting and self._waiting[0].annotation is not None and self._waiting[0].inquiry == inquiry.number:
            return self._waiting[0]
        return None

    def _budget_ms(self, annotator: Annotator, now: float) -> int:
        patient = annotator.budget_ms and (self._recorded or not self._live(now))
        return RECORDED_BUDGET_MS if patient else annotator.budget_ms

    def _ask(self, annotator: Annotator, question: Question, due: float) -> int:
        self._asked += 1
        self._inquiries.append(Inquiry(self._channel, self._asked, annotator.name, question, due))
        return self._asked

    def _log(self, annotator: Annotator) -> None:
        if annotator.name not in self._failing:
            self._failing.add(annotator.name)
            logger.exception("The annotator %s failed", annotator.name)

    # What is sent before the final

    def _partial(self, partial: Partial, now: float) -> list[Event]:
        speech = self._speech.pop((partial.utterance, False), None)
        watched = self._begin_to_watch(partial, speech, now) if speech is not None else []
        return self._changed(partial) + watched

    def _changed(self, partial: Partial) -> list[Event]:
        """The partial as it is sent; empty if it is not."""
        for annotator in self._annotators:
            if not annotator.changes_partials:
                continue
            try:
                partial = annotator.partial(partial)
            except Exception:
                self._log(annotator)
                if annotator.guards:
                    return []
        return [partial] if self._shown.show(partial) else []

    def _text(self, text: str, language: str | None, annotators: Sequence[Annotator]) -> str:
        for annotator in annotators:
            try:
                text = annotator.text(text, language)
            except Exception:
                self._log(annotator)
                if annotator.guards:
                    return ""
        return text

    def _begin_to_watch(self, partial: Partial, speech: Speech, now: float) -> list[Event]:
        busy = {id(watching.annotator) for watching in self._watching.values()}
        sent: list[Event] = []
        for annotator in self._annotators:
            if annotator.needs_audio and id(annotator) not in busy:
                try:
                    watch = annotator.watch(partial, speech)
                except Exception:
                    self._log(annotator)
                    continue
                if watch is not None:
                    sent += self._watch(_Watching(annotator, partial.utterance, watch), None, now)
        return sent

    def _watch(self, watching: _Watching, answer: Any, now: float) -> list[Event]:
        """Run a watch up to its next question, or to its end; once its utterance has its final, it is dropped."""
        annotator = watching.annotator
        if watching.utterance <= self._settled or annotator not in self._annotators:
            watching.watch.close()
            return []
        try:
            question = watching.watch.send(answer)
        except StopIteration as end:
            sent: list[Event] = []
            for event in end.value or ():
                # It was given the partial as it was recognized.
                sent += self._changed(event) if isinstance(event, Partial) else [event]
            return sent
        except Exception:
            self._log(annotator)
            return []
        self._watching[self._ask(annotator, question, now + annotator.budget_ms / 1000)] = watching
        return []


@dataclass(slots=True)
class Shown:
    """What was sent of the utterance that is being spoken: stable text is never taken back."""

    utterance: int = 0
    stable: str = ""
    empty: bool = True

    def show(self, partial: Partial) -> bool:
        """Whether a partial can be sent: not if it takes back stable text, nor if it has no text yet."""
        if partial.utterance != self.utterance:
            self.utterance, self.stable, self.empty = partial.utterance, "", True
        if not partial.stable.startswith(self.stable):
            return False
        if self.empty and not (partial.stable or partial.tentative):
            return False
        self.stable, self.empty = partial.stable, False
        return True

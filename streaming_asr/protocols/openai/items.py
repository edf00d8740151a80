"""Utterances -> items, the units of OpenAI's realtime protocol and its kin.

An item is an utterance that a pause ended, or all the utterances up to a commit of the client. Items are
reported one after the other, though the next may be spoken already, because clients keep one buffer of text. A delta is
never taken back.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from streaming_asr.core.events import (
    Done,
    EagerTurnEnd,
    EndReason,
    Event,
    Final,
    Finalized,
    Partial,
    SessionWarning,
    SpeakerIdentified,
    SpeechEnded,
    SpeechResumed,
    SpeechStarted,
    Translation,
    TurnResumed,
)
from streaming_asr.core.scripts import with_space
from streaming_asr.protocols.base import assert_never
from streaming_asr.protocols.openai.continuation import unsent_part


@dataclass(frozen=True, slots=True)
class Started:
    """Speech began a new item. Only while pauses end items."""

    item: int
    time_ms: int


@dataclass(frozen=True, slots=True)
class Stopped:
    """The item's speech ended. Only while pauses end items."""

    item: int
    time_ms: int


@dataclass(frozen=True, slots=True)
class Committed:
    """No more audio belongs to the item."""

    item: int
    previous: int | None
    """The item committed before."""


@dataclass(frozen=True, slots=True)
class Grown:
    """The item has more, or other, text."""

    item: int
    delta: str
    """Follows all deltas before; empty if only other fields have changed."""
    text: str
    """All that is stable."""
    tentative: str
    """Follows `text`, its own spaces included."""
    language: str | None
    logprobs: tuple[tuple[str, float], ...] | None = None
    """Text and log-probability of each token of `delta`, where they are known."""


@dataclass(frozen=True, slots=True)
class Settled:
    """The item is transcribed; nothing more is sent about it."""

    item: int
    text: str
    """The text of its deltas, unless the final decode differs."""
    language: str | None
    """Of the last speech."""
    seconds: float
    """Of speech."""
    logprobs: tuple[tuple[str, float], ...] | None
    failed: bool
    """There is no text because the recognizer failed."""
    languages: tuple[str, ...] = ()
    """All that were spoken, that of most of the speech first."""


ItemEvent = Started | Stopped | Committed | Grown | Settled


@dataclass(slots=True)
class _Item:
    number: int
    pending: deque[int] = field(default_factory=deque)
    """Its utterances without a final, oldest first."""
    partials: dict[int, Partial] = field(default_factory=dict)
    """The latest of each of them."""
    committed: bool = False
    sent: str = ""
    """All deltas."""
    sent_of_first: str = ""
    """The part of the deltas that belongs to the first pending utterance."""
    text: str = ""
    """The finals so far."""
    language: str | None = None
    spoken_ms: dict[str, int] = field(default_factory=dict)
    """Of each language."""
    seconds: float = 0.0
    logprobs: list[tuple[str, float]] | None = field(default_factory=list)
    failed: bool = False

    @property
    def settled(self) -> bool:
        return self.committed and not self.pending

    def grow(self, partial: Partial) -> Grown:
        """A partial of the first pending utterance."""
        stable = partial.stable.strip()
        logprobs = _after(partial.logprobs, self.sent_of_first)
        delta = self._take_unsent(stable)
        self.sent_of_first = stable
        tentative = partial.tentative.rstrip() if stable else with_space(self.text, partial.tentative.strip())
        text = self.text + with_space(self.text, stable)
        return Grown(self.number, delta, text, tentative, partial.language or self.language, logprobs)

    def finish_first(self, final: Final) -> Grown:
        """The final of the first pending utterance."""
        logprobs = _after(final.logprobs, self.sent_of_first)
        delta = self._take_unsent(self.sent_of_first + unsent_part(final.text, self.sent_of_first))
        self.sent_of_first = ""
        self.partials.pop(self.pending.popleft(), None)
        self.text += with_space(self.text, final.text)
        self.language = final.language or self.language
        self.seconds += (final.end_ms - final.start_ms) / 1000
        if final.language is not None:
            spoken_ms = self.spoken_ms.get(final.language, 0)
            self.spoken_ms[final.language] = spoken_ms + final.end_ms - final.start_ms
        if final.logprobs is None and final.text:
            self.logprobs = None
        elif self.logprobs is not None:
            self.logprobs += final.logprobs or ()
        return Grown(self.number, delta, self.text, "", self.language, logprobs)

    def settle(self) -> Settled:
        logprobs = tuple(self.logprobs) if self.logprobs is not None else None
        failed = self.failed and not self.text
        languages = tuple(sorted(self.spoken_ms, key=lambda language: -self.spoken_ms[language]))
        return Settled(self.number, self.text, self.language, self.seconds, logprobs, failed, languages)

    def _take_unsent(self, text: str) -> str:
        """The part of the first pending utterance's text that has not been sent; from now on it counts as sent."""
        new = text[len(self.sent_of_first) :]
        if not self.sent_of_first:
            new = with_space(self.sent, new)
        self.sent += new
        return new


def _after(logprobs: tuple[tuple[str, float], ...] | None, sent: str) -> tuple[tuple[str, float], ...] | None:
    """The tokens that follow the text sent; None if they are not known, or make another text."""
    if logprobs is None:
        return None
    before = ""
    for n, (text, _) in enumerate(logprobs):
        if before == sent and text:
            return logprobs[n:]
        before += text
    return () if before.rstrip() == sent else None


class Items:
    """The items of one session with one channel.

    Args:
        by_pauses: whether a pause ends an item; else only commits do.
    """

    def __init__(self, *, by_pauses: bool) -> None:
        self._by_pauses = by_pauses
        self._unsettled: deque[_Item] = deque()
        """Those not settled yet, oldest first; only the last may be open."""
        self._owner: dict[int, _Item] = {}
        """Of each utterance without a final."""
        self._count = 0
        self._previous: int | None = None
        self._commits = 0
        self._committing: int | None = None
        self._clearing = False
        self._continued = False
        """Whether the last item that ended goes on in the next."""

    def end_by_pauses(self, by_pauses: bool) -> None:
        """Change whether a pause ends an item."""
        self._by_pauses = by_pauses

    def on_events(self, events: Sequence[Event]) -> list[ItemEvent]:
        """Convert the session's events."""
        item_events: list[ItemEvent] = []
        for event in events:
            match event:
                case SpeechStarted():
                    self._started(event, item_events)
                case SpeechEnded():
                    self._ended(event, item_events)
                case Partial():
                    self._partial(event, item_events)
                case Final():
                    self._final(event, item_events)
                case SessionWarning():
                    if event.code == "decode_failed" and event.utterance in self._owner:
                        self._owner[event.utterance].failed = True
                case SpeechResumed() | EagerTurnEnd() | TurnResumed() | SpeakerIdentified() | Translation():
                    pass  # OpenAI has no messages for these.
                case Finalized() | Done():
                    pass
                case _:
                    assert_never(event)
        if self._committing is not None:
            if self._committing == self._commits:
                self._commit(self._open or self._new(), item_events)
            self._committing = None
        if self._clearing:
            self._clearing = False
            self._drop_open()
        return item_events

    def commit(self) -> None:
        """The client commits: the events that follow at once are the last of the open item; if there is none, an
        empty one is made."""
        self._committing = self._commits

    def clear(self) -> None:
        """The client clears: after the events that follow at once the open item is dropped, its text unsent."""
        self._clearing = True

    def _drop_open(self) -> None:
        if (item := self._open) is not None:
            self._unsettled.pop()
            for utterance in item.pending:
                del self._owner[utterance]

    def close(self) -> list[ItemEvent]:
        """The session is over: commit the open item, if there is one."""
        item_events: list[ItemEvent] = []
        if (item := self._open) is not None:
            self._commit(item, item_events)
        return item_events

    @property
    def _open(self) -> _Item | None:
        return self._unsettled[-1] if self._unsettled and not self._unsettled[-1].committed else None

    def _new(self) -> _Item:
        self._count += 1
        item = _Item(self._count)
        self._unsettled.append(item)
        return item

    def _started(self, event: SpeechStarted, item_events: list[ItemEvent]) -> None:
        item = self._open
        if item is None:
            item = self._new()
            if self._by_pauses and not self._continued:
                item_events.append(Started(item.number, event.start_ms))
        self._continued = False
        item.pending.append(event.utterance)
        self._owner[event.utterance] = item

    def _ended(self, event: SpeechEnded, item_events: list[ItemEvent]) -> None:
        item = self._owner.get(event.utterance)
        if item is None or not (self._by_pauses or event.reason is EndReason.STOP):
            return
        self._continued = event.reason is EndReason.LENGTH
        if self._by_pauses and not self._continued:
            item_events.append(Stopped(item.number, event.end_ms))
        self._commit(item, item_events)

    def _partial(self, event: Partial, item_events: list[ItemEvent]) -> None:
        if item := self._owner.get(event.utterance):
            item.partials[event.utterance] = event
            if item is self._unsettled[0] and event.utterance == item.pending[0]:
                item_events.append(item.grow(event))

    def _final(self, event: Final, item_events: list[ItemEvent]) -> None:
        item = self._owner.pop(event.utterance, None)
        if item is not None:
            # Finals come in the order of their utterances, so this is the first pending one of the first item.
            item_events.append(item.finish_first(event))
            self._settle_next(item_events)

    def _commit(self, item: _Item, item_events: list[ItemEvent]) -> None:
        item.committed = True
        item_events.append(Committed(item.number, self._previous))
        self._previous = item.number
        self._commits += 1
        self._settle_next(item_events)

    def _settle_next(self, item_events: list[ItemEvent]) -> None:
        """Add the events that no longer wait for an earlier item or utterance."""
        while self._unsettled and self._unsettled[0].settled:
            item_events.append(self._unsettled.popleft().settle())
        if self._unsettled and (pending := self._unsettled[0].pending):
            item = self._unsettled[0]
            partial = item.partials.get(pending[0])
            if partial is not None and not item.sent_of_first:
                item_events.append(item.grow(partial))

"""Utterances -> items, in whose terms OpenAI's realtime protocol and its kin speak.

An item is an utterance that a pause ended, or all the utterances up to a commit of the client. Items are told one
after the other, though the next may be spoken already: clients keep one buffer of text. And what was told of an item
as a delta is never taken back.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from streaming_asr.core.events import (
    Done,
    EndReason,
    Event,
    Final,
    Finalized,
    Partial,
    SessionWarning,
    SpeechEnded,
    SpeechResumed,
    SpeechStarted,
)
from streaming_asr.core.scripts import with_space
from streaming_asr.protocols.base import assert_never
from streaming_asr.protocols.openai.continuation import rest_of


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
    """There is more, or other, text of the item."""

    item: int
    delta: str
    """Follows all deltas before; empty if only other fields have changed."""
    text: str
    """All that is stable."""
    tentative: str
    """Follows `text`, its own spaces included."""
    language: str | None


@dataclass(frozen=True, slots=True)
class Settled:
    """The item is transcribed; nothing more is told of it."""

    item: int
    text: str
    """What its deltas said, unless the final decode found better."""
    language: str | None
    seconds: float
    """Of speech."""
    logprobs: tuple[tuple[str, float], ...] | None
    failed: bool
    """There is no text because the recognizer failed."""


ItemEvent = Started | Stopped | Committed | Grown | Settled


@dataclass(slots=True)
class _Item:
    number: int
    pending: deque[int] = field(default_factory=deque)
    """Its utterances without a final, oldest first."""
    partials: dict[int, Partial] = field(default_factory=dict)
    """The latest of each of them."""
    committed: bool = False
    told: str = ""
    """All deltas."""
    told_of_first: str = ""
    """What the deltas said of the first pending utterance."""
    text: str = ""
    """The finals so far."""
    language: str | None = None
    seconds: float = 0.0
    logprobs: list[tuple[str, float]] | None = field(default_factory=list)
    failed: bool = False

    @property
    def settled(self) -> bool:
        return self.committed and not self.pending

    def grow(self, partial: Partial) -> Grown:
        """A partial of the first pending utterance."""
        stable = partial.stable.strip()
        delta = self._tell(stable)
        self.told_of_first = stable
        tentative = partial.tentative.rstrip() if stable else with_space(self.text, partial.tentative.strip())
        text = self.text + with_space(self.text, stable)
        return Grown(self.number, delta, text, tentative, partial.language or self.language)

    def finish_first(self, final: Final) -> Grown:
        """The final of the first pending utterance."""
        delta = self._tell(self.told_of_first + rest_of(final.text, self.told_of_first))
        self.told_of_first = ""
        self.partials.pop(self.pending.popleft(), None)
        self.text += with_space(self.text, final.text)
        self.language = final.language or self.language
        self.seconds += (final.end_ms - final.start_ms) / 1000
        if final.logprobs is None and final.text:
            self.logprobs = None
        elif self.logprobs is not None:
            self.logprobs += final.logprobs or ()
        return Grown(self.number, delta, self.text, "", self.language)

    def settle(self) -> Settled:
        logprobs = tuple(self.logprobs) if self.logprobs is not None else None
        failed = self.failed and not self.text
        return Settled(self.number, self.text, self.language, self.seconds, logprobs, failed)

    def _tell(self, text: str) -> str:
        """What of the first pending utterance's text has not been told."""
        new = text[len(self.told_of_first) :]
        if not self.told_of_first:
            new = with_space(self.told, new)
        self.told += new
        return new


class Items:
    """The items of one session with one channel.

    Args:
        by_pauses: whether a pause ends an item; else only commits do.
    """

    def __init__(self, *, by_pauses: bool) -> None:
        self._by_pauses = by_pauses
        self._untold: deque[_Item] = deque()
        """Those not settled yet, oldest first; only the last may be open."""
        self._owner: dict[int, _Item] = {}
        """Of each utterance without a final."""
        self._count = 0
        self._previous: int | None = None
        self._commits = 0
        self._committing: int | None = None
        self._clearing = False
        self._cut: Stopped | None = None

    def end_by_pauses(self, by_pauses: bool) -> None:
        """Change whether a pause ends an item."""
        self._by_pauses = by_pauses

    def on_events(self, events: Sequence[Event]) -> list[ItemEvent]:
        """What the session's events mean."""
        told: list[ItemEvent] = []
        for event in events:
            match event:
                case SpeechStarted():
                    self._started(event, told)
                case SpeechEnded():
                    self._ended(event, told)
                case Partial():
                    self._partial(event, told)
                case Final():
                    self._final(event, told)
                case SessionWarning():
                    if event.code == "decode_failed" and event.utterance in self._owner:
                        self._owner[event.utterance].failed = True
                case SpeechResumed() | Finalized() | Done():
                    pass  # Items neither change nor end by these.
                case _:
                    assert_never(event)
        if self._cut is not None:
            # It was cut for its length, but nothing voiced followed.
            told.append(self._cut)
            self._cut = None
        if self._committing is not None:
            if self._committing == self._commits:
                self._commit(self._open or self._new(), told)
            self._committing = None
        if self._clearing:
            self._clearing = False
            self._drop_open()
        return told

    def commit(self) -> None:
        """The client commits: the events that follow at once are the last of the open item; if there is none, an
        empty one is made."""
        self._committing = self._commits

    def clear(self) -> None:
        """The client clears: after the events that follow at once the open item is dropped, its text untold."""
        self._clearing = True

    def _drop_open(self) -> None:
        if (item := self._open) is not None:
            self._untold.pop()
            for utterance in item.pending:
                del self._owner[utterance]

    def close(self) -> list[ItemEvent]:
        """The session is over: commit the open item, if there is one."""
        told: list[ItemEvent] = []
        if (item := self._open) is not None:
            self._commit(item, told)
        return told

    @property
    def _open(self) -> _Item | None:
        return self._untold[-1] if self._untold and not self._untold[-1].committed else None

    def _new(self) -> _Item:
        self._count += 1
        item = _Item(self._count)
        self._untold.append(item)
        return item

    def _started(self, event: SpeechStarted, told: list[ItemEvent]) -> None:
        item = self._open
        if item is None:
            item = self._new()
            if self._by_pauses and self._cut is None:
                told.append(Started(item.number, event.start_ms))
        self._cut = None
        item.pending.append(event.utterance)
        self._owner[event.utterance] = item

    def _ended(self, event: SpeechEnded, told: list[ItemEvent]) -> None:
        item = self._owner.get(event.utterance)
        if item is None or not (self._by_pauses or event.reason is EndReason.STOP):
            return
        stopped = Stopped(item.number, event.end_ms)
        if event.reason is EndReason.LENGTH:
            self._cut = stopped
        elif self._by_pauses:
            told.append(stopped)
        self._commit(item, told)

    def _partial(self, event: Partial, told: list[ItemEvent]) -> None:
        if item := self._owner.get(event.utterance):
            item.partials[event.utterance] = event
            if item is self._untold[0] and event.utterance == item.pending[0]:
                told.append(item.grow(event))

    def _final(self, event: Final, told: list[ItemEvent]) -> None:
        item = self._owner.pop(event.utterance, None)
        if item is not None:
            # Finals come in the order of their utterances, so this is the first pending one of the first item.
            told.append(item.finish_first(event))
            self._tell_settled(told)

    def _commit(self, item: _Item, told: list[ItemEvent]) -> None:
        item.committed = True
        told.append(Committed(item.number, self._previous))
        self._previous = item.number
        self._commits += 1
        self._tell_settled(told)

    def _tell_settled(self, told: list[ItemEvent]) -> None:
        """Tell what no longer waits for an earlier item or utterance."""
        while self._untold and self._untold[0].settled:
            told.append(self._untold.popleft().settle())
        if self._untold and (pending := self._untold[0].pending):
            item = self._untold[0]
            partial = item.partials.get(pending[0])
            if partial is not None and not item.told_of_first:
                told.append(item.grow(partial))

"""Order the events of a channel so that its utterances never interleave."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence

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
from streaming_asr.protocols.base import assert_never

_OfUtterance = SpeechStarted | Partial | SpeechResumed | EagerTurnEnd | TurnResumed | SpeechEnded | Final


class UtteranceOrder:
    """Delays the events of an utterance until the one before it, on the same channel, has its final.

    Of delayed partials only the latest is kept, so the number of delayed events is bounded by that of the utterances
    that wait for finals.
    """

    def __init__(self) -> None:
        self._current: dict[int, int] = {}
        """The current utterance, by channel."""
        self._held: dict[int, deque[_OfUtterance]] = {}
        self._continued: set[int] = set()

    def speaking(self, channel: int) -> bool:
        """Whether an utterance of the channel has begun that has no final yet."""
        return channel in self._current

    def continues(self, utterance: int) -> bool:
        """Whether the turn goes on in the next utterance. Call it once, at the final of this one."""
        if utterance not in self._continued:
            return False
        self._continued.remove(utterance)
        return True

    def in_order(self, events: Sequence[Event]) -> Iterator[Event]:
        """The session's events in this order."""
        for event in events:
            if isinstance(event, SpeechEnded) and event.reason is EndReason.LENGTH:
                self._continued.add(event.utterance)
            match event:
                case (
                    SpeechStarted()
                    | Partial()
                    | SpeechResumed()
                    | EagerTurnEnd()
                    | TurnResumed()
                    | SpeechEnded()
                    | Final()
                ):
                    yield from self._of_utterance(event)
                case SpeakerIdentified() | Translation() | Finalized() | SessionWarning() | Done():
                    yield event
                case _:
                    assert_never(event)

    def _of_utterance(self, event: _OfUtterance) -> Iterator[Event]:
        channel = event.channel
        if self._current.setdefault(channel, event.utterance) != event.utterance:
            self._hold(event)
            return
        yield event
        if isinstance(event, Final):
            del self._current[channel]
            # The next utterance's, and then, if its final is among them, those of the one after it.
            held = self._held.pop(channel, deque())
            while held:
                yield from self._of_utterance(held.popleft())

    def _hold(self, event: _OfUtterance) -> None:
        held = self._held.setdefault(event.channel, deque())
        if isinstance(event, Partial):
            earlier = [past for past in held if isinstance(past, Partial) and past.utterance == event.utterance]
            for past in earlier:
                held.remove(past)
        held.append(event)

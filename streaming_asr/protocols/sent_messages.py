"""What was sent in a session that can be resumed, kept for a client that missed the end of it."""

from __future__ import annotations

from collections import OrderedDict

from streaming_asr.protocols.base import Close, Send

MAX_BYTES = 128 * 1024
"""Of the messages of one session: far more than a live one sends in a minute."""
OVERHEAD_BYTES = 150
"""Of a kept message, beside its text."""


class SentMessages:
    """Numbered messages, the oldest of which are dropped beyond a bound.

    Args:
        limit_bytes: of the messages kept.
    """

    def __init__(self, limit_bytes: int = MAX_BYTES) -> None:
        self._limit_bytes = limit_bytes
        self._kept: OrderedDict[int, Send] = OrderedDict()
        """By number, oldest first."""
        self._partials: dict[int, int] = {}
        """Utterance -> number of its latest partial."""
        self._last = 0
        self._dropped = 0
        """Number of the last message that was dropped for the bound."""
        self._bytes = 0
        self._close: Close | None = None

    @property
    def size(self) -> int:
        """Bytes kept."""
        return self._bytes

    def take_number(self) -> int:
        """The number of the next message, from 1."""
        self._last += 1
        return self._last

    def add(self, number: int, message: Send) -> None:
        """Keep a message. A partial takes the place of the one before it."""
        if message.replaces is not None:
            self.forget_partial(message.replaces)
            self._partials[message.replaces] = number
        self._kept[number] = message
        self._bytes += _size(message)
        while self._bytes > self._limit_bytes:
            self._dropped, oldest = self._kept.popitem(last=False)
            self._bytes -= _size(oldest)

    def forget_partial(self, utterance: int) -> None:
        """The utterance has its final, or another partial: nobody needs this one."""
        number = self._partials.pop(utterance, None)
        if number is not None and (partial := self._kept.pop(number, None)) is not None:
            self._bytes -= _size(partial)

    def add_close(self, close: Close) -> None:
        """Keep the end of the session."""
        self._close = self._close or close

    def since(self, seen: int) -> list[Send | Close] | None:
        """The messages after the one of this number, as far as they are still of use; None if any was dropped."""
        if not self._dropped <= seen <= self._last:
            return None
        missed: list[Send | Close] = [message for number, message in self._kept.items() if number > seen]
        return missed if self._close is None else [*missed, self._close]


def _size(message: Send) -> int:
    return len(message.message) + OVERHEAD_BYTES

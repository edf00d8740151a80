"""What a client of a protocol sends and receives in one session; no socket here.

A new protocol is one file with a `Talk` and one entry in `benchmarks/common/protocols/registry.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

import msgspec

from benchmarks.common.adapters import Reading, SessionFailed
from streaming_asr.core.scripts import joined

Message = str | bytes
T = TypeVar("T")


class Talk:
    """One session. A protocol says what differs."""

    can_finalize = True
    """Whether the session goes on after `finalize`; else the stream is ended instead."""
    quiet_s: float | None = None
    """For servers that never say that they are done: they count as done when their text has not changed for this long
    after the last audio. Only then `finish` is sent."""

    def __init__(self) -> None:
        self.opened = False
        """Whether audio may be sent."""
        self.ended = False
        """Whether the server has nothing more to say."""

    def hello(self) -> Sequence[Message]:
        """What is sent as soon as the connection stands."""
        return ()

    def audio(self, pcm: bytes) -> Message:
        """A chunk of speech as the protocol wants it."""
        return pcm

    def finalize(self) -> Sequence[Message]:
        """Ask for the finals of what was sent."""
        return self.finish()

    def finish(self) -> Sequence[Message]:
        """Say that no more audio follows."""
        raise NotImplementedError

    def receive(self, message: Message) -> Reading | None:
        """The whole transcript after a message of the server, None where the message has no text.

        Raises:
            SessionRefused: the server does not take the session.
            SessionFailed: it sent an error.
        """
        raise NotImplementedError

    def closed(self, code: int, reason: str) -> None:
        """The server closed the connection.

        Raises:
            SessionFailed: it should not have.
        """
        if not self.ended:
            raise broken(code, reason)


def broken(code: int, reason: str = "") -> SessionFailed:
    suffix = f": {reason}" if reason else ""
    return SessionFailed(f"the connection broke (close code {code}{suffix})")


def whole(finals: Iterable[str], partials: Iterable[str] = ()) -> Reading:
    """A reading of texts that follow one another, spaced as their script wants it: `final + partial` is the text."""
    final = joined(stripped for text in finals if (stripped := text.strip()))
    text = joined(stripped for part in (final, *partials) if (stripped := part.strip()))
    return Reading(final, text[len(final) :])


def decoded(decoder: msgspec.json.Decoder[T], message: Message) -> T:
    """A message as the protocol's own type.

    Raises:
        SessionFailed: it is not what the protocol says.
    """
    try:
        return decoder.decode(message)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise SessionFailed(f"a message of the server can't be read ({error}): {message[:200]!r}") from None

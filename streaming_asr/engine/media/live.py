"""The parent's side of a file that is decoded while it arrives: bytes and marks to a child, audio and marks back."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streaming_asr.core.events import SessionWarning
from streaming_asr.engine.media import messages, pipes
from streaming_asr.engine.media.decoders import Child, DecoderLost, Decoders, MediaRefused, MediaTooLong, cannot_start
from streaming_asr.engine.media.live_child import most_cpu_s

UNSENT_BYTES = 256 * 1024
"""Bytes that wait for the child; with more, no more are wanted."""
WAITS_S = 30.0
"""A child is ended if it owes audio or an answer for this long."""
_PIECE = 64 * 1024

Frames = NDArray[np.float32]
"""Audio, 16 kHz, shape ``[n, channels]``."""


@dataclass(frozen=True, slots=True)
class Marked:
    """All audio before a mark has been returned."""


class LiveFile(asyncio.Protocol):
    """A file that is decoded while it arrives. What is written before its child has started waits.

    Args:
        on_full: is called when no more bytes are wanted (True), and when they are again.
    """

    def __init__(self, channels: int, on_full: Callable[[bool], None]) -> None:
        self._channels = channels
        self._on_full = on_full
        self._unsent = bytearray()
        """Before there is a transport."""
        self._transport: asyncio.WriteTransport | None = None
        self._full = False
        self._owed = 0
        """Answers to marks, and the end, that have not been received."""
        self._waiting = False
        """Whether `read` waits for the child."""
        self._child: Child | None = None
        self._watch: asyncio.TimerHandle | None = None
        self._timed_out = False

    @property
    def pid(self) -> int | None:
        """Of the child, once it has started."""
        return self._child.pid if self._child is not None else None

    def write(self, data: bytes | memoryview) -> None:
        """Give the child the next bytes."""
        for start in range(0, len(data), _PIECE):
            self._send(messages.packed(messages.DATA, bytes(data[start : start + _PIECE])))

    def mark(self) -> None:
        """Have `read` yield `Marked` where the bytes so far end."""
        self._owed += 1
        self._send(messages.packed(messages.MARK))

    def end(self) -> None:
        """No more bytes come: `read` ends after their audio."""
        self._owed += 1
        self._send(messages.packed(messages.END))

    async def read(self) -> AsyncGenerator[Frames | SessionWarning | Marked, None]:
        """Yield the audio, marks, and warnings about what was repaired, until the end.

        Raises:
            MediaRefused: it can't be decoded, or its decoder was lost (`DecoderLost`).
        """
        assert self._child is not None
        while True:
            kind, body = await self._message(self._child)
            if kind == messages.AUDIO:
                yield np.frombuffer(body, np.float32).reshape(-1, self._channels)
            elif kind == messages.WARNING:
                yield SessionWarning(**json.loads(body), repair=True)
            elif kind == messages.MARK:
                self._owed -= 1
                yield Marked()
            elif kind == messages.ERROR:
                error = json.loads(body)
                raise (MediaTooLong if error["code"] == messages.TOO_LONG else MediaRefused)(error["message"])
            else:
                return

    async def _message(self, child: Child) -> tuple[bytes, bytes]:
        self._waiting = True
        self._watch_child()
        try:
            return await child.read()
        except asyncio.IncompleteReadError:
            raise DecoderLost(await child.why_ended(self._timed_out)) from None
        finally:
            self._waiting = False
            self._stop_watch()

    # Of `asyncio.Protocol`: the pipe to the child.

    def pause_writing(self) -> None:
        self._set_full(True)

    def resume_writing(self) -> None:
        self._set_full(False)

    async def start(self, child: Child, writing: int) -> None:
        """Send the child, which has the other end of a pipe, what waits."""
        self._child = child
        file = pipes.for_event_loop(writing, "wb")
        transport, _ = await asyncio.get_running_loop().connect_write_pipe(lambda: self, file)
        transport.set_write_buffer_limits(UNSENT_BYTES)
        self._transport = transport
        self._set_full(False)
        transport.write(bytes(self._unsent))
        self._unsent.clear()

    async def close(self) -> None:
        """End the child."""
        self._stop_watch()
        if self._transport is not None and not self._transport.is_closing():
            self._transport.abort()
        if self._child is not None:
            await self._child.end()

    def _send(self, data: bytes) -> None:
        if self._transport is None:
            self._unsent += data
            if len(self._unsent) > UNSENT_BYTES:
                self._set_full(True)
        elif not self._transport.is_closing():
            self._transport.write(data)
        self._watch_child()

    def _set_full(self, full: bool) -> None:
        if full is not self._full:
            self._full = full
            self._on_full(full)
        self._watch_child()

    def _watch_child(self) -> None:
        """Limit the time until the child's next message, while it owes one."""
        if self._watch is None and self._waiting and (self._owed or self._full):
            self._watch = asyncio.get_running_loop().call_later(WAITS_S, self._end_late)

    def _stop_watch(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None

    def _end_late(self) -> None:
        self._timed_out = True
        assert self._child is not None
        self._child.kill()


@asynccontextmanager
async def started(decoders: Decoders, file: LiveFile, channels: int, max_s: float) -> AsyncIterator[LiveFile]:
    """Start a file's child. It is ended with the context.

    Args:
        channels: of the audio that is returned.
        max_s: length of the longest file that is decoded, seconds.

    Raises:
        MediaRefused: no child can be started.
    """
    job: dict[str, Any] = {"channels": channels, "cpu_s": most_cpu_s(max_s)}
    reading, writing = os.pipe()
    try:
        child = await decoders.started(reading, json.dumps(job))
    except OSError as error:
        os.close(writing)
        raise cannot_start(error) from None
    except BaseException:
        os.close(writing)
        raise
    finally:
        os.close(reading)
    try:
        await file.start(child, writing)
        yield file
    finally:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.shield(decoders.closing(file.close()))

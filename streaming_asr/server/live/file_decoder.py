"""The decoder of the file that one session sends: does what its conversation asks for, and reports what it returns."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Protocol

from streaming_asr.core.events import SessionWarning
from streaming_asr.engine.media.decoders import DecoderLost, MediaRefused
from streaming_asr.engine.media.live import Frames, LiveFile, Marked, started
from streaming_asr.protocols.failures import BROKEN, Failure, FailureKind
from streaming_asr.server.live.actions import (
    DecoderAction,
    EndDecoder,
    FeedDecoder,
    MarkDecoder,
    StartDecoder,
    StopDecoder,
)
from streaming_asr.server.live.file_sessions import FileSessions, TooManyFiles

logger = logging.getLogger(__name__)


class Listener(Protocol):
    """Takes what a decoder reports; see the methods of `Conversation` of the same names."""

    @property
    def key(self) -> str: ...

    @property
    def takes_decoded(self) -> bool: ...

    def audio_decoded(self, frames: Frames, now: float) -> None: ...

    def decoder_warned(self, warning: SessionWarning, now: float) -> None: ...

    def decoder_full(self, full: bool, now: float) -> None: ...

    def decoder_marked(self, now: float) -> None: ...

    def decoder_ended(self, now: float) -> None: ...

    def decoder_failed(self, failure: Failure, now: float) -> None: ...


class FileDecoder:
    """At most one decoder at a time, in a child process that ends with it.

    Args:
        listener: the conversation.
        acted: is called after each call of the listener.
        now: the listener's clock.
        address: of the client.
    """

    def __init__(
        self,
        files: FileSessions,
        listener: Listener,
        acted: Callable[[], None],
        now: Callable[[], float],
        address: str = "",
    ) -> None:
        self._files = files
        self._listener = listener
        self._acted = acted
        self._now = now
        self._address = address
        self._file: LiveFile | None = None
        self._task: asyncio.Task[None] | None = None
        self._wanted = asyncio.Event()
        """Set while the listener takes audio."""

    def carry_out(self, action: DecoderAction) -> None:
        """Do what the conversation asks for."""
        if isinstance(action, StartDecoder):
            self.stop()
            self._file = file = LiveFile(action.channels, self._full)
            self._task = asyncio.create_task(self._decode(file, action.channels), name="decode a file")
        elif isinstance(action, StopDecoder):
            self.stop()
        elif self._file is None:
            return
        elif isinstance(action, FeedDecoder):
            self._file.write(action.data)
        elif isinstance(action, MarkDecoder):
            self._file.mark()
        else:
            assert isinstance(action, EndDecoder)
            self._file.end()

    def resume(self) -> None:
        """Call after each input of the conversation: it may take audio again."""
        if self._listener.takes_decoded:
            self._wanted.set()

    def stop(self) -> None:
        """Nothing more is wanted: the child is killed."""
        if self._task is not None:
            self._task.cancel()
        self._task = self._file = None

    async def _decode(self, file: LiveFile, channels: int) -> None:
        session = self._listener.key
        try:
            with self._files.place(self._address) as place:
                async with started(place.decoders, file, channels, self._files.max_s) as child:
                    if not place.low:
                        place.decoders.prepare_soon()
                    assert child.pid is not None
                    with self._files.watched(place, child.pid):
                        await self._pass_on(file)
        except TooManyFiles as error:
            self._failed(file, Failure(FailureKind.BUSY, f"The server is busy: {error}."))
        except MediaRefused as error:
            if isinstance(error, DecoderLost):
                self._files.decoder_lost()
            logger.warning("Session %s: the file that it sends can't be decoded: %s", session, error)
            self._failed(file, Failure(FailureKind.BAD_AUDIO, f"The audio can't be decoded: {error}."))
        except Exception:
            logger.exception("Session %s: its decoder failed", session)
            self._failed(file, BROKEN)

    async def _pass_on(self, file: LiveFile) -> None:
        """Report what is decoded, to the end."""
        async with contextlib.aclosing(file.read()) as decoded:
            async for item in decoded:
                if file is not self._file:
                    return
                now = self._now()
                if isinstance(item, Marked):
                    self._listener.decoder_marked(now)
                elif isinstance(item, SessionWarning):
                    self._listener.decoder_warned(item, now)
                else:
                    self._listener.audio_decoded(item, now)
                self._acted()
                while not self._listener.takes_decoded:
                    self._wanted.clear()
                    await self._wanted.wait()
        if file is self._file:
            self._file = None
            self._listener.decoder_ended(self._now())
            self._acted()

    def _failed(self, file: LiveFile, failure: Failure) -> None:
        if file is self._file:
            self._file = None
            self._listener.decoder_failed(failure, self._now())
            self._acted()

    def _full(self, full: bool) -> None:
        # Not at once: the conversation may be what writes.
        asyncio.get_running_loop().call_soon(self._report_full, self._file, full)

    def _report_full(self, file: LiveFile | None, full: bool) -> None:
        if file is not None and file is self._file:
            self._listener.decoder_full(full, self._now())
            self._acted()

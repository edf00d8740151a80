"""The parent's side: starts children, hands each a recording, and reads what it decodes, on an event loop."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np

from streaming_asr.core.events import SessionWarning
from streaming_asr.core.recognizer import Audio
from streaming_asr.engine.media import messages

CPU_S, CPU_S_PER_MB = 60, 10
"""Processor time that a child may use, seconds: for any recording, and for each megabyte of it."""
EXPANDED_S, MIN_BITS_PER_S = 600, 200
"""A recording may last this long however small it is; beyond, it must have this many bits for each second. Speech
has 4,000 and more, but silence compresses to nothing, and a day of it would fit into 200 kB."""
SPARE_S = 300.0
"""An unused spare child is ended after this time."""
_ROOT = Path(__file__).parents[3]
_ENVIRONMENT = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SYSTEMROOT", "TMPDIR")
"""Variables that a child inherits."""
_CAN_HAND_OVER = hasattr(socket, "send_fds")
"""Whether a recording can be handed to a child that runs already. Windows can't."""


class MediaRefused(Exception):
    """The recording can't be decoded. The message is for the user."""


class MediaTooLong(MediaRefused):
    """The recording has more audio than is allowed."""


class Recording:
    """A recording being decoded by a child."""

    def __init__(self, process: asyncio.subprocess.Process, waits_s: float) -> None:
        assert process.stdout is not None
        self._process = process
        self._reader = process.stdout
        self._left_s = waits_s
        self._timed_out = False
        self.duration_s: float | None = None
        """Length as its container states it; known from the first audio on, if at all."""

    async def read(self) -> AsyncIterator[Audio | SessionWarning]:
        """Yield the audio, and warnings about what was repaired in it.

        Raises:
            MediaRefused: it can't be decoded, or not to its end; a warning is all that damage leads to.
        """
        while True:
            kind, body = await self._message()
            if kind == messages.AUDIO:
                yield np.frombuffer(body, np.float32)
            elif kind == messages.WARNING:
                yield SessionWarning(**json.loads(body), repair=True)
            elif kind == messages.INFO:
                self.duration_s = json.loads(body)["duration_s"]
            elif kind == messages.ERROR:
                error = json.loads(body)
                raise (MediaTooLong if error["code"] == messages.TOO_LONG else MediaRefused)(error["message"])
            else:
                return

    async def close(self) -> None:
        """End the child, if it has not ended."""
        await _end(self._process)

    async def _message(self) -> tuple[bytes, bytes]:
        loop = asyncio.get_running_loop()
        began = loop.time()
        watch = loop.call_later(self._left_s, self._end_late)
        try:
            kind, size = messages.HEADER.unpack(await self._reader.readexactly(messages.HEADER.size))
            if size > messages.MAX_BYTES:
                raise MediaRefused("its decoder failed")
            return kind, await self._reader.readexactly(size)
        except asyncio.IncompleteReadError:
            raise MediaRefused(await self._why_ended()) from None
        finally:
            watch.cancel()
            self._left_s = max(0.0, self._left_s - (loop.time() - began))

    def _end_late(self) -> None:
        self._timed_out = True
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    async def _why_ended(self) -> str:
        status = await self._process.wait()
        if self._timed_out or (os.name == "posix" and -status in (signal.SIGXCPU, signal.SIGKILL)):
            return "decoding it takes too long"
        return "its decoder failed"


class Decoders:
    """Starts a child for each recording, and keeps at most one spare, which has loaded its libraries.

    Args:
        max_recording_s: length of the longest recording that is decoded.
    """

    def __init__(self, max_recording_s: float) -> None:
        self._max_recording_s = max_recording_s
        self._spare: asyncio.Task[_Child] | None = None
        self._expiry: asyncio.TimerHandle | None = None

    def prepare(self) -> None:
        """Start a spare child, if there is none: a recording will come."""
        if _CAN_HAND_OVER and self._spare is None:
            self._spare = asyncio.create_task(_start_child(), name="start a decoder of recordings")
            self._expiry = asyncio.get_running_loop().call_later(SPARE_S, self._expire)

    @asynccontextmanager
    async def open(self, descriptor: int, *, waits_s: float | None = None) -> AsyncIterator[Recording]:
        """Decode what a descriptor gives, from its present position to its end.

        Args:
            descriptor: of a file. It is used by the child and stays open here.
            waits_s: how long to wait for the child in all; by default in proportion to the processor time that it gets.

        Raises:
            MediaRefused: no child can be started.
        """
        size = os.fstat(descriptor).st_size
        expanded_s = EXPANDED_S + size * 8 / MIN_BITS_PER_S
        cpu_s = CPU_S + round(size / 1e6 * CPU_S_PER_MB)
        job = {
            "size": size,
            "cpu_s": cpu_s,
            "max_s": min(self._max_recording_s, expanded_s),
            "expands": expanded_s < self._max_recording_s,
        }
        try:
            process = await self._started(descriptor, json.dumps(job))
        except OSError as error:
            raise MediaRefused(f"no decoder can be started ({error.strerror})") from None
        recording = Recording(process, waits_s or 60 + 4 * cpu_s)
        try:
            yield recording
        finally:
            await asyncio.shield(recording.close())

    async def close(self) -> None:
        """End the spare child."""
        spare = self._taken()
        if spare is not None:
            spare.cancel()
            (child,) = await asyncio.gather(spare, return_exceptions=True)
            if isinstance(child, _Child):
                await child.end()

    async def _started(self, descriptor: int, job: str) -> asyncio.subprocess.Process:
        """A child that decodes the recording."""
        if not _CAN_HAND_OVER:
            return await _start_process(descriptor, job)
        spare = self._taken()
        if spare is not None:
            child = await spare
            try:
                return child.hand_over(descriptor, job)
            except OSError:
                # It was killed meanwhile.
                await child.end()
        return (await _start_child()).hand_over(descriptor, job)

    def _taken(self) -> asyncio.Task[_Child] | None:
        spare, self._spare = self._spare, None
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None
        return spare

    def _expire(self) -> None:
        self._expiring = asyncio.create_task(self.close(), name="end a decoder that was not needed")


class _Child:
    """A child that waits for its recording."""

    def __init__(self, process: asyncio.subprocess.Process, connection: socket.socket) -> None:
        self._process = process
        self._connection = connection

    def hand_over(self, descriptor: int, job: str) -> asyncio.subprocess.Process:
        """Have it decode a recording. It can't be used again.

        Raises:
            OSError: it has ended.
        """
        socket.send_fds(self._connection, [job.encode()], [descriptor])
        self._connection.close()
        return self._process

    async def end(self) -> None:
        """End it, unused."""
        self._connection.close()
        await _end(self._process)


async def _start_child() -> _Child:
    ours, theirs = socket.socketpair()
    with theirs:
        try:
            return _Child(await _start_process(theirs.fileno()), ours)
        except BaseException:
            ours.close()
            raise


async def _start_process(stdin: int, *arguments: str) -> asyncio.subprocess.Process:
    environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    # Where this process finds its modules: PYTHONPATH or a home folder may be why.
    environment["PYTHONPATH"] = os.pathsep.join(filter(os.path.isabs, sys.path))
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "streaming_asr.engine.media.child",
        *arguments,
        stdin=stdin,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        # By default, Python looks for modules in the working directory, and finds this package there.
        cwd=_ROOT,
        env={**environment, "OPENBLAS_NUM_THREADS": "1"},
        close_fds=True,
    )


async def _end(process: asyncio.subprocess.Process) -> None:
    """Kill a child, if it has not ended, and close what connects to it."""
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    assert process.stdout is not None
    # To its end, or the pipe would stay open.
    while await process.stdout.read(2**16):
        pass
    await process.wait()

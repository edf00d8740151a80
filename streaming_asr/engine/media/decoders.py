"""The parent's side: starts children, hands each a recording, and reads what it decodes, on an event loop."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np

from streaming_asr.core.events import SessionWarning
from streaming_asr.core.recognizer import Audio
from streaming_asr.engine.media import messages, pipes

logger = logging.getLogger(__name__)

CPU_S, CPU_S_PER_MB = 60, 10
"""Processor time that a child may use, seconds: for any recording, and for each megabyte of it."""
EXPANDED_S, MIN_BITS_PER_S = 600, 200
"""A recording may last this long however small it is; beyond, it must have this many bits for each second. Speech
has 4,000 and more, but silence compresses to nothing, and a day of it would fit into 200 kB."""
NICENESS = 15
"""Of children in the background. Beside a process of niceness 0 they get a thirtieth of a processor."""
SPARE_S = 300.0
"""An unused spare child is ended after this time."""
NEXT_SPARE_S = 0.1
"""After a recording, the next spare child is started this much later."""
_ROOT = Path(__file__).parents[3]
_ENVIRONMENT = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SYSTEMROOT", "TMPDIR")
"""Variables that a child inherits."""
_ENDS_WITHIN_S = 1.0
"""Time in which a child that has closed its output ends."""
_STARTING = ThreadPoolExecutor(1, "start a decoder")
"""A thread that starts all children. That takes until a child gets a processor: milliseconds, or a tenth of a second
where many want one, in which an event loop would stand still. The thread never ends, since children that ask Linux to
end with their parent end with the thread that started them."""
_CAN_HAND_OVER = hasattr(socket, "send_fds")
"""Whether a recording can be handed to a child that runs already. Windows can't."""


class MediaRefused(Exception):
    """The recording can't be decoded. The message is for the user."""


class MediaTooLong(MediaRefused):
    """The recording has more audio than is allowed."""


class DecoderLost(MediaRefused):
    """The decoder crashed, or was ended for what it took."""


class NoDecoder(MediaRefused):
    """No child can be started now, which is not the recording's fault."""


class Recording:
    """A recording being decoded by a child."""

    def __init__(self, child: Child, waits_s: float) -> None:
        self._child = child
        self._left_s = waits_s
        self._timed_out = False
        self.complete = False
        """Whether all of it has been received."""
        self.duration_s: float | None = None
        """Length as its container states it; known from the first audio on, if at all."""

    @property
    def pid(self) -> int:
        """Of the child."""
        return self._child.pid

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
                self.complete = True
                return

    async def close(self) -> None:
        """End the child, if it has not ended."""
        await self._child.end(_ENDS_WITHIN_S if self.complete else 0.0)

    async def _message(self) -> tuple[bytes, bytes]:
        loop = asyncio.get_running_loop()
        began = loop.time()
        watch = loop.call_later(self._left_s, self._end_late)
        try:
            return await self._child.read()
        except asyncio.IncompleteReadError:
            raise DecoderLost(await self._why_ended()) from None
        finally:
            watch.cancel()
            self._left_s = max(0.0, self._left_s - (loop.time() - began))

    def _end_late(self) -> None:
        self._timed_out = True
        self._child.kill()

    async def _why_ended(self) -> str:
        return await self._child.why_ended(self._timed_out)


class Decoders:
    """Starts a child for each recording, and keeps at most one spare, which has loaded its libraries.

    Args:
        max_recording_s: length of the longest recording that is decoded.
        background: whether live sessions go before what is decoded. From its start on, a child then gets hardly more of
            a processor than they leave.
    """

    def __init__(self, max_recording_s: float, *, background: bool = False) -> None:
        self._background = background
        self._max_recording_s = max_recording_s
        self._spare: asyncio.Task[Child] | None = None
        self._expiry: asyncio.TimerHandle | None = None
        self._next: asyncio.TimerHandle | None = None
        """The start of the next spare child."""
        self._closing: set[asyncio.Task[None]] = set()

    def prepare(self) -> None:
        """Start a spare child, if there is none: a recording will come."""
        self._forget_next()
        if _CAN_HAND_OVER and self._spare is None:
            self._spare = asyncio.create_task(_start_child(self._background), name="start a decoder of recordings")
            self._expiry = asyncio.get_running_loop().call_later(SPARE_S, self._expire)

    def prepare_soon(self) -> None:
        """Start a spare child in a moment: what has to be done for this recording comes first."""
        self._forget_next()
        self._next = asyncio.get_running_loop().call_later(NEXT_SPARE_S, self.prepare)

    @asynccontextmanager
    async def open(self, descriptor: int, *, waits_s: float | None = None) -> AsyncIterator[Recording]:
        """Decode what a descriptor gives, from its present position to its end.

        Args:
            descriptor: of a file. It is used by the child and stays open here.
            waits_s: how long to wait for the child in all; by default in proportion to the processor time that it gets.

        Raises:
            NoDecoder: no child can be started.
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
            child = await self.started(descriptor, json.dumps(job))
        except OSError as error:
            raise cannot_start(error) from None
        recording = Recording(child, waits_s or 60 + 4 * cpu_s)
        try:
            yield recording
        finally:
            closing = self.closing(recording.close())
            if not recording.complete:
                await asyncio.shield(closing)

    def closing(self, close: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Have a child closed in a task, which `close` waits for."""
        task = asyncio.create_task(close, name="end a decoder")
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
        return task

    async def close(self) -> None:
        """End the spare child, and wait for those that have done their work."""
        self._forget_next()
        await asyncio.gather(*self._closing, return_exceptions=True)
        await self._end_spare()

    async def _end_spare(self) -> None:
        spare = self._taken()
        if spare is not None:
            spare.cancel()
            (child,) = await asyncio.gather(spare, return_exceptions=True)
            if isinstance(child, Child):
                await child.end()

    async def started(self, descriptor: int, job: str) -> Child:
        """A child that decodes what a descriptor gives.

        Raises:
            OSError: it can't be started.
        """
        if not _CAN_HAND_OVER:
            return await _start_child(self._background, descriptor, job)
        spare = self._taken()
        if spare is not None:
            child = await spare
            try:
                child.hand_over(descriptor, job)
                return child
            except OSError:
                # It was killed meanwhile.
                await child.end()
        child = await _start_child(self._background)
        child.hand_over(descriptor, job)
        return child

    def _taken(self) -> asyncio.Task[Child] | None:
        spare, self._spare = self._spare, None
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None
        return spare

    def _forget_next(self) -> None:
        if self._next is not None:
            self._next.cancel()
            self._next = None

    def _expire(self) -> None:
        self._expiring = asyncio.create_task(self._end_spare(), name="end a decoder that was not needed")


def cannot_start(error: OSError) -> NoDecoder:
    """Why nothing is decoded."""
    return NoDecoder(f"no decoder can be started ({error.strerror})")


class Child:
    """A child that has its recording, or waits for it.

    Args:
        output: what it writes.
        transport: of the output.
        connection: over which it waits for its recording, if it does.
    """

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        output: asyncio.StreamReader,
        transport: asyncio.ReadTransport,
        connection: socket.socket | None,
    ) -> None:
        self._process = process
        self.output = output
        self._transport = transport
        self._connection = connection

    @property
    def pid(self) -> int:
        return self._process.pid

    def hand_over(self, descriptor: int, job: str) -> None:
        """Have it decode a recording.

        Raises:
            OSError: it has ended.
        """
        assert self._connection is not None
        socket.send_fds(self._connection, [job.encode()], [descriptor])
        self._connection.close()

    def kill(self) -> None:
        """End it, if it has not ended."""
        self._process.kill()

    async def read(self) -> tuple[bytes, bytes]:
        """Kind and body of its next message.

        Raises:
            asyncio.IncompleteReadError: it has ended, or writes something else.
        """
        kind, size = messages.HEADER.unpack(await self.output.readexactly(messages.HEADER.size))
        if size > messages.MAX_BYTES:
            raise asyncio.IncompleteReadError(b"", size)
        return kind, await self.output.readexactly(size)

    async def why_ended(self, timed_out: bool) -> str:
        """Why it ended before its work was done.

        Args:
            timed_out: whether it was killed because it took too long.
        """
        status = await self.end(_ENDS_WITHIN_S)
        logger.warning("Decoder %d ended before its work was done (status %d)", self.pid, status)
        if timed_out or (os.name == "posix" and -status in (signal.SIGXCPU, signal.SIGKILL)):
            return "decoding it takes too long"
        return "its decoder failed"

    async def end(self, wait_s: float = 0.0) -> int:
        """End it, if it does not end by itself within a time, seconds; returns its status."""
        if self._connection is not None:
            self._connection.close()
        if wait_s:
            with contextlib.suppress(subprocess.TimeoutExpired):
                await asyncio.to_thread(self._process.wait, wait_s)
        self._transport.close()
        self._process.kill()
        return await asyncio.to_thread(self._process.wait)


async def _start_child(background: bool, recording: int | None = None, *job: str) -> Child:
    """Start a child.

    Args:
        background: see `Decoders`.
        recording, job: what it decodes; without them it waits.

    Raises:
        OSError: it can't be started.
    """
    loop = asyncio.get_running_loop()
    # The thread may need it for longer than the caller keeps it open, if this is cancelled.
    theirs = None if recording is None else os.dup(recording)
    starting = loop.run_in_executor(_STARTING, _start_process, background, theirs, *job)
    try:
        process, file, connection = await asyncio.shield(starting)
    except asyncio.CancelledError:
        starting.add_done_callback(_end_unwanted)
        raise
    try:
        output = asyncio.StreamReader()
        piped = pipes.for_event_loop(os.dup(file.fileno()), "rb")
        file.close()
        transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(output), piped)
    except BaseException:
        _end(process, file, connection)
        raise
    return Child(process, output, transport, connection)


_Started = tuple[subprocess.Popen[bytes], IO[bytes], socket.socket | None]
"""A process, what it writes, and over which it waits for its recording, if it does."""


def _start_process(background: bool, recording: int | None, *job: str) -> _Started:
    """Start the process of a child; blocks until it runs. For arguments and errors see `_start_child`; the descriptor
    of the recording is closed.
    """
    with contextlib.ExitStack() as stack:
        connection, stdin = None, recording
        if stdin is None:
            connection, theirs = socket.socketpair()
            stack.enter_context(theirs)
            stdin = theirs.fileno()
        else:
            stack.callback(os.close, stdin)
        reading, writing = os.pipe()
        file = os.fdopen(reading, "rb", buffering=0)
        try:
            with _signals_left_to_parent():
                process = subprocess.Popen(
                    [sys.executable, "-m", "streaming_asr.engine.media.child", *job],
                    stdin=stdin,
                    stdout=writing,
                    stderr=subprocess.DEVNULL,
                    # By default, Python looks for modules in the working directory, and finds this package there.
                    cwd=_ROOT,
                    env=_environment(),
                )
        except BaseException:
            file.close()
            if connection is not None:
                connection.close()
            raise
        finally:
            os.close(writing)
    if background and os.name == "posix":
        # Nobody may raise the priority, where the server's own is lower.
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, process.pid, NICENESS)
    return process, file, connection


def _end_unwanted(starting: asyncio.Future[_Started]) -> None:
    """End a process that nobody waits for any more, once it has started."""
    if not starting.cancelled() and starting.exception() is None:
        _STARTING.submit(_end, *starting.result())


def _end(process: subprocess.Popen[bytes], file: IO[bytes], connection: socket.socket | None) -> None:
    file.close()
    if connection is not None:
        connection.close()
    process.kill()
    process.wait()


@contextlib.contextmanager
def _signals_left_to_parent() -> Iterator[None]:
    """Have a child that is started here inherit that these signals are blocked: until it has started and can ignore
    them, they would end it.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _environment() -> dict[str, str]:
    """Of a child."""
    inherited = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    # Where this process finds its modules: PYTHONPATH or a home folder may be why.
    modules = os.pathsep.join(filter(os.path.isabs, sys.path))
    return {**inherited, "PYTHONPATH": modules, "OPENBLAS_NUM_THREADS": "1"}

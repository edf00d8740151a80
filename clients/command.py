"""What both commands share: how they end, and what they do with events."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Coroutine, Sequence
from typing import Any

from clients.audio_file import UnreadableAudio
from clients.errors import StreamError
from clients.events import Final
from clients.interrupts import INTERRUPTED
from clients.live_view import Track
from clients.microphone import MicrophoneError
from clients.options import UsageError
from clients.reconnect import LastingStream
from clients.transcript_files import TranscriptError, TranscriptFile

FAILED = 1
USAGE = 2
"""Also if there is no microphone."""
FINISH_S = 15.0
"""How long the last finals may take after Ctrl-C."""


def run_command(command: Coroutine[Any, Any, int]) -> int:
    """Run it to its end; returns the exit status. An error is printed as one line."""
    for output in (sys.stdout, sys.stderr):
        if hasattr(output, "reconfigure"):
            # A terminal that can't show a character shows a replacement; the transcript continues.
            output.reconfigure(errors="replace")
    try:
        return asyncio.run(command)
    except (asyncio.CancelledError, KeyboardInterrupt):
        return INTERRUPTED
    except (UsageError, MicrophoneError) as error:
        print(error, file=sys.stderr)
        return USAGE
    except (StreamError, TranscriptError, UnreadableAudio) as error:
        print(error, file=sys.stderr)
        return FAILED
    except BrokenPipeError:
        # The reader of our output, such as `head`, closed it. Python must not try to flush it again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED


async def follow(stream: LastingStream, track: Track, transcripts: Sequence[TranscriptFile]) -> None:
    """Show and save the events of the stream, until it is done.

    Raises:
        StreamError: the stream can't continue.
        TranscriptError: a transcript can't be written.
    """
    async for event in stream:
        track.show(event)
        if isinstance(event, Final):
            for transcript in transcripts:
                transcript.add(event)


async def finish(stream: LastingStream, following: asyncio.Task[None], track: Track) -> bool:
    """Wait for the last finals, within a limit; returns whether all came.

    Raises:
        StreamError, TranscriptError: see `follow`.
    """
    if not following.done():
        track.status("finishing; Ctrl-C again quits at once")
        await stream.stop()
        await asyncio.wait({following}, timeout=FINISH_S)
    if not following.done():
        track.notice(f"The server did not finish within {FINISH_S:g} s; what came before is saved.")
        following.cancel()
        return False
    await following
    return True


async def cancel(*tasks: asyncio.Task[Any]) -> None:
    """Cancel tasks and wait for them, ignoring their results."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)

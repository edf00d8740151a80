"""Keeps the audio that has no final yet, so that a new session can go on where the old one broke.

No sockets, no clock: audio and the server's events go in, messages to send and events in stream terms come out.

Audio is *settled* when a new session need not hear it: it was heard, and every word in it has its final. How far the
server has heard is learnt from pings, which it answers in turn with the audio.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec
import numpy as np

from clients.events import (
    AudioDropped,
    Done,
    Event,
    Final,
    Finalized,
    Partial,
    Pong,
    Reconnected,
    ServerEvent,
    SpeechEnded,
    SpeechResumed,
    SpeechStarted,
)

PIECE_MS = 100
"""Longest audio message."""
PING_EVERY_MS = 1000
"""Of audio."""
_SLACK_MS = 500
"""Beyond what the session's options say that an utterance may reach back: frames, resampling, rounding."""
_LOOK_BACK_MS = 2000
"""How far an utterance may reach back before its detection, where the options do not say."""
_SAMPLE_BYTES = 2
_ANCHORS = 1000

_EventT = TypeVar("_EventT", bound=msgspec.Struct)


class Control(enum.Enum):
    FINALIZE = "finalize"
    STOP = "stop"


@dataclass(frozen=True)
class Ping:
    id: int
    """Frames of this session sent before it."""


Message = bytes | Ping | Control


class AudioLedger:
    """What was said so far, across sessions.

    Positions are frames (one sample of each channel) of the stream, times milliseconds of it, however many sessions
    it takes. Each session has its own count of both, which begins where it goes on.

    Args:
        sample_rate: Hz of the audio, 16-bit.
        channels: interleaved in each frame.
        split: whether each channel has its own transcript.
        keep_s: audio kept at most; beyond it the oldest is given up.
    """

    def __init__(self, sample_rate: int, channels: int = 1, *, split: bool = False, keep_s: float = 120.0) -> None:
        self._rate = sample_rate
        self._frame_bytes = channels * _SAMPLE_BYTES
        self._channels = channels
        self._keep = round(keep_s * sample_rate)
        tracks = channels if split else 1
        self._audio = bytearray()
        self._start = 0
        """Position of the first frame kept."""
        self._next = 0
        """Position of the next frame to send."""
        self._settled = [0] * tracks
        self._mute = [0] * tracks
        """Each track's audio before this has its finals; it is sent as silence beside the other track's."""
        self._anchors = deque([(0, 0)], maxlen=_ANCHORS)
        """(frame of the session, position) where audio goes on, oldest first."""
        self._sent = 0
        """Frames sent in this session."""
        self._pinged = 0
        self._look_back = self._frames(_LOOK_BACK_MS)
        self._gap_start: int | None = None
        self._finals_before = 0
        """Number of the last final of the sessions before; this one's count goes on from it."""
        self._last_final = 0
        self._open: dict[int, tuple[int, int]] = {}
        """Utterances without a final, by the session's number: track and position of their start."""
        self._cut: set[int] = set()
        """Those that ended because the session does. If it is the server that ends it, they may end within a word."""
        self._held_back: list[Final] = []
        """Finals of those: good once all is done, but a new session makes better ones."""
        self._finalizes: deque[int] = deque()
        """Positions of finalizes that are not answered yet."""
        self._finalized = [0] * tracks
        self._asked = 0
        """How many of them this session was asked."""
        self._stopped = False
        self._stop_sent = False

    @property
    def end(self) -> int:
        """Position after the last whole frame."""
        return self._start + len(self._audio) // self._frame_bytes

    @property
    def end_ms(self) -> int:
        return self._ms(self.end)

    @property
    def settled_ms(self) -> int:
        """Everything before this is settled."""
        return self._ms(min(self._settled))

    @property
    def kept_s(self) -> float:
        return (self.end - self._start) / self._rate

    @property
    def unsent_s(self) -> float:
        return (self.end - self._next) / self._rate

    @property
    def full(self) -> bool:
        """Whether more audio would have some given up."""
        return self.end - self._start >= self._keep

    def append(self, audio: bytes | memoryview) -> None:
        """Take the next audio, of any length."""
        self._audio += audio
        if self.end - self._start > self._keep:
            self._forget(self.end - self._keep)

    def finalize(self) -> None:
        """Ask for the finals of everything appended so far."""
        if self.end not in self._finalizes:
            self._finalizes.append(self.end)

    def stop(self) -> None:
        """No more audio comes."""
        self._stopped = True

    def begin_session(self, options: Mapping[str, Any]) -> Reconnected:
        """Go on in a new session, from the first audio that is not settled.

        Args:
            options: in force, as `Ready` has them.
        """
        self._configured(options)
        resume = min(self._settled)
        start = max(resume, self._start)
        resent = max(0, self._next - start)
        self._mute = list(self._settled)
        self._settled = [max(settled, start) for settled in self._settled]
        self._anchors = deque([(0, start)], maxlen=_ANCHORS)
        self._next = start
        self._sent = self._pinged = self._asked = 0
        self._finals_before = self._last_final
        self._gap_start = None
        self._open.clear()
        self._cut.clear()
        self._held_back.clear()
        self._stop_sent = False
        return Reconnected(resent_ms=self._ms(resent), lost_ms=self._ms(start - resume))

    def next_message(self) -> Message | None:
        """What to send now; None until there is more."""
        if self._sent - self._pinged >= self._frames(PING_EVERY_MS):
            self._pinged = self._sent
            return Ping(self._sent)
        asking = self._asked < len(self._finalizes)
        limit = min(self.end, self._finalizes[self._asked]) if asking else self.end
        if self._next < limit:
            return self._piece(limit)
        if asking:
            self._asked += 1
            return Control.FINALIZE
        if self._stopped and not self._stop_sent:
            self._stop_sent = True
            return Control.STOP
        return None

    def take_gap(self) -> AudioDropped | None:
        """Audio that was given up before it was sent; told once, when sending has gone on behind it."""
        if self._gap_start is None or self._next == self._anchors[-1][1]:
            return None
        gap = AudioDropped(start_ms=self._ms(self._gap_start), end_ms=self._ms(self._anchors[-1][1]))
        self._gap_start = None
        return gap

    def observe(self, event: ServerEvent) -> list[Event]:
        """What the server's event means in the stream, for the user; often just that event."""
        if isinstance(event, Pong):
            self._heard(event)
            return []
        if isinstance(event, Done):
            self._settled = [self.end] * len(self._settled)
            return [*self.give_up(), Done(audio_ms=self.end_ms)]
        if isinstance(event, Final):
            return self._observe_final(event)
        if isinstance(event, Finalized):
            self._observe_finalized(event)
        elif isinstance(event, SpeechStarted):
            self._open[event.utterance] = event.channel, self._position(event.time_ms)
        elif isinstance(event, SpeechEnded) and event.reason == "stop":
            self._cut.add(event.utterance)
        return [self._translated(event)]

    def give_up(self) -> list[Final]:
        """No session follows: finals that were held back for the case that one does."""
        held_back, self._held_back = self._held_back, []
        return held_back

    def _observe_final(self, final: Final) -> list[Event]:
        told = self._translated(final)
        if final.utterance in self._cut:
            self._held_back.append(told)
            return []
        self._open.pop(final.utterance, None)
        self._last_final = max(self._last_final, told.utterance)
        self._settle(final.channel, self._position(final.time_ms))
        return [told]

    def _observe_finalized(self, finalized: Finalized) -> None:
        position = self._position(finalized.time_ms)
        self._finalized[finalized.channel] = position
        self._settle(finalized.channel, position)
        answered = min(self._finalized) + self._frames(_SLACK_MS)
        while self._asked and self._finalizes[0] <= answered:
            self._finalizes.popleft()
            self._asked -= 1

    def _heard(self, pong: Pong) -> None:
        if not isinstance(pong.id, int):
            return
        heard = self._position(pong.id * 1000 / self._rate)
        for track in range(len(self._settled)):
            starts = [start for owner, start in self._open.values() if owner == track]
            self._settle(track, min([*starts, heard]) - self._look_back)

    def _settle(self, track: int, position: int) -> None:
        self._settled[track] = max(self._settled[track], min(position, self._next))
        self._forget(min(self._settled))

    def _configured(self, options: Mapping[str, Any]) -> None:
        pre_roll, onset = options.get("pre_roll_ms"), options.get("onset_ms")
        if isinstance(pre_roll, int) and isinstance(onset, int):
            self._look_back = self._frames(pre_roll + 2 * onset + _SLACK_MS)
        longest = options.get("max_utterance_s")
        if isinstance(longest, int | float):
            # Less than the longest utterance could never be settled, and whoever waits for that would wait for ever.
            self._keep = max(self._keep, round(2 * longest * self._rate))

    def _piece(self, limit: int) -> bytes:
        start = self._next
        end = min(limit, start + self._frames(PIECE_MS))
        at = (start - self._start) * self._frame_bytes
        piece = bytes(self._audio[at : at + (end - start) * self._frame_bytes])
        if any(mute > start for mute in self._mute):
            frames = np.frombuffer(piece, np.int16).reshape(-1, self._channels).copy()
            for track, mute in enumerate(self._mute):
                frames[: max(0, mute - start), track] = 0
            piece = frames.tobytes()
        self._next = end
        self._sent += end - start
        return piece

    def _forget(self, position: int) -> None:
        """Let go of the audio before a position."""
        if position <= self._start:
            return
        del self._audio[: (position - self._start) * self._frame_bytes]
        self._start = position
        if self._next < position:
            if self._gap_start is None:
                self._gap_start = self._next
            if self._anchors[-1][0] == self._sent:
                self._anchors.pop()
            self._anchors.append((self._sent, position))
            self._next = position

    def _position(self, session_ms: float) -> int:
        frame = round(session_ms * self._rate / 1000)
        at, position = next((a for a in reversed(self._anchors) if a[0] <= frame), self._anchors[0])
        return position + frame - at

    def _translated(self, event: _EventT) -> _EventT:
        """The event with the stream's times and numbers."""
        changes: dict[str, Any] = {}
        if isinstance(event, Final | Partial | SpeechEnded):
            changes["start_ms"] = self._stream_ms(event.start_ms)
        if isinstance(event, Final | Partial | SpeechEnded | SpeechStarted | SpeechResumed | Finalized):
            changes["time_ms"] = self._stream_ms(event.time_ms)
        if isinstance(event, Final) and event.words is not None:
            changes["words"] = tuple(
                msgspec.structs.replace(
                    word, start_ms=self._stream_ms(word.start_ms), end_ms=self._stream_ms(word.end_ms)
                )
                for word in event.words
            )
        number = getattr(event, "utterance", None)
        if number is not None:
            changes["utterance"] = self._finals_before + number
        return msgspec.structs.replace(event, **changes) if changes else event

    def _stream_ms(self, session_ms: int) -> int:
        return self._ms(self._position(session_ms))

    def _frames(self, ms: float) -> int:
        return round(ms * self._rate / 1000)

    def _ms(self, frames: int) -> int:
        return round(frames * 1000 / self._rate)

"""Keeps the audio that has no final yet, so that a new session can continue where the last one broke.

No sockets, no clock: audio and the server's events go in; messages to send and events in stream terms come out.

Audio is *settled* when a new session does not need it: the server has processed it, and every word in it has its final.
Pings show how far the server has processed the audio, because it answers them in order with the audio.

A new session is sent the last seconds of settled audio before the rest, as its lead-in: the server's voice detector
follows the level of voice and noise, and without them would cut what follows otherwise.

`clients/browser/audio-ledger.js` does the same for one channel.
"""

from __future__ import annotations

import enum
from array import array
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec

from clients.events import (
    AudioDropped,
    Configured,
    Done,
    EagerTurnEnd,
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
    TurnResumed,
)

PIECE_MS = 100
"""Longest audio message."""
PING_EVERY_MS = 1000
"""Of audio."""
_FRAME_MS = 32
"""Of the server's voice detection. A session that begins between two frames of the one before would cut the same speech
a little otherwise, and now and then recognize another word."""
LEAD_IN_MS = 640 * _FRAME_MS
"""Settled audio that is kept for the next session's lead-in."""
_SLACK_MS = 500
"""Added to how far the session's options let an utterance reach back: frames, resampling, rounding."""
_LOOK_BACK_MS = 2000
"""How far an utterance may reach back before its detection, where the options do not say."""
_NO_ENDPOINT_MS = 60_000
"""Silence that ends an utterance if `endpoint_ms` is null."""
_SAMPLE_BYTES = 2
_MAX_ANCHORS = 1000

_TIMED = (SpeechStarted, Partial, SpeechResumed, EagerTurnEnd, TurnResumed, SpeechEnded, Final, Finalized)
"""Events with a `time_ms`."""
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
    """The audio of one stream and how much of it is transcribed, across sessions.

    Positions are frames (one sample of each channel) of the stream, and stream times are milliseconds of it, however
    many sessions it takes. Each session counts both from the position at which it begins.

    Args:
        sample_rate: Hz of the audio, which is 16-bit.
        channels: interleaved in each frame.
        split: whether each channel has its own transcript.
        keep_s: most audio to keep; beyond it the oldest is discarded.
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
        self._silent_before = [0] * tracks
        """Each track's audio before this has its finals; it is sent as silence beside the other track's."""
        self._lead_in = b""
        """What this session is sent before the audio from its position on."""
        self._anchors = deque([(0, 0)], maxlen=_MAX_ANCHORS)
        """(frame of the session, position) from which both count on together, oldest first."""
        self._sent = 0
        """Frames sent in this session."""
        self._pinged = 0
        """Frames sent in this session before its last ping."""
        self._options: dict[str, Any] = {}
        self._look_back = self._frames(_LOOK_BACK_MS)
        self._gap_start: int | None = None
        self._finals_before = 0
        """Number of the last final of earlier sessions; this session's numbers follow it."""
        self._last_final = 0
        self._open: dict[int, tuple[int, int]] = {}
        """Utterances without a final, by the session's number: track and position of their start."""
        self._cut: set[int] = set()
        """Utterances that ended because the session did. If the server ended it, they may end within a word."""
        self._provisional: dict[int, Final] = {}
        """Finals of those: correct if the stream is done, replaced by better ones if a new session follows."""
        self._finalizes: deque[int] = deque()
        """Positions of finalizes without an answer."""
        self._requested = 0
        """How many of them were sent in this session."""
        self._controls = 0
        """Text messages sent in this session."""
        self._request_numbers: deque[int] = deque()
        """Of the finalizes that were sent, each one's number among the text messages."""
        self._stop_number = 0
        self._finalized = [0] * tracks
        """`Finalized` events of each track that do not yet make an answer with those of the other tracks."""
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
    def unsent_s(self) -> float:
        return (self.end - self._next) / self._rate

    @property
    def full(self) -> bool:
        """Whether appending more audio would discard some."""
        return self.end - self._unsettled_start >= self._keep

    @property
    def lead_in_ms(self) -> int:
        """What `lead_in_ms` a session that begins now is to be given; 0 if the server does not know the option."""
        if "lead_in_ms" not in self._options:
            return 0
        available_ms = (self._unsettled_start - self._start) * 1000 // self._rate
        return available_ms - available_ms % _FRAME_MS

    @property
    def _unsettled_start(self) -> int:
        """Position of the first frame kept that is not settled."""
        return max(self._start, min(self._settled))

    def append(self, audio: bytes | memoryview) -> None:
        """Add the next audio, of any length."""
        self._audio += audio
        if self.end - self._unsettled_start > self._keep:
            self._forget(self.end - self._keep)

    def finalize(self) -> None:
        """Request the finals of everything appended so far."""
        if self.end not in self._finalizes:
            self._finalizes.append(self.end)

    def stop(self) -> None:
        """No more audio comes."""
        self._stopped = True

    def begin_session(self, options: Mapping[str, Any], controls: int = 0) -> Reconnected:
        """Continue in a new session, from the first audio that is not settled, and its lead-in.

        Args:
            options: in force, as in `Ready`; `lead_in_ms` at most as the property was.
            controls: text messages sent in it so far.
        """
        self._options = dict(options)
        self._apply_options()
        resume = min(self._settled)
        start = max(resume, self._start)
        resent = max(0, self._next - start)
        self._silent_before = list(self._settled)
        self._settled = [max(settled, start) for settled in self._settled]
        self._lead_in = self._before(start, self._frames(self._options.get("lead_in_ms", 0)))
        self._anchors = deque([(self._lead_in_frames, start)], maxlen=_MAX_ANCHORS)
        self._next = start
        self._sent = self._pinged = self._requested = 0
        self._controls = controls
        self._request_numbers.clear()
        self._finalized = [0] * len(self._finalized)
        self._finals_before = self._last_final
        self._gap_start = None
        self._open.clear()
        self._cut.clear()
        self._provisional.clear()
        self._stop_sent = False
        return Reconnected(resent_ms=self._ms(resent), lost_ms=self._ms(start - resume))

    def resume_session(self, audio_bytes: int, controls: int) -> Reconnected:
        """Continue in the same session on another connection, from what the server has not received.

        Args:
            audio_bytes, controls: what it has received in this session: audio, and text messages.
        """
        before = self._next
        received = min(audio_bytes // self._frame_bytes, self._sent)
        going_on = max(received, self._lead_in_frames)
        while len(self._anchors) > 1 and self._anchors[-1][0] > going_on:
            self._anchors.pop()
        self._next = self._position_of_frame(going_on)
        self._sent = received
        self._pinged = min(self._pinged, received)
        self._controls = controls
        while self._request_numbers and self._request_numbers[-1] > controls:
            self._request_numbers.pop()
            self._requested -= 1
        self._stop_sent = self._stop_sent and self._stop_number <= controls
        resent = max(0, before - max(self._next, self._start))
        if self._next < self._start:
            self._gap_start = None
            self._skip_to(self._start)
        return Reconnected(resent_ms=self._ms(resent), lost_ms=0, resumed=True)

    def count_control(self) -> int:
        """A text message that is not the ledger's is sent now; returns its number in this session, from 1."""
        self._controls += 1
        return self._controls

    def next_message(self) -> Message | None:
        """The next message to send; None if there is none for now."""
        if self._sent - self._pinged >= self._frames(PING_EVERY_MS):
            return self.ping()
        if self._sent < self._lead_in_frames:
            return self._piece_of_lead_in()
        requesting = self._requested < len(self._finalizes)
        limit = min(self.end, self._finalizes[self._requested]) if requesting else self.end
        if self._next < limit:
            return self._piece(limit)
        if requesting:
            self._requested += 1
            self._request_numbers.append(self.count_control())
            return Control.FINALIZE
        if self._stopped and not self._stop_sent:
            self._stop_sent = True
            self._stop_number = self.count_control()
            return Control.STOP
        return None

    def ping(self) -> Ping:
        """A ping after the audio sent so far."""
        self._pinged = self._sent
        self.count_control()
        return Ping(self._sent)

    def take_gap(self) -> AudioDropped | None:
        """Audio that was discarded before it was sent; returned once, after audio behind it was sent."""
        if self._gap_start is None or self._next == self._anchors[-1][1]:
            return None
        gap = AudioDropped(start_ms=self._ms(self._gap_start), end_ms=self._ms(self._anchors[-1][1]))
        self._gap_start = None
        return gap

    def observe(self, event: ServerEvent) -> list[Event]:
        """Take the server's next event; returns the events for the user, with the stream's times and numbers."""
        if isinstance(event, Pong):
            self._observe_pong(event)
            return []
        if isinstance(event, Done):
            self._settled = [self.end] * len(self._settled)
            return [*self.take_provisional(), Done(audio_ms=self.end_ms)]
        if isinstance(event, Final):
            return self._observe_final(event)
        if isinstance(event, Finalized):
            self._observe_finalized(event)
        elif isinstance(event, SpeechStarted):
            self._open[event.utterance] = event.channel, self._position(event.time_ms)
        elif isinstance(event, SpeechEnded) and event.reason == "stop":
            self._cut.add(event.utterance)
        elif isinstance(event, Configured):
            self._options.update(event.options)
            self._apply_options()
        return [self._in_stream_terms(event)]

    def take_provisional(self) -> list[Final]:
        """Finals that were kept back in case a new session replaces them; for when none follows."""
        finals = list(self._provisional.values())
        self._provisional.clear()
        return finals

    def _observe_final(self, session_final: Final) -> list[Event]:
        final = self._in_stream_terms(session_final)
        if session_final.utterance in self._cut:
            self._provisional[session_final.utterance] = final
            return []
        if session_final.utterance not in self._open and final.utterance <= self._last_final:
            return []  # A repetition.
        self._open.pop(session_final.utterance, None)
        self._last_final = max(self._last_final, final.utterance)
        self._settle(final.channel, self._position(session_final.time_ms))
        return [final]

    def _observe_finalized(self, finalized: Finalized) -> None:
        position = self._position(finalized.time_ms)
        self._settle(finalized.channel, position)
        if not self._requested or self._finalizes[0] > position + self._frames(_SLACK_MS):
            return
        self._finalized[finalized.channel] += 1
        if all(self._finalized):
            self._finalized = [count - 1 for count in self._finalized]
            self._finalizes.popleft()
            self._request_numbers.popleft()
            self._requested -= 1

    def _observe_pong(self, pong: Pong) -> None:
        if not isinstance(pong.id, int):
            return
        processed = self._position_of_frame(pong.id)
        for track in range(len(self._settled)):
            starts = [start for owner, start in self._open.values() if owner == track]
            position = min([*starts, processed]) - self._look_back
            self._settle(track, position - position % max(1, self._frames(_FRAME_MS)))

    def _settle(self, track: int, position: int) -> None:
        self._settled[track] = max(self._settled[track], min(position, self._next))
        self._forget(min(self._settled) - self._frames(LEAD_IN_MS))

    def _apply_options(self) -> None:
        pre_roll, onset = self._options.get("pre_roll_ms"), self._options.get("onset_ms")
        if isinstance(pre_roll, int) and isinstance(onset, int):
            self._look_back = self._frames(pre_roll + 2 * onset + _SLACK_MS)
        longest = self._options.get("max_utterance_s")
        if isinstance(longest, int | float):
            # An utterance longer than what is kept could never be settled, and a sender that waits for room would
            # wait forever. Silence behind it comes on top.
            kept_s = 2 * longest + self._longest_silence_ms / 1000
            self._keep = max(self._keep, round(kept_s * self._rate))

    @property
    def _longest_silence_ms(self) -> int:
        """Silence after which the server ends an utterance at the latest."""
        usual: int | None = self._options.get("endpoint_ms", 0)
        longest: int = self._options.get("endpoint_max_ms", 0)
        return max(_NO_ENDPOINT_MS if usual is None else usual, longest)

    def _piece(self, limit: int) -> bytes:
        start = self._next
        end = min(limit, start + self._frames(PIECE_MS))
        at = (start - self._start) * self._frame_bytes
        piece = bytes(self._audio[at : at + (end - start) * self._frame_bytes])
        if any(position > start for position in self._silent_before):
            piece = self._silenced(piece, start, end)
        self._next = end
        self._sent += end - start
        return piece

    @property
    def _lead_in_frames(self) -> int:
        return len(self._lead_in) // self._frame_bytes

    def _before(self, position: int, frames: int) -> bytes:
        """The audio before a position; silence for what is not kept."""
        end = (position - self._start) * self._frame_bytes
        size = frames * self._frame_bytes
        return bytes(self._audio[max(0, end - size) : end]).rjust(size, b"\0")

    def _piece_of_lead_in(self) -> bytes:
        piece = self._lead_in[self._sent * self._frame_bytes :][: self._frames(PIECE_MS) * self._frame_bytes]
        self._sent += len(piece) // self._frame_bytes
        return piece

    def _silenced(self, piece: bytes, start: int, end: int) -> bytes:
        """The audio between two positions, with zeros where a track has its finals already."""
        samples = array("h", piece)
        for track, position in enumerate(self._silent_before):
            frames = min(position, end) - start
            if frames > 0:
                samples[track : frames * self._channels : self._channels] = array("h", bytes(frames * _SAMPLE_BYTES))
        return samples.tobytes()

    def _forget(self, position: int) -> None:
        """Discard the audio before a position."""
        if position <= self._start:
            return
        del self._audio[: (position - self._start) * self._frame_bytes]
        self._start = position
        if self._next < position:
            self._skip_to(position)

    def _skip_to(self, position: int) -> None:
        """Send on from a position, because the audio before it was discarded."""
        if self._gap_start is None:
            self._gap_start = self._next
        frame = max(self._sent, self._lead_in_frames)
        if self._anchors[-1][0] == frame:
            self._anchors.pop()
        self._anchors.append((frame, position))
        self._next = position
        # Finalizes with only discarded audio between them request the same.
        while self._requested + 1 < len(self._finalizes) and self._finalizes[self._requested + 1] <= position:
            del self._finalizes[self._requested]

    def _position(self, session_ms: int) -> int:
        return self._position_of_frame(self._frames(session_ms))

    def _position_of_frame(self, frame: int) -> int:
        """The position of a frame of the session."""
        at, position = next((anchor for anchor in reversed(self._anchors) if anchor[0] <= frame), self._anchors[0])
        return position + frame - at

    def _in_stream_terms(self, event: _EventT) -> _EventT:
        """The event with the stream's times and numbers."""
        changes: dict[str, Any] = {}
        if isinstance(event, Final | Partial | SpeechEnded):
            changes["start_ms"] = self._stream_ms(event.start_ms)
        if isinstance(event, _TIMED):
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

    def _frames(self, ms: int) -> int:
        return (2 * ms * self._rate + 1000) // 2000

    def _ms(self, frames: int) -> int:
        return (2 * frames * 1000 + self._rate) // (2 * self._rate)

"""How a session receives audio: in slices, each of which may wait for the network of a voice detector. Sans-IO."""

from __future__ import annotations

from typing import Any

from streaming_asr.core.events import Event
from streaming_asr.core.recognizer import SAMPLE_RATE
from streaming_asr.core.session import Session, SessionStopped
from streaming_asr.core.voice import Detection
from streaming_asr.core.wav_header import UnexpectedFormat
from streaming_asr.protocols.base import Audio
from streaming_asr.server.live.actions import AskVoice
from streaming_asr.server.live.intake import Decoded
from streaming_asr.server.live.session_meter import SessionMeter

SLICE_S = 0.5
"""Longer audio is fed to the session in slices of this length, so that it does not keep other clients waiting."""


class Reception:
    """The receiving of one session: at most one slice at a time.

    Args:
        meter: of the session; is to be closed when the session is over.
    """

    def __init__(self, session: Session, meter: SessionMeter) -> None:
        self.session = session
        self.meter = meter
        self._detection: Detection[list[Event]] | None = None

    @property
    def waiting(self) -> bool:
        """Whether a slice waits for an answer."""
        return self._detection is not None

    def begin(self, audio: Audio | Decoded, now: float) -> Audio | Decoded | None:
        """Take a first slice of audio, for `go_on`; returns the rest, if it is longer."""
        session = self.session
        if isinstance(audio, Decoded):
            size, frames = round(SLICE_S * SAMPLE_RATE), audio.frames
            self._detection = session.receiving_decoded(frames[:size], now)
            return Decoded(frames[size:]) if len(frames) > size else None
        size = int(session.bytes_per_second * SLICE_S)
        if len(audio.data) <= size:
            self._detection = session.receiving(audio.data, now)
            return None
        data = memoryview(audio.data)
        self._detection = session.receiving(data[:size], now)
        return Audio(data[size:])

    def go_on(self, answer: Any) -> AskVoice | list[Event]:
        """Receive the slice up to its next query, or to its end.

        Args:
            answer: to the query before; None at first.

        Returns:
            The query, or what the slice has brought once it is received.

        Raises:
            SessionStopped: the session takes no more audio.
            UnexpectedFormat: its header does not fit the session.
        """
        assert self._detection is not None
        try:
            return AskVoice(self._detection.send(answer))
        except StopIteration as end:
            self._detection = None
            self.meter.received()
            events: list[Event] = end.value
            return events
        except (SessionStopped, UnexpectedFormat):
            self._detection = None
            raise

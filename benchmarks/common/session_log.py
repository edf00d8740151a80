"""What one client saw of one stream, whatever server and protocol: the ground on which every figure is computed.

Times are seconds on one clock per session, zero when the first sample of the audio would have been spoken.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum


@dataclass(frozen=True, slots=True)
class Sent:
    """A chunk that left the client."""

    at_s: float
    audio_s: float
    """Where the chunk ends in the audio: it was due then."""


@dataclass(frozen=True, slots=True)
class Shown:
    """What a user reads from now on: the whole transcript so far, not what changed."""

    at_s: float
    final: str
    """The text that the server said will not change."""
    partial: str = ""
    """What follows it and may still change."""


class Outcome(str, Enum):
    """How a session ended."""

    DONE = "done"
    REFUSED = "refused"
    """The server would not take it: full, wrong key, unknown model."""
    FAILED = "failed"
    """It broke off, got an error, or did not end in time."""


@dataclass(slots=True)
class SessionLog:
    """One session, from the first sample to the end of the connection."""

    clip: str
    """Id of the clip that was streamed."""
    session: int = 0
    """Number of the session in its run."""
    sent: list[Sent] = field(default_factory=list)
    shown: list[Shown] = field(default_factory=list)
    turn_ends: list[float] = field(default_factory=list)
    """When the server said that the speaker is done, or, in protocols that never say so, when text became final."""
    finalize_s: float | None = None
    """When the client last asked for what is outstanding (finalize, commit, end of stream)."""
    asked_s: list[float] = field(default_factory=list)
    """When the client asked at each stop of its own voice detection, where it has one."""
    ended_s: float | None = None
    """When the server had nothing more to say."""
    outcome: Outcome = Outcome.DONE
    reason: str = ""
    """Why it was refused or failed, as the server or the connection said it."""

"""What is said of a peer: how it is installed, started and spoken to, with which settings and why these."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Place:
    """What a peer's server finds on this machine."""

    python: Path
    """Of the peer's environment."""
    folder: Path
    """The environment; the peer's home while it runs."""
    port: int
    weights: Path
    """Folder of the Whisper model in CTranslate2's format, which all have in common."""
    speech: Path
    """A WAV file to warm up with."""


@dataclass(frozen=True, slots=True)
class Peer:
    """One server with one set of settings."""

    name: str
    """On the command line and in results."""
    title: str
    """In tables and plots."""
    protocol: str
    """Of `benchmarks.common.protocols.registry`."""
    command: Callable[[Place], Sequence[str | Path]]
    """What starts it in the foreground, listening on 127.0.0.1."""
    settings: str
    """In words."""
    why: str
    """These settings and no others."""
    environment: str = ""
    """Name of its environment, which several may share; empty where it runs in this one."""
    packages: tuple[str, ...] = ()
    """Pinned requirements, of the peer itself the first one, installed without its own."""
    requirements: tuple[str, ...] = ()
    """What it needs of its requirements to serve, installed with theirs."""
    prepare: Callable[[Place], None] | None = None
    """Makes what the package does not bring, once; raises `PeerUnavailable`."""
    variables: Mapping[str, str] = field(default_factory=dict)
    """Added to its environment variables."""
    note: str = ""
    """What a reader of its figures must know."""


class PeerUnavailable(Exception):
    """A peer could not be installed, or its server did not start. The message ends with the last lines it said."""

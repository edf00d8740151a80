"""The peers by name, in the order in which they are measured and shown."""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.peers.ours import OURS
from benchmarks.peers.peer import Peer
from benchmarks.peers.whisper_live import WHISPER_LIVE
from benchmarks.peers.whisper_live_kit import LOCAL_AGREEMENT, SIMUL_STREAMING

PEERS: Mapping[str, Peer] = {peer.name: peer for peer in (OURS, LOCAL_AGREEMENT, SIMUL_STREAMING, WHISPER_LIVE)}

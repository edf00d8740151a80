"""This project's own server."""

from __future__ import annotations

from pathlib import Path

from benchmarks.peers.peer import Peer

OURS = Peer(
    name="ours",
    title="streaming-asr",
    protocol="native",
    command=lambda place: (
        *(place.python, "-m", "streaming_asr", "serve", place.weights, "--recognizer", "faster-whisper"),
        *("--host", "127.0.0.1", "--port", str(place.port), "--language", "en"),
    ),
    settings="streaming-asr serve, its defaults; language en",
    why="what an installation without options runs",
    variables={"PYTHONPATH": str(Path(__file__).parent.parent.parent)},
)

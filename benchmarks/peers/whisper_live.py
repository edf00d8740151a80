"""WhisperLive, by Collabora."""

from __future__ import annotations

from pathlib import Path

from benchmarks.peers.peer import Peer

_LAUNCHER = Path(__file__).parent / "launchers" / "whisper_live_server.py"
"""The package has no command of its own; the script that starts it is in its repository only."""

WHISPER_LIVE = Peer(
    name="whisperlive",
    title="WhisperLive",
    protocol="whisperlive",
    command=lambda place: (place.python, _LAUNCHER, str(place.port), place.weights),
    settings="backend faster_whisper, one model for all clients, the client's voice activity filter on",
    why="its README's advice for a custom model; shared, since it would else load the model again for each client",
    environment="whisperlive",
    packages=("whisper-live==0.10.0",),
    requirements=(
        *("faster-whisper==1.2.0", "ctranslate2==4.8.5", "torch==2.13.0", "numpy<2.5", "scipy", "av", "websockets"),
        *("fastapi", "uvicorn", "python-multipart", "prometheus_client", "soundfile", "librosa"),
    ),
    note="makes its last segment final once it has come out the same several times, seconds later, if it does at all",
)

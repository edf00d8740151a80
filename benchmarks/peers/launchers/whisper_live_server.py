"""Starts WhisperLive, in its own environment: PORT WEIGHTS."""

from __future__ import annotations

import sys

from whisper_live.server import TranscriptionServer

CLIENTS = 256
"""None is turned away: how many it can hold is what is measured."""


def main(port: str, weights: str) -> None:
    TranscriptionServer().run(
        "127.0.0.1",
        int(port),
        backend="faster_whisper",
        faster_whisper_custom_model_path=weights,
        single_model=True,
        max_clients=CLIENTS,
        max_connection_time=3600,
    )


if __name__ == "__main__":
    main(*sys.argv[1:])

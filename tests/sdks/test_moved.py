"""Clients that other people wrote, whose server is stopped in mid-speech while another takes over."""

from __future__ import annotations

import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.sdks.clips import KEY, Clips
from tests.sdks.environments import run_python
from tests.support.chaos_proxy import ChaosProxy
from tests.support.live_server import LiveServer
from tests.support.wire import assert_said, words

# The first of them installs their environment.
pytestmark = pytest.mark.timeout(900)


CLIENTS = ("livekit deepgram", "livekit flux", "livekit openai", "openai", "pipecat deepgram", "deepgram")
CLOSES = {"openai": ("reconnecting", [1012]), "deepgram": ("closed", [1012])}
"""Clients that report close codes: in which reports, and those of each close."""


def test_clients_go_on_with_the_next_server(guarded: LiveServer, clips: Clips, tmp_path: Path) -> None:
    """Each has received a few words when the first server is stopped, and gets them in a final. What is said while a
    client connects again is lost, unless the client keeps it; what is said from then on is not.

    All connect again by themselves, except Deepgram's SDK: its program does, and keeps what has had no final.
    """
    folder = tmp_path / "clients"
    folder.mkdir()
    # Pipecat connects again after 4 s; some are slower to start than others.
    turns = [clips.raw(0, 16_000, silence_s=10.0), clips.raw(1, 16_000, silence_s=3.0)]
    with (
        LiveServer("--api-key", KEY) as first,
        ChaosProxy(first.port) as proxy,
        ThreadPoolExecutor(len(CLIENTS)) as pool,
    ):

        def run(client: str) -> list[dict[str, Any]]:
            url = proxy.http_url + ("/v1" if client == "openai" else "")
            asked = {"url": url, "key": KEY, "run": client, "clips": turns}
            return run_python("clients", "moved.py", {**asked, "folder": str(folder), "clients": len(CLIENTS)})

        running = {client: pool.submit(run, client) for client in CLIENTS}
        while len(list(folder.glob("*.understood"))) < len(CLIENTS):
            assert not any(future.done() for future in running.values())
            time.sleep(0.05)
        proxy.redirect(guarded.port)
        first.signal(signal.SIGTERM)
        for client, reports in ((client, future.result()) for client, future in running.items()):
            finals = [report["text"] for report in reports if report["scenario"] == "final" and report["text"].strip()]
            said, next_said = (words(text) for text in clips.texts())
            # A speaker's pause may have divided it.
            assert_said(" ".join(words(finals)[-len(next_said) :]), " ".join(next_said))
            # The sentence was divided at a pause, and the model may mistake a word of so short a piece.
            assert len(set(words(finals[0])) & set(said[:6])) >= 2, f"{client}: {finals}"
            _assert_nothing_twice(words(finals), said + next_said)
            if client == "deepgram":
                assert_said(" ".join(finals), " ".join(clips.texts()))
            scenario, closes = CLOSES.get(client, ("", []))
            assert [report["close_code"] for report in reports if report["scenario"] == scenario] == closes
        assert first.wait() == 0


def _assert_nothing_twice(texts: list[str], spoken: list[str]) -> None:
    """A word that is right comes as often as it was said; one that the model mistook may be any number of others."""
    for word in set(texts) & set(spoken):
        assert texts.count(word) <= spoken.count(word), f"{word!r} came twice: {texts}"

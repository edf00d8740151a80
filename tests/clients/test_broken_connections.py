"""`clients.file` in real time over connections that break in every way: the transcript is that of an undisturbed run.

python -m tests.clients.test_broken_connections --runs 10 --faults 10     the same for longer, with its figures
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from tests.support.chaos_proxy import ChaosProxy, Fault
from tests.support.live_server import LiveServer
from tests.support.wire import speech

pytestmark = pytest.mark.full

CLIPS = Path(__file__).parents[1] / "speech" / "librivox"
WITHIN_S = 60
SILENCE_S = 11.0
"""After which a client takes a silent connection for broken."""


def write_speech(path: Path, clips: slice) -> float:
    """Clips as one file, half a second of silence behind each; returns its length in seconds."""
    entries = [json.loads(line) for line in (CLIPS / "manifest.jsonl").read_text().splitlines()]
    parts = [speech(CLIPS / entry["path"]) for entry in entries[clips]]
    audio = np.concatenate([samples for part in parts for samples in (part, np.zeros(8000, np.int16))])
    soundfile.write(path, audio, 16_000)
    return len(audio) / 16_000


class Transcription:
    """A run of `clients.file`, at the pace of speech."""

    def __init__(self, url: str, audio: Path, saved: Path) -> None:
        self._saved = saved
        arguments = ["--url", url, "--realtime", str(audio), "--save", str(saved), "--overwrite"]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "clients.file", *arguments],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    def finish(self, within_s: float = WITHIN_S) -> list[dict[str, Any]]:
        """Its utterances: text, times and numbers."""
        try:
            _, errors = self._process.communicate(timeout=within_s)
        finally:
            self._process.kill()
        assert self._process.returncode == 0, errors
        utterances: list[dict[str, Any]] = json.loads(self._saved.read_text())["utterances"]
        return utterances


def wait_for_audio(server: LiveServer, seconds: float) -> None:
    """Until the server has received so much more."""
    name = "streaming_asr_audio_seconds_total"
    goal = server.metric(name) + seconds
    deadline = time.monotonic() + WITHIN_S
    while server.metric(name) < goal:
        assert time.monotonic() < deadline, "no audio came"
        time.sleep(0.05)


def test_a_transcript_over_broken_connections_equals_an_undisturbed_one(server: LiveServer, tmp_path: Path) -> None:
    audio = tmp_path / "a.wav"
    write_speech(audio, slice(1, 3))
    with ChaosProxy(server.port) as proxy:
        undisturbed = Transcription(server.url, audio, tmp_path / "undisturbed.json")
        disturbed = Transcription(proxy.url, audio, tmp_path / "disturbed.json")
        for fault in (Fault.RESET, Fault.HALF_OPEN, Fault.HANG_UP):
            wait_for_audio(server, 2 * 1.5)
            assert proxy.suffer(fault) == 1
        assert disturbed.finish() == undisturbed.finish()
        assert proxy.accepted == 4
    assert server.metric("streaming_asr_parked_sessions") == 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--faults", type=int, default=10, help="of each run")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--work", type=Path, default=Path("broken-connections"), help="folder for audio and transcripts"
    )
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    audio = given.work / "speech.wav"
    length_s = write_speech(audio, slice(None))
    draw = random.Random(given.seed)
    equal = 0
    with LiveServer() as server, ChaosProxy(server.port) as proxy:
        undisturbed = Transcription(server.url, audio, given.work / "undisturbed.json").finish(2 * length_s)
        for number in range(1, given.runs + 1):
            faults = [draw.choice(list(Fault)) for _ in range(given.faults)]
            disturbed = Transcription(proxy.url, audio, given.work / f"disturbed-{number}.json")
            times = sorted(draw.uniform(1, length_s - 2) for _ in faults)
            began = time.monotonic()
            broken = 0
            for fault, at in zip(faults, times, strict=True):
                time.sleep(max(0.0, began + at - time.monotonic()))
                broken += proxy.suffer(fault)
            found = disturbed.finish(2 * length_s + SILENCE_S * given.faults)
            equal += found == undisturbed
            named = ", ".join(fault.value for fault in faults)
            result = "equal" if found == undisturbed else "DIFFERENT"
            print(f"run {number}: {broken} connections broken of {given.faults} tries ({named}): {result}", flush=True)
    print(f"{equal} of {given.runs} transcripts of {length_s:.0f} s equal the undisturbed one, with times and numbers")
    return 0 if equal == given.runs else 1


if __name__ == "__main__":
    raise SystemExit(main())

"""`clients.file` in real time over connections that break in every way: the transcript is that of an undisturbed run.

python -m tests.clients.test_broken_connections --runs 10 --faults 10     the same for longer, with its figures

With `--kills` the server is killed now and then. Its successor knows nothing of the session; what has no final is sent
again, and before that the lead-in, from which the voice detector knows what the one before knew.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from tests.support.chaos_proxy import ChaosProxy, Fault
from tests.support.live_server import LiveServer
from tests.support.wire import speech, words

pytestmark = pytest.mark.full

CLIPS = Path(__file__).parents[1] / "speech" / "librivox"
WITHIN_S = 120


def write_speech(path: Path, clips: slice, repeats: int = 1) -> float:
    """Clips as one file, half a second of silence behind each; returns its length in seconds."""
    entries = [json.loads(line) for line in (CLIPS / "manifest.jsonl").read_text().splitlines()]
    parts = [speech(CLIPS / entry["path"]) for entry in entries[clips]]
    audio = np.concatenate([samples for part in parts * repeats for samples in (part, np.zeros(8000, np.int16))])
    soundfile.write(path, audio, 16_000)
    return len(audio) / 16_000


class Transcription:
    """A run of `clients.file`."""

    def __init__(self, url: str, audio: Path, saved: Path, *, realtime: bool = True) -> None:
        self._saved = saved
        arguments = ["--url", url, str(audio), "--save", str(saved), "--overwrite"]
        arguments += ["--realtime"] if realtime else []
        self._process = subprocess.Popen(
            [sys.executable, "-m", "clients.file", *arguments],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    @property
    def runs(self) -> bool:
        return self._process.poll() is None

    def finish(self, within_s: float = WITHIN_S) -> list[dict[str, Any]]:
        """Its utterances: text, times and numbers."""
        try:
            _, errors = self._process.communicate(timeout=within_s)
        finally:
            self._process.kill()
        assert self._process.returncode == 0, errors
        utterances: list[dict[str, Any]] = json.loads(self._saved.read_text())["utterances"]
        return utterances


def wait_until_sent(proxy: ChaosProxy, seconds: float, within_s: float = WITHIN_S) -> None:
    """Until the proxy's client has sent this much more audio of 16 kHz."""
    goal = proxy.sent_bytes + seconds * 2 * 16_000
    deadline = time.monotonic() + within_s
    while proxy.sent_bytes < goal:
        assert time.monotonic() < deadline, "no audio came"
        time.sleep(0.02)


def test_a_transcript_over_broken_connections_equals_an_undisturbed_one(server: LiveServer, tmp_path: Path) -> None:
    audio = tmp_path / "a.wav"
    write_speech(audio, slice(1, 3))
    parked = server.metric("streaming_asr_parked_sessions")
    with ChaosProxy(server.port) as proxy:
        undisturbed = Transcription(server.url, audio, tmp_path / "undisturbed.json")
        disturbed = Transcription(proxy.url, audio, tmp_path / "disturbed.json")
        for fault in (Fault.RESET, Fault.HALF_OPEN, Fault.HANG_UP):
            wait_until_sent(proxy, 1.5)
            assert proxy.suffer(fault) == 1
        assert disturbed.finish() == undisturbed.finish()
        assert proxy.accepted == 4
    # Sessions of other tests may still be parked.
    assert server.metric("streaming_asr_parked_sessions") <= parked


def test_a_server_that_takes_over_gets_every_word_once(server: LiveServer, tmp_path: Path) -> None:
    """The first is stopped in mid-speech, as in a rolling update; connections go to the second from then on."""
    audio = tmp_path / "a.wav"
    write_speech(audio, slice(1, 3))
    undisturbed = Transcription(server.url, audio, tmp_path / "undisturbed.json")
    with LiveServer() as first, ChaosProxy(first.port) as proxy:
        moved = Transcription(proxy.url, audio, tmp_path / "moved.json")
        first.wait_for_audio(2)
        proxy.redirect(server.port)
        first.signal(signal.SIGTERM)
        found, expected = moved.finish(), undisturbed.finish()
        assert first.wait() == 0
    assert proxy.accepted == 2
    assert words([each["text"] for each in found]) == words([each["text"] for each in expected])
    assert [each["utterance"] for each in found] == list(range(1, len(found) + 1))


class Disturbed:
    """A run with a server and a proxy of its own."""

    def __init__(self, audio: Path, saved: Path, faults: int, kills: int, seed: int) -> None:
        self._audio, self._saved = audio, saved
        self._draw = random.Random(seed)
        self._faults: list[Fault | None] = [self._draw.choice(list(Fault)) for _ in range(faults)]
        """None: the server is killed and started again."""
        for place in self._draw.sample(range(faults), kills):
            self._faults[place] = None
        self.suffered: list[str] = []

    def run(self) -> list[dict[str, Any]]:
        """Transcribe, and break each connection after some seconds; returns the utterances."""
        with LiveServer() as server, ChaosProxy(server.port) as proxy:
            running = Transcription(proxy.url, self._audio, self._saved)
            for fault in self._faults:
                while not proxy.carried and running.runs:
                    time.sleep(0.1)
                time.sleep(self._draw.uniform(0.5, 4))
                if fault is None:
                    server.kill()
                    server.restart()
                elif not proxy.suffer(fault):
                    continue
                self.suffered.append("killed" if fault is None else fault.value)
            return running.finish(10 * WITHIN_S)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--faults", type=int, default=10, help="of each run")
    parser.add_argument("--kills", type=int, default=0, help="of these, how often the server is killed instead")
    parser.add_argument("--parallel", type=int, default=2, help="runs at once")
    parser.add_argument("--repeats", type=int, default=5, help="of the 27 s of speech")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, default=Path("broken-connections"), help="folder for the transcripts")
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    audio = given.work / "speech.wav"
    length_s = write_speech(audio, slice(None), given.repeats)
    with LiveServer() as server:
        undisturbed = Transcription(server.url, audio, given.work / "undisturbed.json", realtime=False).finish(length_s)
    texts = [each["text"] for each in undisturbed]
    runs = [
        Disturbed(audio, given.work / f"run-{number}.json", given.faults, given.kills, given.seed + number)
        for number in range(given.runs)
    ]
    equal = same_texts = same_words = 0
    with ThreadPoolExecutor(given.parallel) as pool:
        for run, found in zip(runs, pool.map(Disturbed.run, runs), strict=True):
            equal += found == undisturbed
            found_texts = [each["text"] for each in found]
            same_texts += found_texts == texts
            same_words += words(found_texts) == words(texts)
            result = "equal" if found == undisturbed else "same words"
            if words(found_texts) != words(texts):
                result = "DIFFERENT"
            print(f"{len(run.suffered)} broken ({', '.join(run.suffered)}): {result}", flush=True)
    print(
        f"{equal} of {given.runs} transcripts of {length_s:.0f} s equal the undisturbed one, with times and numbers; "
        f"{same_texts} have the same texts, {same_words} the same words"
    )
    return 0 if same_words == given.runs else 1


if __name__ == "__main__":
    raise SystemExit(main())

"""Speech for other people's clients, in any form, and whether they got what was said."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tests.server.test_stream import _encoded
from tests.support.wire import speech as samples_of

KEY = "sk-for-tests"
"""That the server asks these clients for."""


class Clips:
    """Two sentences that Whisper tiny gets right, as raw audio in any form."""

    def __init__(self, librivox: Path, folder: Path) -> None:
        entries = {
            entry["id"][-4:]: entry for entry in map(json.loads, (librivox / "manifest.jsonl").read_text().splitlines())
        }
        self._entries = [entries["0930"], entries["0870"]]
        self._librivox = librivox
        self._folder = folder

    def texts(self) -> list[str]:
        return [entry["text"] for entry in self._entries]

    def words(self, index: int) -> list[tuple[str, float, float]]:
        """A clip's words with the seconds where each begins and ends, as a forced alignment found them."""
        return [(word, start, end) for word, start, end in self._entries[index]["words"]]

    def raw(self, index: int, rate: int = 24_000, encoding: str = "s16le", silence_s: float = 0.0) -> str:
        """Path of a clip, silence added, without a header."""
        samples = samples_of(self._librivox / self._entries[index]["path"], rate)
        samples = np.concatenate([samples, np.zeros(round(silence_s * rate), np.int16)])
        path = self._folder / f"{index}-{rate}-{encoding}-{silence_s}.raw"
        path.write_bytes(_encoded(samples, encoding).tobytes())
        return str(path)

    def both(self, between_s: float, after_s: float) -> str:
        """Path of the two sentences at 16 kHz, silence between and after them."""
        path = self._folder / f"both-{between_s}-{after_s}.raw"
        parts = (Path(self.raw(index, 16_000, silence_s=(between_s, after_s)[index])).read_bytes() for index in (0, 1))
        path.write_bytes(b"".join(parts))
        return str(path)

    def dialogue(self) -> str:
        """Path of the first sentence and one of a second reader at 16 kHz, with a second of silence after each."""
        second = self._librivox.parent / "readers" / "1272-128104-0000.wav"
        pause = np.zeros(16_000, np.int16)
        first = np.fromfile(self.raw(1, 16_000), np.int16)
        path = self._folder / "dialogue.raw"
        path.write_bytes(np.concatenate([first, pause, samples_of(second), pause]).tobytes())
        return str(path)

    def side_by_side(self) -> str:
        """Path of the two sentences at 16 kHz, each on a channel of its own."""
        left, right = (np.fromfile(self.raw(index, 16_000), np.int16) for index in (0, 1))
        frames = np.zeros((max(len(left), len(right)), 2), np.int16)
        frames[: len(left), 0], frames[: len(right), 1] = left, right
        path = self._folder / "side-by-side.raw"
        path.write_bytes(frames.tobytes())
        return str(path)

    def silence(self, seconds: float) -> str:
        """Path of silence at 16 kHz."""
        path = self._folder / f"silence-{seconds}.raw"
        path.write_bytes(bytes(2 * round(16_000 * seconds)))
        return str(path)


def telephone(speech: Path | None, folder: Path) -> Iterator[tuple[str, str]]:
    """Announcements of a telephone exchange, where the machine has them: paths of raw µ-law at 8 kHz, and texts."""
    if speech is None:
        return
    lines = (speech / "telephone_8k" / "manifest.jsonl").read_text().splitlines()
    for entry in map(json.loads, lines[:8]):
        path = folder / f"{entry['id']}.raw"
        path.write_bytes(_encoded(samples_of(speech / "telephone_8k" / entry["path"], 8000), "mulaw").tobytes())
        yield str(path), entry["text"]

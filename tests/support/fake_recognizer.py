"""A recognizer for tests of the server that need no speech."""

from __future__ import annotations

from streaming_asr.core.recognizer import Capabilities, DecodeJob, Hypothesis
from tests.support.fakes import CAPABILITIES, read


class FakeRecognizer:
    """Reads as the fake recognizer of the core's tests does, at once.

    Args:
        text: read in all audio instead.
    """

    def __init__(self, text: str | None = None) -> None:
        self._text = text

    @property
    def capabilities(self) -> Capabilities:
        return CAPABILITIES

    async def start(self) -> None:
        pass

    async def decode(self, job: DecodeJob) -> Hypothesis:
        return read(job) if self._text is None else Hypothesis(tokens=(1,), pieces=(f" {self._text}",))

    def release(self, utterance: str) -> None:
        pass

    async def close(self) -> None:
        pass

"""A recognizer that recognizes nothing, so that what is measured is everything else."""

from __future__ import annotations

import asyncio
import functools

from streaming_asr.core.recognizer import SAMPLE_RATE, Capabilities, DecodeJob, Hypothesis

WORDS_PER_S = 2.5
"""How fast its text grows with the audio: about as people speak."""


class NullRecognizer:
    """Answers every job with as many fixed words as its audio is long.

    Args:
        concurrency: jobs at once.
        decode_s: seconds that it makes each job wait; 0 answers at once.
    """

    def __init__(self, concurrency: int = 64, decode_s: float = 0.0) -> None:
        self._decode_s = decode_s
        self.capabilities = Capabilities(
            name="null",
            model="null",
            device="none",
            concurrency=concurrency,
            max_audio_s=30.0,
            languages=("en",),
        )

    async def start(self) -> None:
        pass

    async def decode(self, job: DecodeJob) -> Hypothesis:
        if self._decode_s:
            await asyncio.sleep(self._decode_s)
        return null_hypothesis(job)

    def release(self, utterance: str) -> None:
        pass

    async def close(self) -> None:
        pass


def null_hypothesis(job: DecodeJob) -> Hypothesis:
    """The fixed words for a job; those of more audio begin with those of less."""
    return _words(int(len(job.audio) / SAMPLE_RATE * WORDS_PER_S))


@functools.lru_cache(maxsize=256)
def _words(count: int) -> Hypothesis:
    return Hypothesis(
        tokens=tuple(range(count)), pieces=tuple(f" word{number}" for number in range(count)), language="en"
    )

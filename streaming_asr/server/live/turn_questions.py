"""Turn detection of all connections: pauses are judged in threads, beside the event loop, while there is time for it.

A question is dropped if finals wait for the recognizer, if too many questions wait, or if it has waited for too long:
silence then decides alone, which costs the client some of its speed and nothing else.
"""

from __future__ import annotations

import asyncio
import enum
import logging
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from streaming_asr.core.recognizer import SAMPLE_RATE
from streaming_asr.core.turn import Pause, TurnDetector, TurnQuestion

logger = logging.getLogger(__name__)

THREADS = max(1, min(4, (os.cpu_count() or 1) // 4))
"""Pauses judged at once: a quarter of the cores, so that decodes keep the others."""
MOST_WAITING = 4 * THREADS
"""Questions that wait or are being answered. With more, an answer would come after the silence has decided."""
LATE_S = 0.25
"""A question that is this old when a thread takes it, or twice this old when it is answered, is dropped."""


class Outcome(str, enum.Enum):
    """What became of a question."""

    ANSWERED = "answered"
    DROPPED = "dropped"
    """Not asked: the server is overloaded."""
    LATE = "late"
    FAILED = "failed"
    """The detector raised an exception."""


class TurnPool:
    """Lives on one event loop.

    Args:
        overloaded: whether finals wait, so that nothing is asked.
        on_outcome: is called with the outcome of each question, for metrics.
    """

    def __init__(self, overloaded: Callable[[], bool], on_outcome: Callable[[str], None]) -> None:
        self._overloaded = overloaded
        self._on_outcome = on_outcome
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="turns")
        self._waiting = 0
        self._closed = False
        self._failing: set[str] = set()
        """Types of detectors whose failure was logged since they last answered."""

    async def warm_up(self, detector: TurnDetector) -> None:
        """Have a detector judge silence, so that it loads what it needs: its first answers would else come too late."""
        silence = Pause(np.zeros(SAMPLE_RATE, np.float32), 1000, "", None)
        try:
            await asyncio.get_running_loop().run_in_executor(self._threads, detector.probability, silence)
        except Exception:
            logger.exception("The turn detector %s failed on silence", type(detector).__qualname__)

    def ask(self, question: TurnQuestion, on_answer: Callable[[float], None]) -> None:
        """Have a pause judged, if there is time.

        Args:
            on_answer: is called on the event loop with the probability that the speaker is done, 0..1; or never.
        """
        if self._closed:
            return
        if self._waiting >= MOST_WAITING or self._overloaded():
            self._on_outcome(Outcome.DROPPED.value)
            return
        asked = time.monotonic()
        answer = asyncio.get_running_loop().run_in_executor(self._threads, _answer, question, asked)
        self._waiting += 1
        answer.add_done_callback(lambda answer: self._answered(answer, question, asked, on_answer))

    def close(self) -> None:
        """Ask nothing from now on, and drop what waits."""
        self._closed = True
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _answered(
        self,
        answer: asyncio.Future[float | None],
        question: TurnQuestion,
        asked: float,
        on_answer: Callable[[float], None],
    ) -> None:
        self._waiting -= 1
        if self._closed or answer.cancelled():
            return
        detector = type(question.detector).__qualname__
        error = answer.exception()
        if error is not None:
            self._on_outcome(Outcome.FAILED.value)
            if detector not in self._failing:
                self._failing.add(detector)
                logger.error("The turn detector %s failed; silence decides until it answers", detector, exc_info=error)
            return
        self._failing.discard(detector)
        probability = answer.result()
        if probability is None or time.monotonic() - asked > 2 * LATE_S:
            self._on_outcome(Outcome.LATE.value)
            return
        self._on_outcome(Outcome.ANSWERED.value)
        on_answer(probability)


def _answer(question: TurnQuestion, asked: float) -> float | None:
    """The probability; None if it is too late to find out. Runs in a thread.

    Raises:
        ValueError: the detector's answer is not a probability.
    """
    if time.monotonic() - asked > LATE_S:
        return None
    probability = float(question.answer())
    if not 0 <= probability <= 1:
        raise ValueError(f"a turn detector answered {probability:g}, which is not a probability")
    return probability

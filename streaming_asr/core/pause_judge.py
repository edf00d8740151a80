"""What one channel asks of its turn detector at a pause, and what it makes of the answers."""

from __future__ import annotations

from streaming_asr.core.options import SessionOptions
from streaming_asr.core.phrase import phrase_of
from streaming_asr.core.recognizer import Hypothesis
from streaming_asr.core.turn import Pause, TurnDetector, TurnQuestion
from streaming_asr.core.turn_policy import Evidence, Verdict, judge


class PauseJudge:
    """Of one channel. A pause begins with its first question and is over with `reset`.

    Args:
        channel: its index.
        detector: None where silence alone decides.
    """

    def __init__(self, channel: int, detector: TurnDetector | None) -> None:
        self._channel = channel
        self._detector = detector
        self._count = 0
        """Questions asked so far."""
        self._question: TurnQuestion | None = None
        """The latest of this pause, if it has not been taken."""
        self._oldest = 1
        """Number of the oldest question whose answer still counts."""
        self._probability: float | None = None
        self.verdict: Verdict | None = None
        """Of this pause; None while silence alone decides."""
        self.eager = False
        """Whether an eager end of the turn was sent at this pause."""

    def asks_at_ms(self, options: SessionOptions) -> tuple[int, ...]:
        """Lengths of the silence at which to `ask`."""
        return () if self._detector is None or options.endpoint_ms is None else self._detector.asks_at_ms

    def reconfigure(self, detector: TurnDetector | None, options: SessionOptions) -> None:
        """Use another detector from here on. Where these options ask none, what is known of this pause is dropped."""
        self._detector = detector
        if not self.asks_at_ms(options):
            self._drop_answers()

    def ask(self, pause: Pause) -> None:
        if self._detector is not None:
            self._count += 1
            self._question = TurnQuestion(self._channel, self._count, self._detector, pause)

    def take_question(self) -> TurnQuestion | None:
        """The latest question of this pause, once."""
        question, self._question = self._question, None
        return question

    def answered(self, question: TurnQuestion, probability: float) -> bool:
        """Take an answer; returns whether it counts: not if speech went on, or a later question was answered."""
        if question.number < self._oldest:
            return False
        self._oldest = question.number + 1
        self._probability = probability
        return True

    def weigh(self, result: Hypothesis | None, options: SessionOptions) -> Verdict | None:
        """The verdict on what is known by now; None if nothing was answered.

        Args:
            result: of the whole utterance, if it has been decoded.
        """
        if self._probability is not None:
            text, language = ("", None) if result is None else (result.text, result.language)
            self.verdict = judge(Evidence(self._probability, phrase_of(text, language)), options)
        return self.verdict

    def reset(self) -> None:
        """The pause is over: answers that are still to come do not count."""
        self._drop_answers()
        self.eager = False

    def _drop_answers(self) -> None:
        self._question = None
        self._oldest = self._count + 1
        self._probability = self.verdict = None

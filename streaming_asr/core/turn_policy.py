"""How long a pause must last to end an utterance, given what is known of it."""

from __future__ import annotations

from dataclasses import dataclass

from streaming_asr.core.options import SessionOptions
from streaming_asr.core.phrase import Phrase

MID_PHRASE = -0.3
"""What a text that stops in mid-phrase adds to the probability that the turn is over."""
SENTENCE_END = 0.05
"""The same for one that ends with a sentence. It says little: recognizers write a full stop at the end of any audio."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known at a pause."""

    probability: float
    """That the speaker is done, as the turn detector estimates it, 0..1."""
    phrase: Phrase
    """How the text of the whole utterance stops."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What follows for the pause."""

    probability: float
    """That the turn is over, 0..1, all evidence taken together."""
    wait_ms: float
    """How long the silence must last in all."""
    over: bool
    """Whether the turn counts as over, so that no more than the usual silence is needed."""


def judge(evidence: Evidence, options: SessionOptions) -> Verdict:
    """Weigh the evidence.

    The wait falls from `endpoint_max_ms` at probability 0 to `endpoint_ms` at `turn_threshold`, and from there to
    `endpoint_min_ms` halfway to certainty.
    """
    usual = options.endpoint_ms or 0
    least, most = min(options.endpoint_min_ms, usual), max(options.endpoint_max_ms, usual)
    probability = evidence.probability
    if evidence.phrase is Phrase.OPEN:
        probability += MID_PHRASE
    elif evidence.phrase is Phrase.SENTENCE:
        probability += SENTENCE_END
    probability = min(1.0, max(0.0, probability))
    threshold = options.turn_threshold
    if probability < threshold:
        return Verdict(probability, most + (usual - most) * probability / threshold, over=False)
    surplus = 1.0 if threshold >= 1 else min(1.0, 2 * (probability - threshold) / (1 - threshold))
    return Verdict(probability, usual + (least - usual) * surplus, over=True)

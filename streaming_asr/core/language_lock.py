"""When a language that each decode detects anew is certain: within one utterance, and from utterance to utterance.

Decodes of one or two seconds often take one language for another. Text in the wrong language is wrong from its first
word, so a partial whose language is in doubt is not shown, and the language is forced once it is certain. A final
covers the whole utterance and detects the language again, unless the whole channel has one.
"""

from __future__ import annotations

from collections import defaultdict

from streaming_asr.core.recognizer import Hypothesis

LOCK_AFTER = 2
"""Number of confident detections in a row, all of one language, after which that language is forced."""
LOCK_PROBABILITY = 0.8
EARLY_PROBABILITY = 0.95
"""As `LOCK_PROBABILITY`, for the partials of an utterance that is shorter than `LONGEST_DOUBT_MS`."""
LONGEST_DOUBT_MS = 3_000
"""Speech of an utterance after which its partials keep to the likeliest language, certain or not."""
LONGEST_UNSURE_MS = 8_000
"""As `LONGEST_DOUBT_MS`, for a language in which all texts so far are unsure: until then it is detected again."""
UNSURE_WEIGHT = 0.25
"""Of the detection with an unsure text, which is often in a wrong language, beside those of other texts."""


def is_confident(hypothesis: Hypothesis, least: float = LOCK_PROBABILITY) -> bool:
    """Whether the language of a hypothesis is likely enough to count; one without a probability is."""
    return hypothesis.language_probability is None or hypothesis.language_probability >= least


class LanguageLock:
    """Confident detections in a row, until `LOCK_AFTER` of them agree.

    Args:
        least: probability of a detection that counts.
    """

    def __init__(self, least: float = LOCK_PROBABILITY) -> None:
        self._least = least
        self.locked: str | None = None
        """ISO 639-1 code of the language that is certain, or None."""
        self._last: str | None = None
        self._count = 0

    def add(self, hypothesis: Hypothesis) -> None:
        """Count a hypothesis; one that is in doubt begins the count anew."""
        if self.locked is not None or hypothesis.language is None:
            return
        if not is_confident(hypothesis, self._least):
            self._last, self._count = None, 0
            return
        self._count = self._count + 1 if hypothesis.language == self._last else 1
        self._last = hypothesis.language
        if self._count >= LOCK_AFTER:
            self.locked = self._last


class UtteranceLanguage:
    """The language of an open utterance, for its partials."""

    def __init__(self) -> None:
        self._lock = LanguageLock(EARLY_PROBABILITY)
        self._likely: defaultdict[str, float] = defaultdict(float)
        """Sum of probabilities by language."""
        self._believed: set[str] = set()
        """Languages in which a text was not unsure."""
        self._settled: str | None = None

    @property
    def certain(self) -> str | None:
        """ISO 639-1 code of the language to force, or None while it is in doubt."""
        return self._settled or self._lock.locked

    def add(self, hypothesis: Hypothesis, speech_ms: float, shown: str | None) -> bool:
        """Count a hypothesis of the utterance; returns whether its text should be shown.

        Args:
            speech_ms: length of the speech that was decoded.
            shown: language of the text that is shown; None if there is none.
        """
        language = hypothesis.language
        if language is None:
            return True
        probability = hypothesis.language_probability
        weight = UNSURE_WEIGHT if hypothesis.unsure else 1.0
        self._likely[language] += weight * (1.0 if probability is None else probability)
        if not hypothesis.unsure:
            self._believed.add(language)
        if speech_ms < LONGEST_DOUBT_MS:
            self._lock.add(hypothesis)
        elif self.certain is None:
            likeliest = max(self._likely, key=self._likely.__getitem__)
            if is_confident(hypothesis) and not hypothesis.unsure:
                self._settled = language
            elif likeliest in self._believed or speech_ms >= LONGEST_UNSURE_MS:
                self._settled = likeliest
        if self.certain is not None:
            return language == self.certain
        return is_confident(hypothesis) or language == shown

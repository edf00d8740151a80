"""What the recognizer is given besides the audio: the client's keywords and text, earlier finals, and the language."""

from __future__ import annotations

from collections import deque

from streaming_asr.core.options import SessionOptions
from streaming_asr.core.recognizer import Context, Hypothesis
from streaming_asr.core.scripts import joined, lower_words

MAX_PREVIOUS_CHARS = 400
"""Characters of earlier finals given to the recognizer, at most: those of the latest ones."""
LOCK_AFTER = 2
"""Number of confident finals in a row, all of one language, after which that language is forced."""
LOCK_PROBABILITY = 0.8
LOCK_WORDS = 3
"""A final of fewer words does not count: its language is too uncertain."""


class ContextWindow:
    """Context and language of one channel's next job.

    Args:
        rolling: whether earlier finals are given to the recognizer; then each final must wait for the one before.
    """

    def __init__(self, options: SessionOptions, *, rolling: bool) -> None:
        self._finals: deque[str] = deque()
        self._chars = 0
        self._run: tuple[str | None, int] = (None, 0)
        self._locked: str | None = None
        self.reconfigure(options, rolling=rolling)

    def reconfigure(self, options: SessionOptions, *, rolling: bool) -> None:
        """Use other options from the next job on."""
        if options.language is not None:
            self._locked = None
            self._run = (None, 0)
        self._options = options
        self.rolling = rolling

    @property
    def language(self) -> str | None:
        """Language forced on the next job: the client's choice, else the detected one once it is certain, else None."""
        return self._options.language or self._locked

    def build(self) -> Context:
        """The context of the next job."""
        previous = joined(self._finals) if self.rolling else ""
        return Context(text=self._options.context, keywords=self._options.keywords, previous=previous)

    def add_final(self, text: str, hypothesis: Hypothesis) -> None:
        """Take a final: its text becomes context, and its language counts."""
        if not text:
            return
        self._finals.append(text[-MAX_PREVIOUS_CHARS:])
        self._chars += len(self._finals[-1])
        while self._chars > MAX_PREVIOUS_CHARS and len(self._finals) > 1:
            self._chars -= len(self._finals.popleft())
        self._learn_language(text, hypothesis)

    def _learn_language(self, text: str, hypothesis: Hypothesis) -> None:
        probability = hypothesis.language_probability
        confident = probability is None or probability >= LOCK_PROBABILITY
        if self.language is not None or hypothesis.language is None or len(lower_words(text)) < LOCK_WORDS:
            return
        language, count = self._run
        if not confident:
            self._run = (None, 0)
        elif hypothesis.language == language:
            self._run = (language, count + 1)
        else:
            self._run = (hypothesis.language, 1)
        if self._run[1] >= LOCK_AFTER:
            self._locked = self._run[0]

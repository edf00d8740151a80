"""What the recognizer is given besides the audio: the client's keywords and text, earlier finals, and the language."""

from __future__ import annotations

from collections import deque

from streaming_asr.core.language_lock import LanguageLock
from streaming_asr.core.options import SessionOptions
from streaming_asr.core.recognizer import Context, Hypothesis
from streaming_asr.core.scripts import joined, lower_words

MAX_PREVIOUS_CHARS = 400
"""Characters of earlier finals given to the recognizer, at most: those of the latest ones."""
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
        self._lock = LanguageLock()
        self.reconfigure(options, rolling=rolling)

    def reconfigure(self, options: SessionOptions, *, rolling: bool) -> None:
        """Use other options from the next job on."""
        if options.language is not None:
            self._lock = LanguageLock()
        self._options = options
        self.rolling = rolling

    @property
    def language(self) -> str | None:
        """Language forced on the next job: the client's choice, else the detected one once it is certain, else None."""
        return self._options.language or self._lock.locked

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
        # A few words are too short to be sure of.
        if self._options.language is None and len(lower_words(text)) >= LOCK_WORDS:
            self._lock.add(hypothesis)

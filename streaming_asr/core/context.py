"""What the recognizer is told besides the audio: the client's words, earlier finals, a language once it is sure."""

from __future__ import annotations

from collections import deque

from streaming_asr.core.options import SessionOptions
from streaming_asr.core.recognizer import Context, Hypothesis
from streaming_asr.core.scripts import find_words, joined

MAX_PREVIOUS_CHARS = 400
"""Earlier finals are told up to this many characters, the latest ones."""
LOCK_AFTER = 2
"""Confident finals of one language, in a row, after which it is kept."""
LOCK_PROBABILITY = 0.8
LOCK_WORDS = 3
"""A shorter final says too little about its language."""

FASTEST_SPEECH_S = 0.12
"""Seconds a spoken word takes at the very least."""


def words_of(text: str) -> list[str]:
    """Lower-case words without punctuation; a character each in scripts without spaces."""
    return [word.group() for word in find_words(text.lower())]


class ContextWindow:
    """Context and language of one channel, for its next job."""

    def __init__(self, options: SessionOptions, *, rolling: bool) -> None:
        self._finals: deque[str] = deque()
        self._chars = 0
        self._run: tuple[str | None, int] = (None, 0)
        self._locked: str | None = None
        self.reconfigure(options, rolling=rolling)

    def reconfigure(self, options: SessionOptions, *, rolling: bool) -> None:
        if options.language is not None:
            self._locked = None
            self._run = (None, 0)
        self._options = options
        self.rolling = rolling
        """Whether earlier finals are told; then each final must wait for the one before."""

    @property
    def language(self) -> str | None:
        """What the next job is forced to: the client's choice, else the locked one, else None."""
        return self._options.language or self._locked

    def build(self) -> Context:
        previous = joined(self._finals) if self.rolling else ""
        return Context(text=self._options.context, keywords=self._options.keywords, previous=previous)

    def add_final(self, text: str, hypothesis: Hypothesis) -> None:
        """Learn from a published final."""
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
        if self.language is not None or hypothesis.language is None or len(words_of(text)) < LOCK_WORDS:
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


def is_echo(text: str, context: Context, voiced_s: float) -> bool:
    """Whether a text looks like the context given back rather than speech.

    It does when the whole of it stands in the context and it either lists several keywords as they were given, or
    has more words than could be said in the voiced time. The caller decodes again without context, so a wrong
    suspicion costs a decode, not words.
    """
    said = words_of(text)
    if len(said) < 2:
        return False
    lists_keywords = len(context.keywords) > 1 and _holds(
        [word for keyword in context.keywords for word in words_of(keyword)], said
    )
    if lists_keywords and not any(words_of(keyword) == said for keyword in context.keywords):
        return True
    told = _holds(words_of(context.text), said) or _holds(words_of(context.previous), said)
    return told and voiced_s < FASTEST_SPEECH_S * len(said)


def _holds(words: list[str], part: list[str]) -> bool:
    return any(words[i : i + len(part)] == part for i in range(len(words) - len(part) + 1))

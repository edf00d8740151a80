"""The guard against echoes: a model that recognizes little may repeat its context instead.

It is the one guard on texts that the core has, since only the core knows the context that was given and how long
somebody spoke. Those against silence and loops are in `recognizers.common.guards`.
"""

from __future__ import annotations

from streaming_asr.core.recognizer import Context
from streaming_asr.core.scripts import lower_words

FASTEST_SPEECH_S = 0.12
"""Shortest duration of a spoken word, seconds."""


def is_echo(text: str, context: Context, voiced_s: float) -> bool:
    """Whether a text repeats the context rather than speech.

    It does when all of it is in the context, and it either lists several keywords in their order, or has more words
    than can be spoken in the voiced time. The caller then decodes again without context, so a wrong suspicion costs a
    decode and loses no words.
    """
    words = lower_words(text)
    if len(words) < 2:
        return False
    lists_keywords = len(context.keywords) > 1 and _contains(
        [word for keyword in context.keywords for word in lower_words(keyword)], words
    )
    if lists_keywords and not any(lower_words(keyword) == words for keyword in context.keywords):
        return True
    in_context = _contains(lower_words(context.text), words) or _contains(lower_words(context.previous), words)
    return in_context and voiced_s < FASTEST_SPEECH_S * len(words)


def _contains(words: list[str], part: list[str]) -> bool:
    return any(words[i : i + len(part)] == part for i in range(len(words) - len(part) + 1))

"""What every Whisper has in common, whatever engine runs it: its window, its prompt, its limits and its guards.

The prompt is that of openai/whisper (``decoding.py``):
``<|startofprev|> context <|startoftranscript|> <|en|> <|transcribe|> <|notimestamps|> text``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

from streaming_asr.core.recognizer import SAMPLE_RATE, Context, DecodeFailed, DecodeJob
from streaming_asr.recognizers.common.guards import Repetition, Silence

WINDOW_S = 30.0
"""Seconds of audio that Whisper was trained on, and the most that it takes."""
SHORTEST_S = 0.1
"""Seconds of audio below which there is no word; it is not decoded."""
POSITIONS = 448
"""Decoder positions: prompt, text and end together."""
LONGEST_CONTEXT = POSITIONS // 2 - 1
"""Tokens of context before the transcript. The limit is Whisper's own."""
LONGEST_BACKGROUND = LONGEST_CONTEXT // 2
"""Tokens of these for text and keywords where earlier finals need the rest."""
TOKENS_PER_S = 10
"""More English than anybody speaks; what is longer is a loop."""
TOKENS_PER_S_ANY_LANGUAGE = 20
"""Scripts that the vocabulary spells byte by byte need more."""
SPARE_TOKENS = 16
PLAUSIBLE_TOKENS_PER_S = 6
"""Fast speech. A text that still repeats itself after the last attempt is believed up to here."""

ENGLISH_ONLY_END = 50256
"""Id of the end token in the English-only vocabulary, which is one token shorter than the others."""

GUARDS = (Silence(), Repetition(PLAUSIBLE_TOKENS_PER_S))


class WhisperPrompt:
    """Builds prompts for one vocabulary.

    Args:
        token_id: returns the id of an entry of the vocabulary, or None for an entry that it lacks.
        encode: turns text into token ids. Text that spells a special token may become that token.
        codes: ISO 639-1 codes of the languages that a Whisper may know.

    Raises:
        ValueError: the vocabulary is not a Whisper's; the message says what is missing.
    """

    def __init__(
        self, token_id: Callable[[str], int | None], encode: Callable[[str], Sequence[int]], codes: Iterable[str]
    ) -> None:
        self._token_id = token_id
        self._encode = encode
        self._end = self._special("<|endoftext|>")
        self.transcript = self._special("<|startoftranscript|>")
        """The token that the transcript starts with. The model answers it with the language."""
        self._earlier = self._special("<|startofprev|>")
        self._no_timestamps = self._special("<|notimestamps|>")
        self.languages: tuple[str, ...] = ("en",)
        """ISO 639-1 codes that the model knows; a single one for an English-only model."""
        if self._end != ENGLISH_ONLY_END:
            self.languages = tuple(code for code in codes if token_id(f"<|{code}|>") is not None)

    def is_text(self, token: int) -> bool:
        """Whether a token is text; the end, tags and timestamps are not."""
        return token < self._end

    def language(self, code: str) -> int:
        """The token of a language."""
        return self._special(f"<|{code}|>")

    def head(self, language: str) -> list[int]:
        """The tokens that a transcript in `language` starts with."""
        # English-only models know neither language nor task, and read their tokens as noise.
        if len(self.languages) == 1:
            return [self.transcript]
        return [self.transcript, self.language(language), self._special("<|transcribe|>")]

    def start(self, language: str, context: Sequence[int] = ()) -> list[int]:
        """All tokens before the text.

        Args:
            context: from `context`.
        """
        before = [self._earlier, *context] if context else []
        return [*before, *self.head(language), self._no_timestamps]

    def context(self, context: Context) -> list[int]:
        """Tokens of the context, at most `LONGEST_CONTEXT`, the most recent last.

        Where not all of it has a place, earlier finals lose their oldest words first; text and keywords are cut at
        `LONGEST_BACKGROUND`.
        """
        background = self._text(f"{_sentence(context.text)} {_sentence(', '.join(context.keywords))}")
        previous = self._text(context.previous)
        background = background[: max(LONGEST_BACKGROUND, LONGEST_CONTEXT - len(previous))]
        room = LONGEST_CONTEXT - len(background)
        return background + previous[max(0, len(previous) - room) :]

    def _text(self, text: str) -> list[int]:
        text = text.strip()
        return [token for token in self._encode(f" {text}") if self.is_text(token)] if text else []

    def _special(self, token: str) -> int:
        found = self._token_id(token)
        if found is None:
            raise ValueError(f"its tokenizer has no {token}")
        return found


def check(job: DecodeJob, languages: Sequence[str]) -> None:
    """Refuse a job that no Whisper, or not one of these languages, can decode.

    Raises:
        DecodeFailed: the audio is too long, or the language unknown.
    """
    seconds = len(job.audio) / SAMPLE_RATE
    if seconds > WINDOW_S:
        raise DecodeFailed(f"Whisper takes at most {WINDOW_S:.0f} s of audio; the utterance has {seconds:.1f} s.")
    if job.language is not None and job.language not in languages:
        raise DecodeFailed(f"The model does not know the language {job.language!r}, only {', '.join(languages)}.")


def longest_text(language: str, audio_s: float, prefix: int) -> int:
    """Tokens that a text may have before it is taken for a loop, its forced prefix of `prefix` tokens included."""
    rate = TOKENS_PER_S if language == "en" else TOKENS_PER_S_ANY_LANGUAGE
    return max(prefix, math.ceil(rate * audio_s)) + SPARE_TOKENS


def _sentence(text: str) -> str:
    """`text` with an end: after an open one the transcript would go on in lower case."""
    text = text.strip()
    return f"{text}." if text and text[-1].isalnum() else text

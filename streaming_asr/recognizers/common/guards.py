"""Guards on a decoded text: each keeps the tokens that can be speech. A recognizer lists those that it uses.

| guard        | against                                     | used by |
| ------------ | ------------------------------------------- | --- |
| `is_silent`  | decoding audio in which nothing can be said | all |
| `loops`      | a decode that ran into a loop: decode again | all |
| `Silence`    | a text made up from silence                 | those whose decoder reports a probability of no speech |
| `Repetition` | loops that decoding again did not remove    | all |

One more guard needs what only the core knows, the context that was given and how long somebody spoke: `core.echo` finds
texts that repeat the context.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from streaming_asr.core.recognizer import SAMPLE_RATE, Audio
from streaming_asr.recognizers.common.repetition import collapse, find_loop


@dataclass(frozen=True, slots=True)
class Draft:
    """What a decoder generated, before the guards."""

    tokens: tuple[int, ...]
    """Of the text, a forced prefix included."""
    complete: bool
    """False when the length limit ended the text rather than the model."""
    audio_s: float
    """Seconds of audio that were decoded, without padding."""
    mean_logprob: float | None = None
    """Natural logarithm, over the tokens and the end; None where the decoder does not report it."""
    no_speech: float | None = None
    """Probability that nobody speaks; None where the decoder does not report it."""


Guard = Callable[[Draft], Sequence[int]]
"""Takes a draft and returns the indices of the tokens that stay, in order."""


def kept(draft: Draft, guards: Sequence[Guard]) -> list[int]:
    """Indices of the tokens that stay after all `guards`, each of which sees what those before it kept."""
    indices = list(range(len(draft.tokens)))
    for guard in guards:
        indices = [indices[n] for n in guard(replace(draft, tokens=tuple(draft.tokens[n] for n in indices)))]
    return indices


def is_silent(audio: Audio, shortest_s: float = 0.0) -> bool:
    """Whether nothing can be said in the audio: it is digital silence, or shorter than `shortest_s` seconds."""
    return len(audio) < shortest_s * SAMPLE_RATE or not audio.any()


def loops(tokens: Sequence[int], complete: bool) -> bool:
    """Whether a decode ran into a loop: it repeats itself, or had to be stopped by the length limit."""
    return not complete or find_loop(tokens) is not None


@dataclass(frozen=True, slots=True)
class Silence:
    """Keeps nothing of a text that the decoder itself doubts and whose audio it takes for silence.

    The rule and its numbers are those of Whisper (openai/whisper, ``transcribe.py``).
    """

    no_speech: float = 0.6
    """Probability of no speech above which a text is doubted."""
    logprob: float = -1.0
    """Mean log-probability below which a doubted text is dropped."""

    def __call__(self, draft: Draft) -> Sequence[int]:
        if draft.no_speech is None or draft.mean_logprob is None:
            return range(len(draft.tokens))
        silent = draft.no_speech > self.no_speech and draft.mean_logprob < self.logprob
        return range(0 if silent else len(draft.tokens))


@dataclass(frozen=True, slots=True)
class Repetition:
    """Keeps each loop once."""

    plausible_tokens_per_s: float = 0.0
    """Fast speech. A whole text at this rate or below is kept as it is: to say the same word a dozen times takes a
    while."""

    def __call__(self, draft: Draft) -> Sequence[int]:
        if draft.complete and len(draft.tokens) <= self.plausible_tokens_per_s * draft.audio_s:
            return range(len(draft.tokens))
        return collapse(draft.tokens)

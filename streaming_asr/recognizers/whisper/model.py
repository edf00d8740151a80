"""Whisper under CTranslate2: features, encoder, prompts, decoder, alignment. Calls block; threads may share a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ctranslate2
import numpy as np
from faster_whisper import WhisperModel
from numpy.typing import NDArray

from streaming_asr.core.recognizer import Audio
from streaming_asr.recognizers.common.token_text import TokenText
from streaming_asr.recognizers.whisper.prompt import POSITIONS, WhisperPrompt

FRAMES_PER_S = 100
"""Frames of the spectrogram; the encoder halves them."""
LONGEST_TEXT = POSITIONS // 2
"""Tokens of text that CTranslate2 generates at most, the forced prefix included."""

Features = NDArray[np.float32]
"""Log-mel spectrogram, shape ``[mel bins, frames]``."""
Encoding = Any
"""What the encoder made of an utterance: CTranslate2's storage, shape ``[1, frames / 2, d_model]``."""


@dataclass(frozen=True, slots=True)
class Draft:
    """What one pass of the decoder gave."""

    tokens: tuple[int, ...]
    """Of the text, the forced prefix included."""
    logprobs: tuple[float, ...] | None
    """Of each token; None where the beam is wider than one."""
    mean_logprob: float
    """Over the tokens and the end."""
    no_speech: float
    complete: bool
    prompt_tokens: int


class CTranslate2Whisper:
    """Whisper weights, loaded.

    Args:
        weights: folder of a CTranslate2 Whisper.
        device: ``cpu`` or ``cuda``.
        compute_type: CTranslate2's name of the arithmetic, such as ``int8``.
        workers: calls that run at once.
        threads_per_worker: CPU threads of each.
    """

    def __init__(self, weights: Path, *, device: str, compute_type: str, workers: int, threads_per_worker: int) -> None:
        whisper = WhisperModel(
            str(weights),
            device=device,
            compute_type=compute_type,
            cpu_threads=threads_per_worker,
            num_workers=workers,
            local_files_only=True,
        )
        self._model: Any = whisper.model
        self._features = whisper.feature_extractor
        tokenizer = whisper.hf_tokenizer
        self.prompt = WhisperPrompt(
            tokenizer.token_to_id,
            lambda text: tokenizer.encode(text, add_special_tokens=False).ids,
            whisper.supported_languages,
        )
        self.text = TokenText(tokenizer.id_to_token)

    @property
    def languages(self) -> tuple[str, ...]:
        """ISO 639-1 codes that the model knows."""
        return self.prompt.languages

    def close(self) -> None:
        """Free the weights. No call may be running."""
        self._model.unload_model()

    def features(self, audio: Audio) -> Features:
        """Spectrogram of `audio`, not padded."""
        features: Features = self._features(audio, padding=0)
        return features

    def encode(self, features: Features, seconds: float) -> Encoding:
        """Run the encoder on `features`, padded with silence to `seconds` where they are shorter.

        The encoder takes any length up to 30 s, though it was trained on nothing but 30 s.
        """
        bins, frames = features.shape
        # The spectrogram is clipped at 8 decades, scaled to 2, below its highest: that is what digital silence becomes.
        silence = features.max() - 2.0
        padded = np.full((1, bins, max(frames, round(seconds * FRAMES_PER_S))), silence, dtype=np.float32)
        padded[0, :, :frames] = features
        return self._model.encode(ctranslate2.StorageView.from_array(padded))

    def detect_languages(self, encoding: Encoding) -> list[tuple[str, float]]:
        """ISO 639-1 codes and probabilities of all languages, the likeliest first."""
        if len(self.languages) == 1:
            return [(self.languages[0], 1.0)]
        found = self._model.detect_language(encoding)[0]
        return [(token.strip("<|>"), float(probability)) for token, probability in found]

    def generate(
        self,
        encoding: Encoding,
        *,
        language: str,
        context: Sequence[int] = (),
        prefix: Sequence[int] = (),
        max_tokens: int,
        beam_size: int = 1,
    ) -> Draft:
        """Decode text.

        Args:
            context: from `WhisperPrompt.context`.
            prefix: tokens that the text starts with.
            max_tokens: of the text, `prefix` included.
        """
        start = self.prompt.start(language, context)
        max_tokens = min(max_tokens, LONGEST_TEXT, POSITIONS - len(start))
        result = self._model.generate(
            encoding,
            [start + list(prefix)],
            beam_size=beam_size,
            # CTranslate2 stops at half of it, or at what the prompt leaves of it.
            max_length=max(2 * max_tokens, max_tokens + len(start)),
            return_scores=True,
            return_no_speech_prob=True,
            return_logits_vocab=beam_size == 1,
        )[0]
        generated = result.sequences_ids[0]
        kept = [n for n, token in enumerate(generated) if self.prompt.is_text(token)]
        logprobs = None
        if beam_size == 1:
            logprobs = tuple(_logprob(np.asarray(result.logits[0][n]), generated[n]) for n in kept)
        return Draft(
            tokens=tuple(generated[n] for n in kept),
            logprobs=logprobs,
            mean_logprob=float(result.scores[0]),
            no_speech=float(result.no_speech_prob),
            complete=len(generated) < max_tokens,
            prompt_tokens=len(start) + len(prefix),
        )

    def align(
        self, encoding: Encoding, tokens: Sequence[int], *, language: str, frames: int
    ) -> tuple[list[tuple[int, int]], list[float]]:
        """Where the tokens lie in the audio.

        Args:
            frames: of the spectrogram, without padding.

        Returns:
            The path of (token, encoder frame) pairs, whose last token stands for the end; each token's probability.
        """
        result = self._model.align(encoding, self.prompt.head(language), [list(tokens)], frames)[0]
        return result.alignments, result.text_token_probs


def _logprob(logits: NDArray[np.float32], token: int) -> float:
    highest = logits.max()
    return float(logits[token] - highest - np.log(np.exp(logits - highest).sum()))

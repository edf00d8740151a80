"""Qwen3-ForcedAligner (arXiv 2601.21337) under vLLM: from a text and its audio to the times of its words.

The prompt is the audio and then the units of the text, each with two ``<timestamp>`` tokens after it. One pass of the
model classifies these: which step of 80 ms the unit starts in, and which it ends in.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from streaming_asr.core.mel import HOP
from streaming_asr.core.recognizer import SAMPLE_RATE, Audio, TimesFrom, Word
from streaming_asr.recognizers.vllm.device import Device
from streaming_asr.recognizers.vllm.models.align_times import in_order
from streaming_asr.recognizers.vllm.models.align_units import Morphemes, Unit, group_words, split_units
from streaming_asr.recognizers.vllm.models.base import Classification
from streaming_asr.recognizers.vllm.models.qwen3_audio import audio_tokens

LANGUAGES = ("zh", "en", "yue", "fr", "de", "it", "ja", "ko", "pt", "ru", "es")
"""ISO 639 codes of the languages that the model was trained on."""
MAX_AUDIO_S = 300
"""Longest audio that the model was trained on, seconds."""
SHORTEST_SAMPLES = SAMPLE_RATE // 2
"""Shorter audio is padded with silence, as Qwen's own package does."""
TIMESTAMP = "<timestamp>"
POSITIONS = 8192
"""For the engine: 3,900 for `MAX_AUDIO_S` of audio, the rest for the text."""
KV_CACHE_BYTES = 2 << 30
"""Of the engine: two requests of `POSITIONS` with the released model, in 16 bits; those of usual utterances are a
twentieth of that."""
LEAST_SHARE = 0.04
"""Of the device's memory. With a fixed key-value cache vLLM only checks that this much is free."""
_BEFORE, _AUDIO, _AFTER = "<|audio_start|>", "<|audio_pad|>", "<|audio_end|>"


class CannotAlign(ValueError):
    """The text can't be aligned with the audio. The message is for the log."""


@dataclass(frozen=True, slots=True)
class Alignment:
    """A text that is ready to be aligned."""

    text: str
    units: Sequence[Unit]
    question: Classification
    """Has two answers for each unit."""


class Qwen3Aligner:
    """The model's side of a word aligner. Its methods block, and may be called in one thread at a time.

    Args:
        tokenizer: Transformers' fast tokenizer of the checkpoint.
        config: the checkpoint's ``config.json``.
        max_model_len: positions of the engine.
        morphemes: for Japanese; without it there is no Japanese.

    Raises:
        ValueError: the checkpoint is not a forced aligner; the message says what is missing.
    """

    def __init__(
        self, tokenizer: Any, config: Mapping[str, Any], *, max_model_len: int, morphemes: Morphemes | None = None
    ) -> None:
        # A copy: they must not be used by two threads at once, and vLLM uses this one, too.
        self._tokenizer = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
        vocabulary = self._tokenizer.get_vocab()
        for token in (_BEFORE, _AUDIO, _AFTER, TIMESTAMP):
            if token not in vocabulary:
                raise ValueError(f"its tokenizer has no {token}")
        self._audio = [vocabulary[token] for token in (_BEFORE, _AUDIO, _AFTER)]
        self._timestamp: int = vocabulary[TIMESTAMP]
        if config.get("timestamp_token_id") != self._timestamp:
            raise ValueError(f"its config.json has no timestamp_token_id {self._timestamp}, which is {TIMESTAMP}")
        step, classes = config.get("timestamp_segment_time"), config.get("thinker_config", {}).get("classify_num")
        if not step or not classes:
            raise ValueError("its config.json has no timestamp_segment_time, or no classify_num in thinker_config")
        self._step_ms = float(step)
        self._classes = int(classes)
        self._max_model_len = max_model_len
        self._morphemes = morphemes
        self.languages = tuple(code for code in LANGUAGES if code != "ja" or morphemes is not None)
        """ISO 639-1 codes, 639-3 where there is none."""
        self._names = 0

    def prepare(self, audio: Audio, text: str, language: str) -> Alignment:
        """Make the engine's question.

        Args:
            audio: in which the text is spoken, shape ``[n]``.
            language: one of `languages`.

        Raises:
            CannotAlign: there is too much of it.
            ValueError: the text's Japanese words were not found in it.
        """
        seconds = len(audio) / SAMPLE_RATE
        if seconds > MAX_AUDIO_S:
            raise CannotAlign(f"the audio has {seconds:.0f} s, more than {MAX_AUDIO_S} s")
        units = split_units(text, language, self._morphemes)
        samples = np.pad(audio, (0, max(0, SHORTEST_SAMPLES - len(audio))))
        ids = list(self._audio)
        for unit in units:
            tokens = self._tokenizer.encode(unit.text, add_special_tokens=False).ids
            ids += [*tokens, self._timestamp, self._timestamp]
        positions = len(ids) - 1 + audio_tokens(math.ceil(len(samples) / HOP))
        if positions > self._max_model_len:
            raise CannotAlign(
                f"audio and text take {positions} positions, more than the {self._max_model_len} of --max-model-len"
            )
        self._names += 1
        prompt = {
            "prompt_token_ids": ids,
            "multi_modal_data": {"audio": [(samples, SAMPLE_RATE)]},
            "multi_modal_uuids": {"audio": [f"alignment {self._names}"]},
        }
        # Nothing ends later than the audio.
        classes = range(min(self._classes, math.ceil(1000 * seconds / self._step_ms) + 1))
        return Alignment(text, units, Classification(prompt, self._timestamp, classes))

    def words(self, alignment: Alignment, answer: Sequence[int]) -> tuple[Word, ...]:
        """The words of the text, in ms of the audio. A word whose times the model gave out of order has estimated ones.

        Raises:
            CannotAlign: the answer has not two steps for each unit.
        """
        if len(answer) != 2 * len(alignment.units):
            raise CannotAlign(f"{len(alignment.units)} units got {len(answer)} times")
        steps, kept = in_order(answer)
        words: list[Word] = []
        for text, first, last in group_words(alignment.text, alignment.units):
            start, end = 2 * first, 2 * last - 1
            source = TimesFrom.ALIGNER if kept[start] and kept[end] else TimesFrom.ESTIMATE
            words.append(Word(text, self._ms(steps[start]), self._ms(steps[end]), times_from=source))
        return tuple(words)

    def _ms(self, step: int) -> int:
        return round(step * self._step_ms)


def japanese_morphemes() -> Morphemes | None:
    """Cuts Japanese with nagisa, as the model was trained; None where it is not installed. Loads it, which blocks."""
    try:
        import nagisa
    except ImportError:
        return None

    def morphemes(text: str) -> Sequence[str]:
        words: list[str] = nagisa.wakati(text)
        return words

    return morphemes


ENGINE_OPTIONS: Mapping[str, Any] = {
    "runner": "pooling",
    # The checkpoint's own config.json names the class that writes text.
    "hf_overrides": {"architectures": ["Qwen3ASRForcedAlignerForTokenClassification"]},
    # Only the places of timestamps come back, of thousands of classes each.
    "pooler_config": {"tok_pooling_type": "STEP"},
    # One pass over each prompt, and no prompt comes again.
    "enable_prefix_caching": False,
    "limit_mm_per_prompt": {"audio": 1},
    "mm_processor_cache_gb": 0,
    "max_model_len": POSITIONS,
    "max_num_batched_tokens": POSITIONS,
    "scheduling_policy": "priority",
    "kv_cache_memory_bytes": KV_CACHE_BYTES,
    "gpu_memory_utilization": LEAST_SHARE,
    # There are no decoding steps that graphs make cheaper.
    "enforce_eager": True,
}
"""What differs from vLLM's own defaults."""

DEVICE_ENGINE_OPTIONS: Mapping[Device, Mapping[str, Any]] = {Device.ASCEND_310P: {"dtype": "float16"}}
"""What differs besides on some devices."""

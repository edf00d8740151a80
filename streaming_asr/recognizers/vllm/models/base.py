"""Between an engine and a model: requests go down, completions come back, and the model makes hypotheses of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from streaming_asr.core.recognizer import DecodeJob, Hypothesis
from streaming_asr.recognizers.vllm.device import Device, device_here


@dataclass(frozen=True, slots=True)
class Request:
    """One generation, as the engine wants it."""

    prompt: Mapping[str, Any]
    """vLLM's dictionary of token ids and multi-modal data."""
    max_tokens: int
    choices: tuple[int, ...] | None = None
    """The only ids that may be generated, or None for all."""


@dataclass(frozen=True, slots=True)
class Classification:
    """One question to a model that classifies the tokens of a prompt."""

    prompt: Mapping[str, Any]
    """As of a `Request`."""
    token: int
    """Id of the tokens to classify; the others are passed over."""
    classes: Sequence[int]
    """The classes to choose from."""


@dataclass(frozen=True, slots=True)
class Completion:
    """What the engine generated."""

    tokens: tuple[int, ...]
    """Without the end token."""
    logprobs: tuple[float, ...]
    """Natural log-probability of each of `tokens`."""
    complete: bool
    """False when `Request.max_tokens` ended it."""
    prompt_tokens: int = 0
    cached_tokens: int = 0
    """Of the prompt, those whose keys and values were still there."""
    prefill_s: float = 0.0
    """Seconds of encoder and prefill, without the wait before."""
    decode_s: float = 0.0


Run = Callable[[Request], Awaitable[Completion]]
"""Runs one request on the engine. Raises what `Recognizer.decode` may raise."""


AskWorkers = Callable[..., Awaitable[Sequence[Any]]]
"""Calls a method of each of the engine's workers, by name and with arguments; returns their answers."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of a check of the device."""

    detail: str
    """For people, one line."""
    works: bool | None
    """None: it could not be found out."""


@dataclass(frozen=True, slots=True)
class ModelType:
    """A kind of checkpoint that can be run, as its module declares it."""

    load: Callable[[Mapping[str, Any], Any], Awaitable[SpeechModel]]
    """Makes the model's side, from the checkpoint's ``config.json`` and a running ``AsyncLLM``. Raises `ValueError`
    where the checkpoint is not understood; the message says why."""
    engine_options: Mapping[str, Any] = field(default_factory=dict)
    """What differs from vLLM's own defaults. The user's options come first."""
    device_engine_options: Mapping[Device, Mapping[str, Any]] = field(default_factory=dict)
    """What differs besides on some devices."""

    def options_here(self) -> dict[str, Any]:
        """What differs from vLLM's own defaults on the device that vLLM runs on here."""
        return {**self.engine_options, **self.device_engine_options.get(device_here(), {})}


class SpeechModel(Protocol):
    """A model, as far as it differs from others under the same engine."""

    @property
    def languages(self) -> tuple[str, ...]:
        """ISO 639-1 codes it can be forced to."""

    @property
    def max_audio_s(self) -> float:
        """Longest utterance it takes whole, seconds."""

    @property
    def writes_figures(self) -> bool:
        """See `Capabilities.writes_figures`."""

    def raw_answer(self, text: str, language: str | None) -> str:
        """See `Capabilities.raw_answer`."""

    async def decode(self, job: DecodeJob, run: Run) -> Hypothesis:
        """Make requests of a job, and a hypothesis of their completions.

        Raises:
            DecodeFailed: the job is not one for this model; also all that `run` raises.
        """

    async def check(self, run: Run, ask_workers: AskWorkers, dtype: str) -> Verdict | None:
        """Check on the device what decoding rests on; what does not work there is not used from then on.

        Args:
            dtype: of the engine, such as ``bfloat16``.

        Returns:
            None where there is nothing to check. Raises what `run` raises.
        """

    def release(self, utterance: str) -> None:
        """Drop what is held for an utterance."""

    def close(self) -> None:
        """Stop what it runs itself."""

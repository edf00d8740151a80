"""How Qwen3-ASR's audio goes into vLLM: what the encoder does to time, and the forms that vLLM takes audio in."""

from __future__ import annotations

import enum
import itertools
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from streaming_asr.core.mel import HOP
from streaming_asr.core.recognizer import SAMPLE_RATE, Audio
from streaming_asr.recognizers.vllm.models.mel import FRAMES_PER_S
from streaming_asr.recognizers.vllm.models.windows import LEAST_TAIL, UtteranceWindows, name_of, split_samples


@dataclass(frozen=True, slots=True)
class Geometry:
    """What the checkpoint's encoder does to time."""

    bins: int
    """Of the mel scale."""
    window: int
    """Frames in which the encoder attends; 0 where the checkpoint can't be windowed."""
    reason: str = ""
    """Why it can't be windowed."""

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Geometry:
        """Read a checkpoint's ``config.json``.

        Raises:
            ValueError: it is not that of a Qwen3-ASR.
        """
        try:
            audio = config.get("thinker_config", config)["audio_config"]
            bins, chunk, window = audio["num_mel_bins"], 2 * audio["n_window"], audio["n_window_infer"]
        except (KeyError, TypeError) as error:
            raise ValueError(f"its configuration has no {error}") from error
        if chunk != FRAMES_PER_S:
            # Audio tokens, tails and padding all rest on the encoder's chunk of one second.
            return cls(bins, 0, f"its encoder convolves {chunk} frames at a time, not {FRAMES_PER_S}")
        if window <= 0 or window % chunk:
            return cls(bins, 0, f"its encoder attends within {window} frames, which is not a multiple of {chunk}")
        return cls(bins, window)


def audio_tokens(frames: int) -> int:
    """Positions that an audio item of the given number of frames takes: 13 a second."""
    return 13 * (frames // FRAMES_PER_S) + math.ceil(frames % FRAMES_PER_S / 8)


class Form(enum.Enum):
    """How the audio is handed to the engine."""

    FEATURES = "features in encoder windows"
    """The spectrogram of the whole utterance, cut: exact, and only the tail is new."""
    WAVEFORM_WINDOWS = "waveforms in encoder windows"
    """Only the tail is new, but each item has a spectrogram of its own: three frames differ at each cut."""
    WHOLE = "whole waveforms"
    """Exact, but everything is encoded anew each time."""


@dataclass(frozen=True, slots=True)
class AudioInput:
    """The audio of one request."""

    data: Any
    """vLLM's ``multi_modal_data["audio"]``."""
    names: tuple[str, ...]
    """vLLM's ``multi_modal_uuids["audio"]``, one for each item."""
    frames: tuple[int, ...]
    """Of each item."""

    @property
    def tokens(self) -> int:
        """Positions that the items take."""
        return sum(map(audio_tokens, self.frames))


class UtteranceAudio:
    """One utterance's audio on its way to the engine. May be used from several threads."""

    def __init__(self, utterance: str, geometry: Geometry, form: Form) -> None:
        self._utterance = utterance
        self._form = form
        self._window = 0 if form is Form.WHOLE else geometry.window
        self._windows = UtteranceWindows(utterance, geometry.bins, self._window)

    def input(self, audio: Audio, *, exact: bool) -> AudioInput:
        """The utterance so far.

        Args:
            audio: from its first sample, shape ``[n]``.
            exact: see `UtteranceWindows.items`.
        """
        if self._form is Form.FEATURES:
            return feature_input(self._windows, audio, exact=exact)
        parts = split_samples(audio, self._window)
        return AudioInput(
            [(part, SAMPLE_RATE) for part in parts],
            tuple(name_of(self._utterance, part) for part in parts),
            tuple(len(part) // HOP for part in parts),
        )


def feature_input(windows: UtteranceWindows, audio: Audio, *, exact: bool) -> AudioInput:
    """Features as vLLM takes them; see `UtteranceWindows.items`."""
    items = windows.items(audio, exact=exact)
    frames = [item.frames for item in items]
    data = {
        "input_audio_features": torch.from_numpy(np.concatenate([item.features for item in items], axis=1)),
        "audio_feature_lengths": torch.tensor(frames),
        # Without it the engine dies.
        "feature_attention_mask": [torch.ones(n, dtype=torch.long) for n in frames],
    }
    return AudioInput(data, tuple(item.name for item in items), tuple(frames))


def prompt_of(ids: Sequence[int], audio: AudioInput) -> dict[str, Any]:
    """vLLM's prompt."""
    return {
        "prompt_token_ids": list(ids),
        "multi_modal_data": {"audio": audio.data},
        "multi_modal_uuids": {"audio": list(audio.names)},
    }


async def choose_form(
    geometry: Geometry, ids: Callable[[int], list[int]], render: Callable[[dict[str, Any]], Awaitable[Any]]
) -> tuple[Form, str]:
    """The best form that this vLLM takes, tried on its processor and not on its engine, which bad input may kill.

    Args:
        ids: makes a prompt for the given number of audio items.
        render: vLLM's processing of a prompt, up to what the engine would be sent.

    Returns:
        The form, and why it is not the first choice, if it is not.
    """
    if not geometry.window:
        return Form.WHOLE, geometry.reason
    noise = np.random.default_rng(0).normal(0, 0.1, (geometry.window + 2 * LEAST_TAIL) * HOP).astype(np.float32)
    reasons: list[str] = []
    for form in (Form.FEATURES, Form.WAVEFORM_WINDOWS):
        audio = UtteranceAudio("self-test", geometry, form).input(noise, exact=True)
        try:
            _check(form, audio, await render(prompt_of(ids(len(audio.frames)), audio)))
        except Exception as error:  # Whatever stops it, the next form may do.
            reasons.append(f"no {form.value}: {error or type(error).__name__}")
        else:
            return form, "; ".join(reasons)
    return Form.WHOLE, "; ".join(reasons)


def _check(form: Form, audio: AudioInput, rendered: Any) -> None:
    """Compare what vLLM made of the audio with what it should make.

    Raises:
        ValueError: it is something else.
    """
    places = sorted((place.offset, place.length) for place in rendered["mm_placeholders"]["audio"])
    if [length for _, length in places] != [audio_tokens(frames) for frames in audio.frames]:
        raise ValueError(f"the items {audio.frames} became {places}")
    if any(a + n != b for (a, n), (b, _) in itertools.pairwise(places)):
        raise ValueError(f"the items are not contiguous: {places}")
    if list(rendered["mm_hashes"]["audio"]) != list(audio.names):
        raise ValueError("the items lost their names")
    if form is Form.FEATURES:
        got = [item["input_audio_features"].data for item in rendered["mm_kwargs"]["audio"]]
        if not torch.equal(torch.cat(got, dim=1), audio.data["input_audio_features"]):
            raise ValueError("the features were changed")

"""Silero's voice detection network, version 6.2 for 16 kHz, in numpy.

A short-time Fourier transform, four convolutions over time, a recurrent layer, and the probability of speech:
https://github.com/snakers4/silero-vad, whose weights are in `data/`. In numpy it takes less time than by onnxruntime,
whose convolutions are slow on so few numbers, and nothing more has to be installed.
"""

from __future__ import annotations

import functools
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from streaming_asr.recognizers.base import Audio

FRAME = 512
"""Samples of one decision, 32 ms."""
CONTEXT = 64
"""Samples of the frame before that are seen again."""
WIDTH = 128
"""Numbers that the network remembers, twice."""

Numbers = NDArray[np.float32]

_WEIGHTS = Path(__file__).parent / "data" / "silero_vad_16k.npz"
_WINDOW, _HOP, _BINS = 256, 128, 129


class Memory:
    """What the network remembers of one channel."""

    def __init__(self) -> None:
        self.hidden: Numbers = np.zeros(WIDTH, np.float32)
        self.cell: Numbers = np.zeros(WIDTH, np.float32)


@dataclass(frozen=True, slots=True)
class Ask:
    """What a detector wants to know: the probability of speech in each of the next frames of one channel."""

    before: Audio
    """The end of the frame before them, shape ``[CONTEXT]``."""
    frames: Audio
    """Shape ``[k, FRAME]``, at least one."""
    memory: Memory
    """Of the channel; the answer brings it up to date."""


R = TypeVar("R")
Asking = Generator[Ask, list[float], R]
"""Something that asks, is sent the answers, and at last returns something."""


def answered(asking: Asking[R]) -> R:
    """What it returns, its asks answered one by one."""
    try:
        ask = next(asking)
        while True:
            ask = asking.send(network().answer([ask])[0])
    except StopIteration as end:
        result: R = end.value
        return result


class Network:
    """The network; it keeps nothing of what it hears.

    Args:
        weights: by name, as in the file.
    """

    def __init__(self, weights: dict[str, Numbers]) -> None:
        self._fourier = _fourier()
        self._convolutions = [
            # [outputs, inputs, 3] -> [3 * inputs, outputs]
            (np.ascontiguousarray(weights[f"encoder.{n}.weight"].transpose(2, 1, 0).reshape(-1, outputs)), bias)
            for n in range(4)
            for bias in [weights[f"encoder.{n}.bias"]]
            for outputs in [len(bias)]
        ]
        # The last convolution sees one moment, and silence on either side of it.
        last, bias = self._convolutions[3]
        self._convolutions[3] = last[len(last) // 3 : 2 * len(last) // 3].copy(), bias
        # Gates in the order input, output, forget, cell. A logistic function is a hyperbolic tangent of half of it:
        # with the halves in the weights, one call serves all four.
        halves = np.ones(4 * WIDTH, np.float32)
        halves[: 3 * WIDTH] = 0.5
        self._from_input = np.ascontiguousarray((weights["lstm.input"] * halves[:, None]).T)
        self._from_hidden = np.ascontiguousarray((weights["lstm.hidden"] * halves[:, None]).T)
        self._gates_bias = weights["lstm.bias"] * halves
        self._output = weights["output.weight"].reshape(WIDTH)
        self._output_bias = float(weights["output.bias"][0])

    def answer(self, asks: Sequence[Ask]) -> list[list[float]]:
        """Probability of speech in each of the frames, ask by ask. Together they cost much less than one by one."""
        # Those with more frames first: at each step of the recurrence, those that go on are the first so many.
        order = sorted(range(len(asks)), key=lambda number: -len(asks[number].frames))
        lengths = [len(asks[number].frames) for number in order]
        gates = self._gates([asks[number] for number in order])
        starts = np.cumsum([0, *lengths[:-1]])
        hidden = np.array([asks[number].memory.hidden for number in order])
        cell = np.array([asks[number].memory.cell for number in order])
        said = np.empty((sum(lengths), WIDTH), np.float32)
        going = len(order)
        for step in range(lengths[0]):
            while lengths[going - 1] <= step:
                going -= 1
            places = starts[:going] + step
            activated = np.tanh(gates[places] + hidden[:going] @ self._from_hidden)
            opened = activated[:, : 3 * WIDTH] * 0.5 + 0.5
            cell[:going] *= opened[:, 2 * WIDTH :]
            cell[:going] += opened[:, :WIDTH] * activated[:, 3 * WIDTH :]
            hidden[:going] = said[places] = opened[:, WIDTH : 2 * WIDTH] * np.tanh(cell[:going])
        logits = np.maximum(said, 0) @ self._output + self._output_bias
        probabilities = (np.tanh(logits * 0.5) * 0.5 + 0.5).tolist()
        answers: list[list[float]] = [[]] * len(asks)
        for place, number in enumerate(order):
            memory = asks[number].memory
            memory.hidden, memory.cell = hidden[place], cell[place]
            start = int(starts[place])
            answers[number] = probabilities[start : start + lengths[place]]
        return answers

    def _gates(self, asks: Sequence[Ask]) -> Numbers:
        """What the recurrent layer makes of each frame by itself, shape ``[frames of all, 4 * WIDTH]``."""
        frames = np.concatenate([ask.frames for ask in asks])
        count = len(frames)
        heard = np.empty((count, CONTEXT + FRAME + CONTEXT), np.float32)
        heard[:, CONTEXT:-CONTEXT] = frames
        heard[1:, :CONTEXT] = frames[:-1, -CONTEXT:]
        first = 0
        for ask in asks:
            heard[first, :CONTEXT] = ask.before
            first += len(ask.frames)
        # The end is mirrored.
        heard[:, -CONTEXT:] = frames[:, -2 : -2 - CONTEXT : -1]
        windows = [heard[:, start : start + _WINDOW] for start in range(0, FRAME, _HOP)]
        waves = np.concatenate(windows, axis=1).reshape(-1, _WINDOW) @ self._fourier
        np.square(waves, out=waves)
        spectra = np.sqrt(waves[:, :_BINS] + waves[:, _BINS:]).reshape(count, -1, _BINS)
        moments = _convolved(spectra, *self._convolutions[0], step=1)
        moments = _convolved(moments, *self._convolutions[1], step=2)
        moments = _convolved(moments, *self._convolutions[2], step=2)
        weights, bias = self._convolutions[3]
        features = np.maximum(moments[:, 0] @ weights + bias, 0)
        gates: Numbers = features @ self._from_input + self._gates_bias
        return gates


def _convolved(moments: Numbers, weights: Numbers, bias: Numbers, *, step: int) -> Numbers:
    """A convolution over three moments with silence at both ends, and what is negative cut off.

    Args:
        moments: shape ``[k, time, inputs]``.
        weights: shape ``[3 * inputs, outputs]``.

    Returns:
        Shape ``[k, time / step, outputs]``.
    """
    count, time, inputs = moments.shape
    padded = np.zeros((count, time + 2, inputs), np.float32)
    padded[:, 1:-1] = moments
    beside = np.concatenate([padded[:, shift : shift + time : step] for shift in range(3)], axis=2)
    convolved = beside.reshape(-1, 3 * inputs) @ weights
    convolved += bias
    np.maximum(convolved, 0, out=convolved)
    return convolved.reshape(count, time // step, -1)


def _fourier() -> Numbers:
    """The real and the imaginary part of a windowed Fourier transform, shape ``[_WINDOW, 2 * _BINS]``."""
    angles = 2 * np.pi * np.outer(np.arange(_WINDOW), np.arange(_BINS)) / _WINDOW
    window = np.hanning(_WINDOW + 1)[:-1, None]
    fourier: Numbers = np.concatenate([window * np.cos(angles), window * np.sin(angles)], axis=1).astype(np.float32)
    return fourier


@functools.cache
def network() -> Network:
    """The network, shared by all of the process."""
    # So little work is not worth sharing out, and threads that wait for it would spin.
    threadpool_limits(1, user_api="blas")
    with np.load(_WEIGHTS) as weights:
        return Network(dict(weights))

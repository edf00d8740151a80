"""Silero's voice detection network, version 6.2 for 16 kHz, in numpy.

A short-time Fourier transform, four convolutions over time, a recurrent layer, and the probability of speech:
https://github.com/snakers4/silero-vad, whose weights are in `weights/`. In numpy it takes less time than by
onnxruntime, whose convolutions are slow on so few numbers, and nothing more has to be installed.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from streaming_asr.core.recognizer import Audio

FRAME = 512
"""Samples of one decision, 32 ms."""
CONTEXT = 64
"""Samples of the previous frame that precede each frame."""
WIDTH = 128
"""Values of the recurrent layer's output, and of its cell."""

Numbers = NDArray[np.float32]

_WEIGHTS = Path(__file__).parent / "weights" / "silero_vad_16k.npz"
_WINDOW, _HOP, _BINS = 256, 128, 129
_AT_ONCE = 48
"""Frames that go through the convolutions together; the values of more do not fit in the processor's cache."""


class Memory:
    """What the network remembers of one channel."""

    def __init__(self) -> None:
        self.state: Numbers = np.zeros((2, WIDTH), np.float32)
        """Of the recurrent layer: its output and its cell."""


@dataclass(frozen=True, slots=True)
class SileroQuery:
    """Asks for the probability of speech in each of the next frames of one channel, a list of `k` numbers."""

    before: Audio
    """The end of the frame before `frames`, shape ``[CONTEXT]``."""
    frames: Audio
    """Shape ``[k, FRAME]``, at least one."""
    memory: Memory
    """Of the channel; the network updates it."""

    @property
    def network(self) -> SileroNetwork:
        return network()


class SileroNetwork:
    """The network. It is stateless: each query brings the memory of its channel. For one thread at a time.

    Args:
        weights: by name, as in the file.
    """

    def __init__(self, weights: dict[str, Numbers]) -> None:
        self._cosines, self._sines = _fourier()
        # [outputs, inputs, 3] -> for each of the three moments [inputs, outputs]
        self._convolutions = [
            (np.ascontiguousarray(weights[f"encoder.{n}.weight"].transpose(2, 1, 0)), weights[f"encoder.{n}.bias"])
            for n in range(4)
        ]
        # Gates in the order input, output, forget, cell. A logistic function is a hyperbolic tangent of half of it:
        # with the halves in the weights, one call serves all four.
        halves = np.ones(4 * WIDTH, np.float32)
        halves[: 3 * WIDTH] = 0.5
        self._from_input = np.ascontiguousarray((weights["lstm.input"] * halves[:, None]).T)
        self._from_hidden = np.ascontiguousarray((weights["lstm.hidden"] * halves[:, None]).T)
        self._gates_bias = weights["lstm.bias"] * halves
        self._output = weights["output.weight"].reshape(WIDTH)
        self._output_bias = float(weights["output.bias"][0])
        self._buffers: dict[str, Numbers] = {}

    def answer(self, queries: Sequence[SileroQuery]) -> list[list[float]]:
        """Probability of speech in each of the frames, query by query. Together they cost much less than one by one."""
        # Queries with more frames come first, and frames are ordered by step: at each step of the recurrence the
        # queries that still have a frame are the first ones, and their rows are contiguous.
        order = sorted(range(len(queries)), key=lambda number: -len(queries[number].frames))
        ordered = [queries[number] for number in order]
        steps = range(len(ordered[0].frames))
        active = [sum(len(query.frames) > step for query in ordered) for step in steps]
        starts = list(itertools.accumulate(active, initial=0))
        padded = self._padded(ordered, starts)
        gates = self._scratch("gates", len(padded), 4 * WIDTH)
        for first in range(0, len(padded), _AT_ONCE):
            self._encode(padded[first : first + _AT_ONCE], gates[first : first + _AT_ONCE])
        states = np.array([query.memory.state for query in ordered])
        hidden, cell = states[:, 0], states[:, 1]
        outputs = self._scratch("outputs", len(padded), WIDTH)
        for step in steps:
            activated = gates[starts[step] : starts[step + 1]]
            hidden_now, cell_now = hidden[: active[step]], cell[: active[step]]
            activated += hidden_now @ self._from_hidden
            np.tanh(activated, out=activated)
            opened = activated[:, : 3 * WIDTH]
            opened *= 0.5
            opened += 0.5
            cell_now *= opened[:, 2 * WIDTH :]
            cell_now += opened[:, :WIDTH] * activated[:, 3 * WIDTH :]
            np.multiply(opened[:, WIDTH : 2 * WIDTH], np.tanh(cell_now), out=hidden_now)
            outputs[starts[step] : starts[step + 1]] = hidden_now
        logits = np.maximum(outputs, 0, out=outputs) @ self._output + self._output_bias
        probabilities = (np.tanh(logits * 0.5) * 0.5 + 0.5).tolist()
        answers: list[list[float]] = [[]] * len(queries)
        for place, (number, query) in enumerate(zip(order, ordered, strict=True)):
            query.memory.state = states[place].copy()
            answers[number] = [probabilities[start + place] for start in starts[: len(query.frames)]]
        return answers

    def _padded(self, queries: Sequence[SileroQuery], starts: Sequence[int]) -> Numbers:
        """All frames, each with the end of the one before it, shape ``[frames, CONTEXT + FRAME + CONTEXT]``.

        Args:
            starts: where the frames of each step begin; within a step they are in the order of the queries.
        """
        padded = self._scratch("padded", starts[-1], CONTEXT + FRAME + CONTEXT)
        for place, query in enumerate(queries):
            padded[place, :CONTEXT] = query.before
            for start, frame in zip(starts, query.frames, strict=False):
                padded[start + place, CONTEXT:-CONTEXT] = frame
        for before, start, end in zip(starts, starts[1:], starts[2:], strict=False):
            padded[start:end, :CONTEXT] = padded[before : before + end - start, FRAME : FRAME + CONTEXT]
        # The end is mirrored.
        padded[:, -CONTEXT:] = padded[:, -CONTEXT - 2 : -2 * CONTEXT - 2 : -1]
        return padded

    def _encode(self, padded: Numbers, gates: Numbers) -> None:
        """What each frame contributes to the gates of the recurrent layer.

        Args:
            padded: shape ``[k, CONTEXT + FRAME + CONTEXT]``.
            gates: where it is written, shape ``[k, 4 * WIDTH]``.
        """
        moments = self._convolved(0, self._spectra(padded), step=1)
        moments = self._convolved(1, moments, step=2)
        moments = self._convolved(2, moments, step=2)
        # The last convolution sees one moment, and silence on either side of it.
        weights, bias = self._convolutions[3]
        features = np.maximum(moments[1] @ weights[1] + bias, 0)
        np.matmul(features, self._from_input, out=gates)
        gates += self._gates_bias

    def _spectra(self, padded: Numbers) -> Numbers:
        """Magnitudes of each frame's four windows, shape ``[4 + 2, k, _BINS]``, with silence at both ends.

        Cosines are the same forwards and backwards, and sines but for their sign: a window is folded in the middle.
        """
        count, times = len(padded), FRAME // _HOP
        hops = padded.reshape(count, times + 1, _HOP).transpose(1, 0, 2)
        backwards = self._scratch("backwards", times, count, _HOP)
        backwards[..., 1:] = hops[1:, :, :0:-1]
        backwards[..., 0] = 0
        even = np.add(hops[:-1], backwards, out=self._scratch("even", times, count, _HOP))
        odd = np.subtract(hops[:-1], backwards, out=self._scratch("odd", times, count, _HOP))
        # The first sample has no weight; in its place is the one in the middle, where sines have none.
        even[..., 0] = hops[1:, :, 0]
        real = np.matmul(even, self._cosines, out=self._scratch("real", times, count, _BINS))
        imaginary = np.matmul(odd, self._sines, out=self._scratch("imaginary", times, count, _BINS))
        spectra = _silent_ends(self._scratch("spectra", times + 2, count, _BINS))
        real *= real
        imaginary *= imaginary
        np.add(real, imaginary, out=spectra[1:-1])
        return np.sqrt(spectra, out=spectra)

    def _convolved(self, number: int, moments: Numbers, *, step: int) -> Numbers:
        """A convolution over three moments, and what is negative cut off.

        Args:
            moments: shape ``[time + 2, k, inputs]``, with silence at both ends: each moment is one piece of memory.

        Returns:
            Shape ``[time / step + 2, k, outputs]``, with silence at both ends.
        """
        weights, bias = self._convolutions[number]
        times, count, outputs = (len(moments) - 2) // step, moments.shape[1], weights.shape[2]
        convolved = _silent_ends(self._scratch(f"convolved {number}", times + 2, count, outputs))
        term = self._scratch("term", times, count, outputs)
        inner = convolved[1:-1]
        np.matmul(moments[:-2:step], weights[0], out=inner)
        inner += np.matmul(moments[1:-1:step], weights[1], out=term)
        inner += np.matmul(moments[2::step], weights[2], out=term)
        inner += bias
        np.maximum(inner, 0, out=inner)
        return convolved

    def _scratch(self, name: str, *shape: int) -> Numbers:
        """A buffer to write to, reused from call to call: the system would clear a new one first."""
        size = math.prod(shape)
        buffer = self._buffers.get(name)
        if buffer is None or len(buffer) < size:
            buffer = self._buffers[name] = np.empty(size, np.float32)
        return buffer[:size].reshape(shape)


def _silent_ends(moments: Numbers) -> Numbers:
    moments[0] = moments[-1] = 0
    return moments


def _fourier() -> tuple[Numbers, Numbers]:
    """Cosines and sines of a windowed Fourier transform, for windows folded in the middle, each ``[_HOP, _BINS]``.

    In the first row, where the window is 0, is the middle of it.
    """
    places = np.array([_HOP, *range(1, _HOP)])
    angles = 2 * np.pi * np.outer(places, np.arange(_BINS)) / _WINDOW
    window = np.hanning(_WINDOW + 1)[places, None]
    sines = window * np.sin(angles)
    sines[0] = 0
    return (window * np.cos(angles)).astype(np.float32), sines.astype(np.float32)


@functools.cache
def network() -> SileroNetwork:
    """The network, shared by all of the process. Its matrix products are fastest on one BLAS thread."""
    with np.load(_WEIGHTS) as weights:
        return SileroNetwork(dict(weights))

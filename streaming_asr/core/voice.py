"""The port between the core and voice detection.

A detector decides frame by frame whether one channel has speech. A detector that needs a neural network does not run
it: it yields a `Query`, and whoever runs the detector sends it the answer. So a session by itself gets its answers at
once (`run_inline`), and a server answers the queries of many sessions in one batch. Any network can be queried: what a
query contains, and what a network remembers of a channel, is a matter between the detector and its network.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from streaming_asr.core.options import SessionOptions
from streaming_asr.core.recognizer import Audio

Q = TypeVar("Q", contravariant=True)
R = TypeVar("R")


class Network(Protocol[Q]):
    """Answers the queries of one kind of detector. It is called by one thread at a time."""

    def answer(self, queries: Sequence[Q], /) -> Sequence[Any]:
        """Answer a batch: one answer a query, in the same order.

        What the network remembers of a channel travels in the query, and is up to date once this returns.

        Args:
            queries: at least one, all for this network, and at most one of each channel.
        """


class Query(Protocol):
    """What a detector asks a network. All but the network is opaque to the core."""

    @property
    def network(self) -> Network[Any]:
        """The network that is to answer. Queries for the same object are answered together."""


Detection = Generator[Query, Any, R]
"""A computation that yields queries, is sent their answers, and returns its result."""


class VoiceDetector(Protocol):
    """Listens to one channel and keeps what it must remember of it."""

    @property
    def frame_samples(self) -> int:
        """Samples (16 kHz) of one decision."""

    def detect(self, frames: Audio) -> Detection[NDArray[np.bool_]]:
        """Decide on the next frames. However the stream is split into calls, the decisions are the same.

        Args:
            frames: shape ``[k, frame_samples]``, finite. They must not change later.

        Returns:
            Whether each frame is voiced, shape ``[k]``.
        """

    def reset(self) -> None:
        """Forget the stream."""


DetectorFactory = Callable[[SessionOptions], VoiceDetector]
"""Makes a fresh detector for one channel. Raises `OptionError` if the options name none or do not fit it."""


def run_inline(detection: Detection[R]) -> R:
    """The result of a detection whose queries are answered at once, one by one."""
    try:
        query = next(detection)
        while True:
            query = detection.send(query.network.answer([query])[0])
    except StopIteration as end:
        result: R = end.value
        return result

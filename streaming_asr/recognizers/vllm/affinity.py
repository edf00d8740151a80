"""Which of several data-parallel engines decodes an utterance. Needs no vLLM."""

from __future__ import annotations

from collections import OrderedDict

MAX_UTTERANCES = 4096
"""Utterances that are remembered. The oldest go, should `Affinity.release` be forgotten."""


class Affinity:
    """Keeps each utterance on one engine: that one has its windows in its encoder and prefix cache. The others would
    encode and prefill all of it again.

    A new utterance goes to the engine with the fewest; of several such, to the one that has waited longest for one.

    Args:
        engines: how many there are. vLLM numbers them from 0, as ``data_parallel_rank``.
    """

    def __init__(self, engines: int) -> None:
        if engines < 1:
            raise ValueError(f"there are {engines} engines; at least 1 is needed")
        self._utterances: OrderedDict[str, int] = OrderedDict()
        self._counts = [0] * engines
        self._order = list(range(engines))
        """The engines, that which was given an utterance last at the end."""

    def engine(self, utterance: str) -> int:
        """The number of the utterance's engine; the first call chooses it."""
        if utterance not in self._utterances:
            if len(self._utterances) >= MAX_UTTERANCES:
                self.release(next(iter(self._utterances)))
            chosen = min(self._order, key=self._counts.__getitem__)
            self._order.remove(chosen)
            self._order.append(chosen)
            self._counts[chosen] += 1
            self._utterances[utterance] = chosen
        return self._utterances[utterance]

    def release(self, utterance: str) -> None:
        """Forget an utterance, which has no further request. Does nothing where there is none of that name."""
        if (engine := self._utterances.pop(utterance, None)) is not None:
            self._counts[engine] -= 1

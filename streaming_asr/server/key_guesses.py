"""How many wrong API keys are looked at: of one client, and of all together.

A client that has sent too many wrong keys gets no answer to whether the next one is right, until it has waited. Clients
are told apart by their addresses. Several may share one, so a key that was right at an address stays so, and keys that
are too long to be guessed are always looked at (`auth.py`): a client that guesses does not lock out those beside it.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict

from streaming_asr.server.addresses import MAX_ADDRESSES, Bucket, PerAddress, place

AT_ADDRESS = 10
"""Wrong keys from one address before it has to wait."""
AT_ADDRESS_PER_S = 1 / 6
"""Rate at which an address gets further ones."""
IN_ALL = 1000
"""Wrong keys from all addresses before each that has sent one has to wait."""
IN_ALL_PER_S = 5.0


class KeyGuesses:
    """Counts wrong keys. Times are of any clock that never goes back, seconds."""

    def __init__(self) -> None:
        self._of_all = Bucket()
        self._of_each = PerAddress(Bucket)
        self._right: OrderedDict[tuple[str, bytes], None] = OrderedDict()

    def wait_s(self, address: str, key: str, now: float) -> float:
        """How long a client must wait until the server looks at its key; 0: it may be looked at now.

        Args:
            address: of the client, or whatever stands for it.
        """
        if (place(address), _digest(key)) in self._right:
            return 0.0
        count = self._of_each.find(address)
        if count is None:
            return 0.0
        own = (count.leak(AT_ADDRESS_PER_S, now) - AT_ADDRESS + 1) / AT_ADDRESS_PER_S
        common = (self._of_all.leak(IN_ALL_PER_S, now) - IN_ALL + 1) / IN_ALL_PER_S
        return max(0.0, own, common)

    def wrong(self, address: str, now: float) -> None:
        """A client sent a wrong key."""
        count = self._of_each.get(address)
        for each, per_s, most in ((count, AT_ADDRESS_PER_S, AT_ADDRESS), (self._of_all, IN_ALL_PER_S, IN_ALL)):
            each.level = min(most, each.leak(per_s, now) + 1)

    def right(self, address: str, key: str) -> None:
        """A client sent a right key."""
        proof = place(address), _digest(key)
        self._right[proof] = None
        self._right.move_to_end(proof)
        if len(self._right) > MAX_ADDRESSES:
            self._right.popitem(last=False)


def _digest(key: str) -> bytes:
    """So that the time of a look-up does not depend on where keys differ."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()

"""Which new sessions count as live although their first audio comes all at once.

A client that records a command and then sends it waits for its text as one that speaks does. But nothing keeps a client
from opening one such session after the other: all of them together would be more speech than anybody can speak. So an
address gets some at once and then a few a second. A further session is served all the same; it counts as live as soon
as its audio comes no faster than it is spoken.
"""

from __future__ import annotations

from streaming_asr.server.addresses import Bucket, PerAddress

AT_ADDRESS = 10
"""New sessions of one address that get a head start at once."""
AT_ADDRESS_PER_S = 1.0
"""Rate at which an address gets further ones."""


class HeadStarts:
    """Counts new sessions. Times are of any clock that never goes back, seconds."""

    def __init__(self) -> None:
        self._buckets = PerAddress(Bucket)

    def take(self, address: str, now: float) -> bool:
        """A session opens; returns whether it gets a head start.

        Args:
            address: of the client, or whatever stands for it.
        """
        bucket = self._buckets.get(address)
        if bucket.leak(AT_ADDRESS_PER_S, now) > AT_ADDRESS - 1:
            return False
        bucket.level += 1
        return True

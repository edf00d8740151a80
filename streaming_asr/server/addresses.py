"""The addresses that clients come from, and what each may do at what rate."""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")

MAX_ADDRESSES = 10_000
"""Addresses that are remembered, the latest ones."""


def place(address: str) -> str:
    """What counts as one address: of IPv6 a whole network, of which a single client may have every address.

    Args:
        address: of the client, or whatever a proxy reports in its place.
    """
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address[:64]
    if isinstance(ip, ipaddress.IPv6Address):
        return str(ip.ipv4_mapped or ipaddress.IPv6Network((int(ip) >> 64 << 64, 64)))
    return str(ip)


@dataclass(slots=True)
class Bucket:
    """A leaky bucket. Times are of any clock that never goes back, seconds."""

    level: float = 0.0
    since: float = 0.0

    def leak(self, per_s: float, now: float) -> float:
        """Let out what has leaked since the last call; returns what is left."""
        self.level = max(0.0, self.level - (now - self.since) * per_s)
        self.since = now
        return self.level


class PerAddress(Generic[T]):
    """Something for each of the latest addresses.

    Args:
        make: makes what a new address gets.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._of_each: OrderedDict[str, T] = OrderedDict()

    def find(self, address: str) -> T | None:
        """What an address has; None for a new one."""
        return self._of_each.get(place(address))

    def get(self, address: str) -> T:
        """What an address has, made if it is new."""
        key = place(address)
        if key not in self._of_each:
            self._of_each[key] = self._make()
            if len(self._of_each) > MAX_ADDRESSES:
                self._of_each.popitem(last=False)
        self._of_each.move_to_end(key)
        return self._of_each[key]

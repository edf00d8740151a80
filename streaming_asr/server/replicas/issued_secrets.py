"""The short-lived keys that replicas have issued, for replicas that start later. No clock: times are arguments."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

MAX_SECRETS = 10_000
MAX_BYTES = 16 * 2**20
"""Keys that are kept, and bytes of what they were issued for; each replica has the same bounds."""


@dataclass(frozen=True, slots=True)
class IssuedSecret:
    """A key, of which nobody but its client has more than the digest."""

    digest: str
    """In hexadecimal digits."""
    expires: float
    """Seconds, on the clock of the machine."""
    session: bytes
    """What it was issued for, as the replicas encode it."""


class IssuedSecrets:
    """Those that have not expired. Beyond `MAX_SECRETS` or `MAX_BYTES`, later ones are not kept."""

    def __init__(self) -> None:
        self._secrets: dict[str, IssuedSecret] = {}
        self._bytes = 0

    def __iter__(self) -> Iterator[IssuedSecret]:
        return iter(self._secrets.values())

    def add(self, secret: IssuedSecret, now: float) -> None:
        """Keep a key.

        Args:
            now: seconds, on the clock of `IssuedSecret.expires`.
        """
        if self._full(secret):
            self._secrets = {digest: kept for digest, kept in self._secrets.items() if kept.expires > now}
            self._bytes = sum(len(kept.session) for kept in self._secrets.values())
        if not self._full(secret):
            self._secrets[secret.digest] = secret
            self._bytes += len(secret.session)

    def _full(self, more: IssuedSecret) -> bool:
        return len(self._secrets) >= MAX_SECRETS or self._bytes + len(more.session) > MAX_BYTES


def pack(secrets: Iterable[IssuedSecret]) -> bytes:
    """Keys as one message carries them."""
    return json.dumps([[each.digest, each.expires, each.session.decode()] for each in secrets]).encode()


def unpack(packed: bytes) -> list[IssuedSecret]:
    """What was packed."""
    return [IssuedSecret(digest, expires, session.encode()) for digest, expires, session in json.loads(packed)]

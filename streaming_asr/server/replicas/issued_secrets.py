"""The short-lived keys that replicas have issued, for replicas that start later. No clock: times are arguments."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

MAX_SECRETS = 10_000
"""Keys that are kept; each replica has the same bound."""


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
    """Those that have not expired. Beyond `MAX_SECRETS`, later ones are not kept."""

    def __init__(self) -> None:
        self._secrets: dict[str, IssuedSecret] = {}

    def __iter__(self) -> Iterator[IssuedSecret]:
        return iter(self._secrets.values())

    def add(self, secret: IssuedSecret, now: float) -> None:
        """Keep a key.

        Args:
            now: seconds, on the clock of `IssuedSecret.expires`.
        """
        if len(self._secrets) >= MAX_SECRETS:
            self._secrets = {digest: kept for digest, kept in self._secrets.items() if kept.expires > now}
        if len(self._secrets) < MAX_SECRETS:
            self._secrets[secret.digest] = secret

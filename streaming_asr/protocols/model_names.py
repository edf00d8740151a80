"""The names under which clients may ask for the one model that is served."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase

HOSTED = (
    *("gpt-*", "whisper*", "distil-whisper*"),
    *("nova*", "flux*", "enhanced*", "base*", "general*"),
    *("qwen*-asr-flash*", "paraformer*", "fun-asr*", "gummy*"),
    *("any", "default"),
)
"""Patterns of names that clients have built in, for the services they were written for: OpenAI's and its kin's,
Deepgram's, DashScope's. Here they mean the model that is served. `any` and `default` are for clients that have to name
one."""


class ModelNames:
    """The names that clients may use for the model.

    Args:
        served: its name or path; None while it is not known, when every name is taken.
        aliases: further names, or patterns with `*`, in any case of letters.
    """

    def __init__(self, served: str | None = None, aliases: Iterable[str] = ()) -> None:
        self._served = served
        self._aliases = tuple(alias.lower() for alias in aliases)

    def serves(self, name: str) -> bool:
        """Whether this is the model's own name, whatever organisation or folder it is in, or an alias."""
        if self._served is None or _last_part(name) == _last_part(self._served):
            return True
        return any(fnmatchcase(name.lower(), alias) for alias in self._aliases)

    def takes(self, name: str) -> bool:
        """Whether it is one of those, or a name of a service that the client may have been written for."""
        return self.serves(name) or any(fnmatchcase(_last_part(name), pattern) for pattern in HOSTED)

    def unknown(self, name: str) -> str:
        """The error for a client that names another model."""
        return f"There is no model {name!r} here; there is {self._served!r}."


def _last_part(name: str) -> str:
    return name.rstrip("/").rpartition("/")[2].lower()

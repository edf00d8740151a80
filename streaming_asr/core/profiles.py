"""Sensible options for a use, chosen by one word. Options that are given besides win over the profile's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any


@dataclass(frozen=True, slots=True)
class Profile:
    """What a profile is for, and the options that it sets."""

    use: str
    """A phrase for the docs."""
    options: Mapping[str, Any]
    """Values of options that may change in mid-stream, by name; all others keep the server's defaults."""


def _profile(use: str, **options: Any) -> Profile:
    return Profile(use, MappingProxyType(options))


PROFILES: Mapping[str, Profile] = MappingProxyType(
    {
        "agent": _profile(
            "voice agents: the end of a turn as soon as it is likely, and a long wait where it is not",
            endpointing="turn",
            endpoint_min_ms=200,
            endpoint_ms=800,
            endpoint_max_ms=2000,
            turn_threshold=0.7,
        ),
        "captions": _profile(
            "text that people read while it is spoken: whole sentences, which may come late",
            endpoint_ms=1200,
        ),
        "dictation": _profile(
            "one person who writes by voice and thinks between the words",
            endpoint_ms=2000,
        ),
        "recording": _profile(
            "recordings that are sent as streams: nobody waits for the finals",
            endpoint_ms=1000,
            vad="thorough",
            partials=False,
        ),
    }
)


def options_of_profile(name: str | None) -> Mapping[str, Any]:
    """The options that a profile sets; none without a name, or with one that does not exist."""
    profile = PROFILES.get(name or "")
    return profile.options if profile is not None else {}

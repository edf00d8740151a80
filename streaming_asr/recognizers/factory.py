"""What a recognizer's folder declares, so that the command line can offer the recognizer."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass

from streaming_asr.core.recognizer import Recognizer


def _no_flags(group: argparse._ArgumentGroup) -> None:
    """Add nothing."""


@dataclass(frozen=True, slots=True)
class RecognizerFactory:
    """How to choose and make one kind of recognizer. Declaring it must not import the engine, which may be missing."""

    name: str
    """As ``--recognizer`` takes it."""
    serves: Callable[[str | None], bool]
    """Whether a model is one for this recognizer, by its name or folder; None: no model was named."""
    create: Callable[[argparse.Namespace], Recognizer]
    """Makes the recognizer of ``model``, of the flags that `add_flags` adds, and of ``engine``, a list of the options
    that the command line does not know. Raises `ValueError` with a message for the user."""
    add_flags: Callable[[argparse._ArgumentGroup], None] = _no_flags
    engine_help: Callable[[str | None], str] | None = None
    """Describes the options that the engine takes, for a model; None where it takes none. Raises `EngineNotInstalled`
    where they can't be read."""

"""Types of command-line arguments, for `argparse`."""

from __future__ import annotations

import argparse
import json
import math
from typing import Any

_OF_THE_AUDIO = frozenset({"encoding", "sample_rate", "channels", "channel_mode"})
_TEXTS = frozenset({"context", "language", "vad"})


def positive(text: str) -> int:
    """A whole number of at least 1.

    Raises:
        argparse.ArgumentTypeError: it is not.
    """
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return number


def seconds(text: str) -> float:
    """A duration of 0 s or more.

    Raises:
        argparse.ArgumentTypeError: it is not.
    """
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds")
    return number


def assignment(text: str) -> tuple[str, str]:
    """``NAME=VALUE``, split.

    Raises:
        argparse.ArgumentTypeError: it is not.
    """
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name, value


def session_setting(text: str) -> tuple[str, Any]:
    """``NAME=VALUE`` as an option of a session, of the type that it needs.

    Raises:
        argparse.ArgumentTypeError: it is not of this form, or follows from the audio.
    """
    name, value = assignment(text)
    if name in _OF_THE_AUDIO:
        raise argparse.ArgumentTypeError(f"{name} follows from the audio and can't be set")
    if name == "keywords":
        return name, tuple(value.split(","))
    if name in _TEXTS:
        return name, value
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value

"""CANN's Python interface without CANN: all names exist, and nothing happens."""

from typing import Any
from unittest.mock import MagicMock


def __getattr__(name: str) -> Any:
    return MagicMock(name=f"acl.{name}")

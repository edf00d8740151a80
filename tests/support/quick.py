"""Which tests are quick: they need no live recognizer, browser, vLLM or SDK of another service, and take a moment."""

from __future__ import annotations

from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]

FOLDERS = ("browser", "sdks", "vllm")
FILES = (
    "benchmarks/test_report.py",
    "protocols/test_model_names.py",
    "recognizers/test_faster_whisper.py",
    "recognizers/test_multilingual_whisper.py",
    "recognizers/test_token_text.py",
    "recognizers/test_whisper_loading.py",
    "server/test_recording_answers.py",
    "server/test_recording_bounds.py",
    "server/test_recordings.py",
    "turns/test_smart_turn.py",
)
"""Files that can't be imported without a package that `make check` does not install."""
FIXTURES = frozenset({"clips", "guarded", "in_browser", "server"})
"""Fixtures that start a server with a live recognizer, or run JavaScript."""


def check_names() -> None:
    """Check that what is listed here is there.

    Raises:
        pytest.UsageError: a folder or file is not.
    """
    if missing := [name for name in (*FOLDERS, *FILES) if not (TESTS / name).exists()]:
        raise pytest.UsageError(f"tests/support/quick.py names what is not there: {', '.join(missing)}")


def may_be_quick(path: Path) -> bool:
    """Whether the file may have quick tests; the others can't be imported without a package that is not installed."""
    if not path.is_relative_to(TESTS):
        return True
    place = path.relative_to(TESTS)
    return not (place.parts[:1] and (place.parts[0] in FOLDERS or place.as_posix() in FILES))


def is_quick(item: pytest.Item) -> bool:
    fixtures = set(getattr(item, "fixturenames", ()))
    return item.get_closest_marker("full") is None and FIXTURES.isdisjoint(fixtures) and may_be_quick(item.path)

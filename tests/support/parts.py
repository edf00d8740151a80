"""A pytest plugin: one of the two parts of the tests. Each runs in several processes, the second in fewer.

pytest -p tests.support.parts --part quick -n 4 --dist worksteal
pytest -p tests.support.parts --part rest -n 2
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from tests.support import quick

TOGETHER = ("vllm", "sdks", "browser")
"""Folders whose tests share what takes long to start or to install, so one process runs all of a folder. The longest
come first: what is short is left for the process that is done with them."""
NICE = 10
"""Of the process that runs the tests of vLLM, from the first of them on."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--part", choices=("quick", "rest"), required=True, help="of the tests")


def pytest_configure(config: pytest.Config) -> None:
    quick.check_names()


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    return None if config.getoption("--part") == "rest" or quick.may_be_quick(collection_path) else True


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    wanted = config.getoption("--part") == "quick"
    config.hook.pytest_deselected(items=[item for item in items if quick.is_quick(item) != wanted])
    items[:] = [item for item in items if quick.is_quick(item) == wanted]
    if not wanted:
        folders = [*TOGETHER, None]
        items.sort(key=lambda item: folders.index(_folder(item.nodeid)))


def pytest_runtest_setup(item: pytest.Item) -> None:
    # Beside other tests, in which someone speaks at real time and waits for words, an engine that computes gives way.
    if "PYTEST_XDIST_WORKER" in os.environ and _folder(item.nodeid) == "vllm" and os.nice(0) < NICE:
        os.nice(NICE - os.nice(0))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Any:
    if config.getoption("--part") == "quick":
        return None
    config.option.loadscopereorder = False
    return _FilesAndFolders(config, log)


class _FilesAndFolders(LoadScopeScheduling):
    """Gives a process that is done the next file, or the next folder of `TOGETHER`."""

    def _split_scope(self, nodeid: str) -> str:
        return _folder(nodeid) or nodeid.partition("::")[0]


def _folder(nodeid: str) -> str | None:
    """Which of `TOGETHER` a test is in."""
    return next((name for name in TOGETHER if nodeid.startswith(f"tests/{name}/")), None)

"""A pytest plugin: one of the two parts of the tests, so that the quick ones can run in several processes.

pytest -p tests.support.parts --part quick -n 4
pytest -p tests.support.parts --part rest
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import quick


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

"""The packages that the commands need: a Python that lacks one gets a sentence instead of a traceback."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

USAGE = 2
"""Exit code, as of `clients.command`, which needs packages itself."""


@contextmanager
def required(module: str) -> Iterator[None]:
    """Within, a command imports what it needs. The program ends if something is not installed.

    Args:
        module: the command's, as it is started by ``python -m``.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        print(f"{sys.executable} does not have the package {error.name}.", file=sys.stderr)
        print(f"After `make serve`: .venv/bin/python -m {module}; else: pip install '.[mic]'", file=sys.stderr)
        raise SystemExit(USAGE) from None

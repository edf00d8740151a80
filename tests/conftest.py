"""Fixtures that several tests share."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from streaming_asr.engine.process import limit_blas_threads
from tests.sdks.clips import KEY, Clips
from tests.support.live_server import LiveServer

HERE = Path(__file__).parent

# As the commands do.
limit_blas_threads()

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # Scripts start what runs in the background so, and commands that tests start would inherit it.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def server() -> Iterator[LiveServer]:
    """One server with the embedded default, for all tests that leave it as they found it."""
    with LiveServer() as live:
        yield live


@pytest.fixture(scope="session")
def guarded() -> Iterator[LiveServer]:
    """As `server`, but it asks for a key."""
    with LiveServer("--api-key", KEY) as live:
        yield live


@pytest.fixture(scope="session")
def clips(librivox: Path, tmp_path_factory: pytest.TempPathFactory) -> Clips:
    return Clips(librivox, tmp_path_factory.mktemp("clips"))


@pytest.fixture(scope="session")
def librivox() -> Path:
    """Folder of the clips that the repository carries."""
    return HERE / "speech" / "librivox"


@pytest.fixture(scope="session")
def speech() -> Path | None:
    """Folder of larger speech sets, where the machine has them."""
    folder = os.environ.get("STREAMING_ASR_SPEECH")
    return Path(folder) if folder else None

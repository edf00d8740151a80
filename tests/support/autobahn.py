"""`python -m tests.support.autobahn`: the Autobahn TestSuite's cases against the server's WebSocket.

What answers them is the server as it is, with a protocol that sends every message back. `kosoku` runs the cases.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, cast
from unittest.mock import patch

from streaming_asr.core.events import Event
from streaming_asr.core.options import SessionOptions
from streaming_asr.protocols.base import Command, Opened, Send, WireProtocol
from streaming_asr.protocols.failures import Failure
from streaming_asr.protocols.registry import PROTOCOLS
from streaming_asr.server.app import Application
from streaming_asr.server.options import ServerOptions
from tests.support.fake_recognizer import FakeRecognizer
from tests.support.serving import serving

if TYPE_CHECKING:
    from kosoku import CaseResult

LARGEST = 32 * 2**20
"""Bytes of the largest message of the cases, twice."""
COMPRESSION = ("12.*", "13.*")
"""Cases of permessage-deflate, which the server never grants: audio hardly shrinks."""


class EchoTranslator:
    """Sends back what it receives."""

    def connected(self) -> list[Command]:
        return []

    def received(self, message: str | bytes) -> list[Command]:
        return [Send(message)]

    def opened(self, opened: Opened) -> list[Command]:
        return []

    def configured(self, options: SessionOptions) -> list[Command]:
        return []

    def on_events(self, events: Sequence[Event]) -> list[Command]:
        return []

    def failed(self, failure: Failure) -> list[Command]:
        return []


async def results(cases: Sequence[str] | None = None, without: Sequence[str] = ()) -> list[CaseResult]:
    """Run cases, by their ids or globs; None is all.

    Args:
        without: those to leave out.
    """
    from kosoku import FailureError, run_fuzzingclient

    # The cases send messages of a few bytes faster than people speak.
    options = ServerOptions(max_message_bytes=LARGEST, max_unread_bytes=8 * LARGEST, max_unread_events=100_000)
    echo = {"/echo": WireProtocol(lambda handshake, defaults: EchoTranslator())}
    with patch.dict(cast(dict[str, WireProtocol], PROTOCOLS), echo):
        application = Application(FakeRecognizer(), options)
    async with serving(application) as port:
        try:
            return list(await run_fuzzingclient(f"ws://127.0.0.1:{port}/echo", cases, list(without), 4))
        except FailureError as failed:
            return list(failed.results)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.support.autobahn", description=(__doc__ or "").partition(": ")[2]
    )
    parser.add_argument(
        "cases",
        nargs="*",
        metavar="CASE",
        help="ids or globs, such as 1.* or 9.7.1 (default: all but those of compression)",
    )
    options = parser.parse_args(argv)
    found = asyncio.run(results(options.cases or None, without=() if options.cases else COMPRESSION))
    counted = Counter((result.behavior.value, result.behavior_close.value) for result in found)
    for (behavior, close), count in counted.most_common():
        print(f"{count:4} {behavior}, close {close}")
    failed = [result for result in found if not result.passed]
    for result in failed:
        print(f"{result.case_id}: {result.behavior.value}, {result.behavior_close.value}: {result.result[:200]}")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())

"""The Autobahn TestSuite's cases of framing, pings, fragments, UTF-8 and closing, on the server's own WebSocket.

Those of large messages and of many are left to `python -m tests.support.autobahn`.
"""

from __future__ import annotations

import asyncio

import pytest

from tests.support.autobahn import results

CASES = {
    "framing": ("1.*",),
    "pings": ("2.*",),
    "reserved bits and opcodes": ("3.*", "4.*"),
    "fragments": ("5.*",),
    "UTF-8": ("6.1.*", "6.2.*", "6.3.*", "6.4.*", "6.20.*", "6.21.*"),
    "closing": ("7.*",),
    "automatic fragments": ("10.*",),
}


@pytest.mark.parametrize("about", CASES)
def test_the_websocket_is_as_the_rfc_asks(about: str) -> None:
    found = asyncio.run(results(CASES[about]))
    assert found
    assert [f"{result.case_id}: {result.result}" for result in found if not result.passed] == []

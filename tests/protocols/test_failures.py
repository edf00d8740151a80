"""The table of failures against all that must agree with it: the clients' lists and the tables of the docs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from clients.errors import PERMANENT_CLOSES, TRANSIENT_CODES
from streaming_asr.protocols.failures import CloseCode, Failure, FailureKind

ROOT = Path(__file__).parents[2]
JAVASCRIPT = (ROOT / "clients/browser/live-stream.js").read_text(encoding="utf-8")
PAGES = ("protocol.md", "clients.md", "batch.md")
KINDS = {kind.code: kind for kind in FailureKind}


def _rows(page: str) -> Iterator[tuple[list[str], dict[str, str]]]:
    """Of each table of a page whose first column is `code`: the codes of a row, and its cells by column."""
    header: list[str] | None = None
    for line in (ROOT / "docs" / page).read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")] if line.startswith("|") else None
        if cells is None or header is None:
            header = cells
        elif header[0] == "code" and (codes := re.findall(r"`(\w+)`", cells[0])):
            yield codes, dict(zip(header, cells, strict=True))


def _native_codes() -> set[str]:
    return {code for codes, _ in _rows("protocol.md") for code in codes}


def _javascript_set(name: str) -> set[str]:
    found = re.search(rf"const {name} = new Set\(\[(.*?)\]\)", JAVASCRIPT, re.DOTALL)
    assert found is not None
    return {item.strip().strip('"') for item in found.group(1).split(",") if item.strip()}


@pytest.mark.parametrize("page", PAGES)
def test_the_docs_agree_with_the_table(page: str) -> None:
    rows = list(_rows(page))
    assert rows
    for codes, cells in rows:
        for code in codes:
            kind = KINDS[code]
            close = cells.get("close", cells.get("HTTP", ""))
            if "HTTP" in cells or close.startswith("HTTP"):
                assert close.removeprefix("HTTP ") == str(kind.status), code
            else:
                assert close == ("" if kind.close is None else str(int(kind.close))), code
            if "connect again" in cells:
                assert cells["connect again"] == ("yes" if kind.transient else "no"), code
            if "type" in cells:
                assert cells["type"] == ("`server_error`" if kind.server_error else "`invalid_request_error`"), code


def test_every_kind_of_failure_is_in_the_docs() -> None:
    documented = {
        code for page in ("protocol.md", "clients.md", "batch.md") for codes, _ in _rows(page) for code in codes
    }
    assert documented == set(KINDS)


def test_the_clients_connect_again_after_the_same_failures() -> None:
    transient = {code for code in _native_codes() if KINDS[code].transient}
    assert transient == TRANSIENT_CODES
    assert _javascript_set("TRANSIENT_CODES") == TRANSIENT_CODES


def test_the_clients_take_the_same_closes_for_the_end() -> None:
    assert {int(code) for code in _javascript_set("PERMANENT_CLOSES")} == PERMANENT_CLOSES
    permanent = {kind.close for kind in FailureKind if kind.close is not None and not kind.transient}
    transient = {kind.close for kind in FailureKind if kind.close is not None and kind.transient}
    assert permanent <= PERMANENT_CLOSES
    # 1008 closes sessions of both kinds: what the server sent before it decides.
    assert transient & PERMANENT_CLOSES == {CloseCode.POLICY}


def test_a_failure_ends_the_session_unless_it_goes_on() -> None:
    assert Failure(FailureKind.BAD_OPTION, "language: no").close == 1008
    assert Failure(FailureKind.BAD_OPTION, "language: no", goes_on=True).close is None
    assert Failure(FailureKind.STOPPED, "The stream has been stopped.").close is None

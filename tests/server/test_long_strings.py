"""JSON whose long strings are cut out while it arrives, in pieces of any size."""

from __future__ import annotations

import collections
import itertools
import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streaming_asr.server.openai_http import long_strings
from streaming_asr.server.openai_http.long_strings import LongStrings, TooMuchJson

CHARACTERS = st.sampled_from(["a", "/", '"', "\\", "\n", "\0", "\u00e9", "\u6f22", "\U0001f600", "x" * 20])
STRINGS = st.lists(CHARACTERS, max_size=60).map("".join)


def _read(raw: bytes, cuts: list[int]) -> tuple[object, LongStrings]:
    strings = LongStrings()
    at = 0
    for size in [*cuts, len(raw)]:
        strings.feed(raw[at : at + size])
        at += size
    strings.write()
    return msgspec.json.decode(strings.json), strings


@given(STRINGS, STRINGS, st.lists(st.integers(0, 40), max_size=20), st.booleans())
def test_every_string_is_whole_however_it_arrives(long: str, other: str, cuts: list[int], ascii_only: bool) -> None:
    raw = json.dumps({"a": long, "b": [other, {"c": 1.5}]}, ensure_ascii=ascii_only).encode().replace(b"/", b"\\/")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(long_strings, "KEPT_BYTES", 40)
        patch.setattr(long_strings, "PIECE_BYTES", 30)
        read, strings = _read(raw, cuts)
        with strings:
            assert isinstance(read, dict)
            assert "".join(strings.pieces(read["a"])) == long
            assert "".join(strings.pieces(read["b"][0])) == other
            assert read["b"][1] == {"c": 1.5}


def test_a_long_string_takes_no_memory_and_comes_in_pieces() -> None:
    audio = "QUJD" * 2**19
    with LongStrings() as strings:
        for part in (b'{"data": "', *[audio[at : at + 4096].encode() for at in range(0, len(audio), 4096)], b'"}'):
            strings.feed(part)
            if strings.full:
                strings.write()
            assert len(strings.json) + len(strings._unwritten) < long_strings.FLUSH_BYTES + 10_000 + len(part) * 10
        strings.write()
        pieces = list(strings.pieces(msgspec.json.decode(strings.json)["data"]))
    assert "".join(pieces) == audio
    assert max(map(len, pieces)) <= long_strings.PIECE_BYTES + 12


def test_all_else_is_bounded() -> None:
    for item in (b"[" * 1000, b'"' + b"x" * 30_000 + b'",', b'"' + b"x" * 100_000 + b'",'):
        with LongStrings() as strings:
            much = itertools.repeat(item, 3000)
            with pytest.raises(TooMuchJson, match="more than 2097152 bytes besides"):
                collections.deque(map(strings.feed, much), 0)


@pytest.mark.parametrize("inside", [b"\\x41" * 20, b"\xff" * 50, b"\\ud83d" * 20, b"\\u00zz" * 20, b"\n" * 50])
def test_what_is_not_a_string_is_an_error(inside: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long_strings, "KEPT_BYTES", 40)
    with pytest.raises(ValueError, match=r"string|JSON|control|utf-8"):  # noqa: PT012 - where, is of no matter
        read, strings = _read(b'"' + b"y" * 39 + inside + b'"', [])
        assert isinstance(read, str)
        list(strings.pieces(read))


def test_a_mark_that_a_client_sends_is_text() -> None:
    read, strings = _read(json.dumps(["\x000", "\x007"]).encode(), [])
    assert [list(strings.pieces(text)) for text in read] == [["\x000"], ["\x007"]]  # type: ignore[attr-defined]

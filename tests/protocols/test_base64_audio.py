"""Base64 in every form that clients send it in."""

from __future__ import annotations

import base64
import contextlib
import textwrap
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streaming_asr.protocols.base64_audio import (
    decode_base64,
    decode_base64_pieces,
    decode_data_url,
    decode_data_url_pieces,
)

DATA = bytes(range(256)) + b"\xfb\xff"
PLAIN = base64.b64encode(DATA).decode()

FORMS = {
    "plain": PLAIN,
    "with line breaks": base64.encodebytes(DATA).decode(),
    "with CRLF": "\r\n".join(textwrap.wrap(PLAIN, 76)),
    "with spaces around": f"  {PLAIN}\n",
    "URL-safe": base64.urlsafe_b64encode(DATA).decode(),
    "without padding": PLAIN.rstrip("="),
    "too much padding": PLAIN + "==",
    "percent-encoded": PLAIN.replace("+", "%2B").replace("/", "%2F").replace("=", "%3D"),
    "data URL of Qwen's cloud": "data:;base64," + PLAIN,
    "data URL": "data:audio/wav;base64," + PLAIN,
    "data URL with a parameter": "data:audio/pcm;rate=16000;base64," + PLAIN,
    "data URL in capitals, with line breaks": "DATA:audio/wav;BASE64," + base64.encodebytes(DATA).decode(),
}
GARBAGE = {
    "beyond ASCII": "\u00c4\u00d6",
    "punctuation": "????",
    "an impossible length": "AAAAA",
    "padding in the middle": "AA==AAAA",
    "a data URL without base64": "data:audio/wav,AAAA",
    "a data URL without data": "data:audio/wav;base64",
    "an unpaired surrogate": "\ud800",
}


@pytest.mark.parametrize("text", FORMS.values(), ids=FORMS)
def test_every_form_is_decoded(text: str) -> None:
    assert decode_base64(text) == DATA


@pytest.mark.parametrize("text", GARBAGE.values(), ids=GARBAGE)
def test_garbage_is_an_error_that_names_base64(text: str) -> None:
    with pytest.raises(ValueError, match=r"^The audio is not base64: "):
        decode_base64(text)


def test_a_data_url_may_be_percent_encoded() -> None:
    assert decode_data_url("data:audio/x-raw,%00%01a") == b"\x00\x01a"
    assert decode_data_url(FORMS["data URL"]) == DATA


@given(st.text())
def test_no_text_raises_anything_but_a_value_error(text: str) -> None:
    for decode in (decode_base64, decode_data_url):
        with contextlib.suppress(ValueError):
            decode(text)


@given(st.sampled_from(sorted(FORMS.values())), st.lists(st.integers(1, 9), max_size=30))
def test_pieces_are_decoded_as_the_whole_is(text: str, cuts: list[int]) -> None:
    # The first has the head of a data URL.
    at = [0, text.find(",") + 1 or 1]
    for cut in cuts:
        at.append(at[-1] + cut)
    pieces = [text[begin:end] for begin, end in pairwise([*at, len(text)])]
    assert b"".join(decode_base64_pieces(pieces)) == DATA


def test_a_percent_encoded_data_url_may_be_cut_anywhere() -> None:
    url = "data:audio/x-raw,%00%01a%25"
    for cut in range(17, len(url)):
        assert b"".join(decode_data_url_pieces([url[:cut], url[cut:]])) == b"\x00\x01a%"


@pytest.mark.parametrize("pieces", [("AA==", "AAAA"), ("AAA", "AA"), ("AAAA", "=A"), ("AAAA", "\u00c4")])
def test_garbage_in_a_later_piece_is_an_error(pieces: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match=r"^The audio is not base64: "):
        b"".join(decode_base64_pieces(pieces))

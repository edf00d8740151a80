"""The clients' side of the messages against the server's: the same names, fields, types and optional values."""

from __future__ import annotations

import enum
import re
import types
import typing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from clients import events
from streaming_asr.protocols import native

BROWSER = Path(__file__).parents[2] / "clients" / "browser"
JAVASCRIPT = "\n".join(path.read_text(encoding="utf-8") for path in sorted(BROWSER.glob("*.js")))

SENT = {kind.__struct_config__.tag: kind for kind in typing.get_args(native.Message)}
READ = {kind.__struct_config__.tag: kind for kind in typing.get_args(events.ServerEvent)}


def _shape(kind: Any) -> Any:
    """A type as it is on the wire: structs by their fields, enums of strings as strings."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        # What the server leaves out, the client reads as None.
        return frozenset(types.NoneType if one is msgspec.UnsetType else _shape(one) for one in arguments)
    if origin is not None:
        return origin, tuple(map(_shape, arguments))
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return tuple((field.encode_name, _shape(field.type)) for field in msgspec.structs.fields(kind))
    return str if isinstance(kind, type) and issubclass(kind, str) and issubclass(kind, enum.Enum) else kind


def _present(shape: Any) -> frozenset[Any]:
    """What a field may hold where it is there."""
    return (shape if isinstance(shape, frozenset) else frozenset({shape})) - {types.NoneType, msgspec.UnsetType}


def test_the_python_client_knows_each_message() -> None:
    assert SENT.keys() == READ.keys()


@pytest.mark.parametrize("tag", SENT)
def test_the_python_client_reads_the_fields_that_are_sent(tag: str) -> None:
    sent = {field.encode_name: field for field in msgspec.structs.fields(SENT[tag])}
    read = {field.encode_name: field for field in msgspec.structs.fields(READ[tag])}
    assert read.keys() == sent.keys()
    for name, field in sent.items():
        if field.required:
            assert _shape(read[name].type) == _shape(field.type)
        else:
            # The server leaves it out at times, so the client needs a default.
            assert _present(_shape(read[name].type)) == _present(_shape(field.type))
            assert not read[name].required


def test_the_browser_module_handles_messages_that_exist() -> None:
    handled = set(re.findall(r'(?:event\.type === |case )"(\w+)"', JAVASCRIPT))
    kinds = re.search(r"const KINDS = new Set\(\[(.*?)\]\)", JAVASCRIPT)
    assert kinds is not None
    handled |= set(re.findall(r'"(\w+)"', kinds.group(1)))
    assert handled <= SENT.keys()
    # Pages get these as they are.
    assert SENT.keys() - handled == {"speech_resumed", "eager_turn_end", "turn_resumed", "warning"}


def test_the_browser_module_reads_fields_that_exist() -> None:
    fields = {"type"} | {field.encode_name for kind in SENT.values() for field in msgspec.structs.fields(kind)}
    assert set(re.findall(r"\bevent\.(\w+)", JAVASCRIPT)) <= fields


def test_the_browser_module_sends_messages_that_exist() -> None:
    sent = set(re.findall(r'\{ type: "(\w+)"', JAVASCRIPT))
    assert sent >= {"configure", "finalize", "ping", "stop"}
    assert sent <= {kind.__struct_config__.tag for kind in typing.get_args(native.Control)}

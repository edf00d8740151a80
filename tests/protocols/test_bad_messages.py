"""Messages that are hard to read, in every protocol: each gets an error in the protocol's form, and no exception."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streaming_asr.core.options import SessionOptions
from streaming_asr.protocols.base import Close, Command, Handshake, Opened, Send, Translator
from streaming_asr.protocols.failures import CloseCode
from streaming_asr.protocols.model_names import ModelNames
from streaming_asr.protocols.registry import PROTOCOLS
from tests.support.fakes import CAPABILITIES

DIALECTS = {
    "native": ("/v1/stream", None),
    "openai": ("/v1/realtime", '{"type":"input_audio_buffer.clear"}'),
    "vllm": ("/v1/realtime", '{"type":"session.update","model":"fake"}'),
    "dashscope": ("/api-ws/v1/realtime", None),
    "deepgram": ("/v1/listen", None),
    "flux": ("/v2/listen", None),
}
"""Path, and the first message where that chooses the dialect."""

TYPES = {
    "native": ("start", "configure", "ping"),
    "openai": ("session.update", "transcription_session.update", "input_audio_buffer.append"),
    "vllm": ("session.update", "input_audio_buffer.append", "input_audio_buffer.commit"),
    "dashscope": ("session.update", "input_audio_buffer.append", "session.finish"),
    "deepgram": ("Configure", "KeepAlive"),
    "flux": ("Configure", "KeepAlive"),
}
FIELDS = (
    *("nobody_knows", "id", "event_id", "type", "session", "audio", "model", "prompt", "final"),
    *("sample_rate", "vad_threshold", "keywords", "language", "keyterms", "features", "thresholds"),
    *("turn_detection", "threshold", "prefix_padding_ms", "silence_duration_ms", "eot_threshold", "eot_timeout_ms"),
)
NUMBERS = ("1e400", "-1e400", "1" + "0" * 400, "9" * 5000, str(2**64), "NaN", "Infinity", "-0", "1e-400")
STRINGS = ('"nan"', '"-inf"', '"1e400"', '"\\ud800"', '"\\udc00\\ud800"', '"\\u0000"', '"\ud800"')


def _connect(dialect: str) -> Translator:
    path, first = DIALECTS.get(dialect, (dialect, None))
    request = Handshake(path, time=1000.0, models=ModelNames(CAPABILITIES.model))
    translator = PROTOCOLS[path].translator(request, SessionOptions())
    translator.connected()
    translator.opened(Opened("s1", SessionOptions(), CAPABILITIES))
    if first is not None:
        translator.received(first)
        translator.configured(SessionOptions())
    return translator


def _nested(depth: int, array: bool) -> str:
    return "[" * depth + "]" * depth if array else '{"a":' * depth + "1" + "}" * depth


def _errors(commands: list[Command]) -> list[dict[str, Any]]:
    """The messages sent, all of which must be errors after which the session goes on."""
    assert not any(isinstance(command, Close) for command in commands)
    sent = [json.loads(command.message) for command in commands if isinstance(command, Send)]
    assert all(message["type"].lower() in ("error", "warning") for message in sent)
    return sent


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("array", [True, False])
def test_deep_nesting_is_an_error(dialect: str, array: bool) -> None:
    translator = _connect(dialect)
    for kind in TYPES[dialect]:
        for message in (
            f'{{"type":"{kind}","nobody_knows":{_nested(3000, array)}}}',
            f'{{"nobody_knows":{_nested(3000, array)},"type":"{kind}"}}',
            f'{{"type":"{kind}","session":{{"nobody_knows":{_nested(3000, array)}}}}}',
        ):
            assert len(_errors(translator.received(message))) == 1
    assert len(_errors(translator.received(_nested(3000, array)))) == 1


@pytest.mark.parametrize("dialect", DIALECTS)
def test_what_is_not_a_json_object_is_an_error(dialect: str) -> None:
    translator = _connect(dialect)
    for message in ("", "{", "7", "null", "[]", '"\ud800"', "\ud800", "\udcff", '{"type":"\ud800"}', *NUMBERS):
        assert len(_errors(translator.received(message))) == 1, message


def test_a_number_out_of_range_is_an_error_of_the_native_protocol() -> None:
    translator = _connect("native")
    for kind, number in (("start", "1e400"), ("configure", "-1e400"), ("ping", "1e400")):
        (error,) = _errors(translator.received(f'{{"type":"{kind}","nobody_knows":{number}}}'))
        assert error["code"] == "bad_message"
    sent, close = translator.received(f'{{"type":"start","sample_rate":{10**400}}}')
    assert isinstance(sent, Send)
    assert "8000 to 48000" in json.loads(sent.message)["message"]
    assert close == Close(CloseCode.POLICY, "bad_option")


def test_an_option_of_the_wrong_type_is_quoted_in_short() -> None:
    translator = _connect("native")
    for value in ("[" * 300 + "]" * 300, '"' + "x" * 1_000_000 + '"'):
        (error,) = _errors(translator.received(f'{{"type":"configure","endpoint_ms":{value}}}'))
        assert error["code"] == "bad_option"
        assert len(error["message"]) < 300


def test_the_error_for_a_wrong_type_lists_the_types() -> None:
    for message in ('{"id":1}', '{"type":"sing"}', "[1]"):
        (error,) = _errors(_connect("native").received(message))
        assert "start, configure, finalize, stop, ping" in error["message"]


@pytest.mark.parametrize("dialect", DIALECTS)
def test_binary_where_it_has_no_meaning_names_what_has(dialect: str) -> None:
    sent = _errors(_connect(dialect).received(b"\xff\xfe"))
    if dialect in ("openai", "vllm", "dashscope"):
        assert "input_audio_buffer.append" in json.dumps(sent)
    else:
        assert sent == []


@settings(deadline=None)
@given(st.data())
@pytest.mark.parametrize("dialect", [*DIALECTS, *PROTOCOLS])
def test_no_message_raises(dialect: str, data: st.DataObject) -> None:
    translator = _connect(dialect)
    depth, array = st.integers(1, 3000), st.booleans()
    types = st.sampled_from(TYPES.get(dialect, ("anything",)))
    values = st.one_of(st.sampled_from([*NUMBERS, *STRINGS]), st.builds(_nested, depth, array))
    for _ in range(data.draw(st.integers(1, 3))):
        value, field = data.draw(values), data.draw(st.sampled_from(FIELDS))
        kind, outer = data.draw(types), data.draw(st.sampled_from((None, *FIELDS)))
        inner = f'"{field}":{value}'
        inner = inner if outer is None else f'"{outer}":{{{inner}}}'
        translator.received(f'{{"type":"{kind}",{inner}}}')
        translator.received(f'{{{inner},"type":"{kind}"}}')

"""A whole conversation in a dialect, from bytes: each line is a message of the client, or something that happens.

Lines that begin with `!` are steps of the client, the recognizer and time, a letter each: see `STEPS`. Other lines are
messages: text if they are UTF-8 and begin with a printable character, else binary.
"""

from __future__ import annotations

import base64
import json
from collections import deque
from collections.abc import Callable, Mapping, Sequence

from streaming_asr.core.events import SessionWarning
from streaming_asr.core.options import OptionError, SessionOptions
from streaming_asr.protocols.base import Clear, Command, Configure, Finalize, Handshake, Open, Opened, Send
from streaming_asr.protocols.failures import Failure, FailureKind
from streaming_asr.protocols.registry import PROTOCOLS
from tests.support.conversing import quiet, voiced
from tests.support.fakes import CAPABILITIES
from tests.support.watched import DIALECTS, WatchedClient

MOST_LINES = 400
_VOICED, _QUIET = voiced(0.4), quiet(0.4)
_BASE64 = ("openai", "vllm", "dashscope")


def _audio(client: WatchedClient, pcm: bytes) -> None:
    if client.dialect in _BASE64:
        append = {"type": "input_audio_buffer.append", "audio": base64.b64encode(pcm).decode()}
        client.take(json.dumps(append))
    else:
        client.take(pcm)


def _resume(client: WatchedClient) -> None:
    if client.yields:
        client.resume()


def _answer(client: WatchedClient) -> None:
    if client.queries:
        client.answer()


def _warn(client: WatchedClient) -> None:
    client.conversation.warn(SessionWarning("recognizer_recovering", "Text will be late."), client.now)
    client._act()


def _judge(client: WatchedClient, probability: float) -> None:
    if client.asked:
        client.judge(probability)


STEPS: Mapping[str, Callable[[WatchedClient], None]] = {
    "v": lambda client: _audio(client, _VOICED),
    "q": lambda client: _audio(client, _QUIET),
    "d": lambda client: client.sessions.finish_one(0),
    "D": lambda client: client.sessions.finish_one(1),
    "f": lambda client: client.sessions.finish_one(0, fails=True),
    "a": _answer,
    "c": lambda client: client.step_decoder(),
    "r": _resume,
    "j": lambda client: _judge(client, 0.9),
    "J": lambda client: _judge(client, 0.1),
    "w": lambda client: client.wait(1.0),
    "W": lambda client: client.wait(9.0),
    "s": lambda client: client.finish(),
    "i": _warn,
    "e": lambda client: client.end(),
    "E": lambda client: client.end_at_pause(),
    "o": lambda client: client.overflow(),
    "l": lambda client: client.leave(),
}


def converse(dialect: str, data: bytes) -> int:
    """Hold a conversation, and check what must hold; returns the number of messages and steps.

    Raises:
        Exception: something does not hold.
    """
    client = WatchedClient(dialect)
    count = 0
    lines = data.split(b"\n")[:MOST_LINES]
    for line in lines:
        if line[:1] == b"!":
            for letter in line[1:].decode("latin-1"):
                if letter in STEPS:
                    count += 1
                    STEPS[letter](client)
        else:
            count += 1
            client.take(_message(line))
    client.settle()
    client.check_end()
    return count


def translate(data: bytes) -> int:
    """Give messages to a dialect's translator alone, which is much faster: a byte for the dialect, then lines as those
    of `converse`; returns the number of messages.

    Raises:
        Exception: the translator raised one, or sends what is not JSON.
    """
    dialect = tuple(DIALECTS)[data[0] % len(DIALECTS)] if data else "native"
    path, first = DIALECTS[dialect]
    options = SessionOptions(vad="webrtc", sample_rate=16_000)
    translator = PROTOCOLS[path].translator(Handshake(path, time=1000.0), options)
    todo: deque[Command] = deque(translator.connected())
    lines = [_message(line) for line in data[1:].split(b"\n") if line[:1] != b"!"][:MOST_LINES]
    for message in [first, *lines] if first else lines:
        todo.extend(translator.received(message))
        while todo:
            command = todo.popleft()
            if isinstance(command, Open):
                options = command.options
                todo.extend(translator.opened(Opened("s1", options, CAPABILITIES)))
            elif isinstance(command, Configure):
                try:
                    options = options.changed(**command.changes)
                    todo.extend(translator.configured(options))
                except OptionError as error:
                    todo.extend(translator.failed(Failure(FailureKind.BAD_OPTION, str(error), goes_on=True)))
            elif isinstance(command, Finalize | Clear):
                todo.extend(translator.on_events([]))
            elif isinstance(command, Send):
                json.loads(command.message)
    return len(lines)


def _message(line: bytes) -> str | bytes:
    if line[:1] < b" ":
        return line
    try:
        return line.decode()
    except UnicodeDecodeError:
        return line


def script(steps: str, *messages: object) -> bytes:
    """A seed: steps, with a message at each `_` among them."""
    waiting = list(messages)
    lines: list[bytes] = []
    for part in steps.split("_"):
        lines.append(b"!" + part.encode())
        if waiting:
            message = waiting.pop(0)
            lines.append(message if isinstance(message, bytes) else json.dumps(message).encode())
    return b"\n".join(lines)


def _openai(**given: object) -> dict[str, object]:
    return {"type": "session.update", "session": {"type": "transcription", "audio": {"input": given}}}


_COMMIT, _CLEAR = {"type": "input_audio_buffer.commit"}, {"type": "input_audio_buffer.clear"}
SEEDS: Mapping[str, Sequence[bytes]] = {
    "native": (
        script(
            "_vvq_vvqqdd_s_s",
            {"type": "start", "language": "de", "keywords": ["Qwen"], "vad": "silero", "endpoint_ms": 400},
            {"type": "configure", "endpoint_ms": 300, "sample_rate": 8000, "encoding": "mulaw", "pre_roll_ms": 100},
            {"type": "finalize"},
            {"type": "stop"},
        ),
        script("_vqJvqjqvqqqjs_s", {"type": "start", "endpointing": "turn"}, {"type": "stop"}),
        script(
            "_vvvvdf_qw_sWW",
            {"type": "start", "channels": 2, "channel_mode": "split", "vad_threshold": 0.4, "partials": False},
            {"type": "ping", "id": "x"},
            {"type": "configure", "language": None, "prompt": "names", "max_utterance_s": 5, "word_times": True},
        ),
        b"RIFF\x24\0\0\0WAVEfmt \x10\0\0\0\1\0\1\0\x80\x3e\0\0\0\x7d\0\0\2\0\x10\0data\0\0\0\0"
        + b"\0" * 99
        + b"\n!vvs",
        b'\x01{"type":"finalize"}\n!vv\n{"type":"finalize"}\n!i',
    ),
    "openai": (
        script(
            "_vvqqdd_vvvqs_s",
            _openai(
                format={"type": "audio/pcm", "rate": 24000},
                transcription={"model": "gpt-4o-transcribe", "language": "en", "prompt": "names"},
                turn_detection={"type": "server_vad", "threshold": 0.5, "prefix_padding_ms": 300},
                noise_reduction={"type": "near_field"},
            ),
            _COMMIT,
            _CLEAR,
        ),
        script("_vvfd_v_vvs", _openai(turn_detection=None), _COMMIT, _openai(format={"type": "audio/pcmu"})),
        script(
            "_vv_vv_s",
            {
                "type": "transcription_session.update",
                "event_id": "e",
                "session": {
                    "input_audio_format": "pcm16",
                    "input_audio_transcription": {"model": "whisper-1"},
                    "turn_detection": {"type": "server_vad", "silence_duration_ms": 200},
                    "include": ["item.input_audio_transcription.logprobs"],
                },
            },
            {"type": "input_audio_buffer.append", "audio": "AAA=", "event_id": "e"},
            {"type": "input_audio_buffer.append", "audio": "-_-_"},
        ),
    ),
    "vllm": (
        script(
            "_v_vvd_ss",
            {"type": "session.update", "model": "fake", "language": "de"},
            _COMMIT,
            _COMMIT | {"final": True},
        ),
        script("_vvs", {"type": "input_audio_buffer.append", "audio": "AAAAAAAA"}, _COMMIT),
    ),
    "dashscope": (
        script(
            "_vvqqdd_vvvqs_s",
            {
                "type": "session.update",
                "event_id": "e",
                "session": {
                    "modalities": ["text"],
                    "input_audio_format": "pcm",
                    "sample_rate": 16000,
                    "input_audio_transcription": {"language": "en", "corpus": {"text": "names"}},
                    "turn_detection": {"type": "server_vad", "threshold": 0.0, "silence_duration_ms": 400},
                },
            },
            _COMMIT,
            {"type": "session.finish"},
        ),
        script("_vv_s", {"type": "session.update", "session": {"turn_detection": None}}, _CLEAR),
    ),
    "deepgram": (
        script(
            "vvqqd_vvd_s_s",
            {"type": "KeepAlive"},
            {"type": "Configure", "keyterms": ["Qwen"], "features": {"interim_results": True}},
            {"type": "Finalize"},
        ),
        script("vvvvfd_s", {"type": "CloseStream"}),
    ),
    "flux": (
        script(
            "vvqqd_vvd_s_s",
            {
                "type": "Configure",
                "thresholds": {"eager_eot_threshold": 0.4, "eot_threshold": 0.7, "eot_timeout_ms": 900},
            },
            {"type": "Configure", "keyterms": "Qwen", "language_hints": ["en"]},
            {"type": "ForceEndTurn"},
        ),
        script("vvfd_s", {"type": "CloseStream"}),
    ),
}


def message_seeds() -> Sequence[bytes]:
    """For `translate`."""
    return [bytes([number]) + seed for number, dialect in enumerate(DIALECTS) for seed in SEEDS[dialect]]

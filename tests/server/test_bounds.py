"""The table of bounds in docs/operations.md against the code, and bounds that no other test reaches."""

from __future__ import annotations

import http.server
import io
import re
import threading
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from streaming_asr.core import annotations, options, scheduler, session
from streaming_asr.core.options import OptionError, SessionOptions
from streaming_asr.engine import inquiries, log_rate, question_threads
from streaming_asr.engine.media import decoders, limits, live, live_child, live_reader, reader, repairs, timeline
from streaming_asr.protocols import sent_messages
from streaming_asr.protocols.failures import FailureKind
from streaming_asr.recognizers.vllm import word_aligner
from streaming_asr.server import (
    addresses,
    chat_translator,
    fair_requests,
    head_starts,
    http_bounds,
    key_guesses,
    memory,
    tls_connections,
)
from streaming_asr.server.app import Application
from streaming_asr.server.live import fair_loop, file_sessions, relay, turn_questions, unfinished, websocket
from streaming_asr.server.live import limits as live_limits
from streaming_asr.server.openai_http import (
    bodies,
    chat,
    client_secrets,
    fair_turns,
    fetch,
    long_strings,
    recording_slots,
    recordings,
)
from streaming_asr.server.options import ServerOptions
from streaming_asr.server.replicas import channel, issued_secrets, placement, restarts, supervisor
from tests.support.docs_tables import DOCS
from tests.support.fake_recognizer import FakeRecognizer

TESTS = Path(__file__).parents[1]
SCALES = {"MiB": 2**20, "GiB": 2**30, "KiB": 2**10, "h": 3600, "min": 60, "kHz": 1000}
IN_CODE: dict[str, tuple[float, ...]] = {
    "keywords of a session": (options.MAX_KEYWORDS, options.MAX_KEYWORD_CHARS),
    "its context": (options.MAX_CONTEXT_CHARS,),
    "its replacements": (options.MAX_REPLACEMENTS, options.MAX_REPLACEMENT_CHARS),
    "pongs to a client that does not read": (1,),
    "time to read the last messages and the close": (websocket.CLOSE_WAIT_S,),
    "messages kept for a client that may resume": (sent_messages.MAX_BYTES,),
    "pauses that wait to be judged": (turn_questions.MOST_WAITING / turn_questions.THREADS,),
    "finals of a live channel that wait for annotators": (annotations.MAX_WAITING,),
    "wait of a recording's final for each annotator": (annotations.RECORDED_BUDGET_MS / 1000,),
    "texts that wait for a word aligner": (word_aligner.MAX_WAITING,),
    "questions of annotators": (inquiries.MAX_WAITING,),
    "threads of an annotator that hang for 2 s or more": (question_threads.MAX_HANGING,),
    "finals of a channel that are being translated": (annotations.MAX_FOLLOWED,),
    "texts that wait for the translator": (chat_translator.MAX_WAITING,),
    "time and size of a translation": (chat_translator.TIMEOUT_S, chat_translator.MAX_ANSWER_BYTES),
    "recordings received or waiting": (recording_slots.MAX_WAITING_AT_ADDRESS, recording_slots.MAX_WAITING),
    "recordings paused, for those of other clients": (fair_turns.MAX_PAUSED,),
    "turn of a recording, while others wait": (fair_turns.TURN_S,),
    "those of one address": (bodies.ADDRESS_SHARE * 100,),
    "size of a chat request": (chat.MAX_CHAT_BYTES,),
    "the same without its audio and long texts": (long_strings.MAX_JSON_BYTES,),
    "its lowest rate, after 10 s": (bodies.MIN_BYTES_PER_S,),
    "client secrets that have not expired": (client_secrets.MAX_SECRETS,),
    "those of other replicas": (),
    "messages to a replica that reads none": (channel.MAX_QUEUED,),
    "those of them with a connection": (channel.MAX_QUEUED_SOCKETS,),
    "connections given to a replica and not received": (placement.MAX_ON_THE_WAY,),
    "clients of TLS that are copied to another replica": (relay.MAX_RELAYS,),
    "time for these to read something": (relay.UNREAD_TIMEOUT_S,),
    "bytes of client secrets that the supervisor keeps": (issued_secrets.MAX_BYTES,),
    "deaths of a replica": (restarts.MOST, restarts.WITHIN_S),
    "time without a report of a replica": (supervisor.HANGS_S,),
    "size of a request for one": (client_secrets.MAX_BODY_BYTES,),
    "bytes of their sessions' configurations": (client_secrets.MAX_SECRETS_BYTES,),
    "URL and headers of a request or handshake": (websocket.MAX_HEAD_BYTES,),
    "messages begun and not finished, of all connections": (unfinished.MAX_UNFINISHED_BYTES,),
    "headers of a request or handshake": (http_bounds.MAX_HEADERS,),
    "time for them": (http_bounds.HEAD_TIMEOUT_S,),
    "requests sent ahead of the response to one before": (http_bounds.MAX_AHEAD,),
    "time to read a response": (http_bounds.UNREAD_TIMEOUT_S,),
    "those of one address that send files": (file_sessions.ADDRESS_SHARE * 100,),
    "processor time of the decoders of one address": (file_sessions.CPU_S, 1, 1 / file_sessions.CPU_S_PER_S),
    "memory of the decoder of a session's file": (limits.LIVE_MEMORY_BYTES,),
    "bytes of a session's file that wait for its decoder": (live.UNSENT_BYTES,),
    "audio of that file, relative to its size": (live_child.EXPANDED_S, 1, live_child.MIN_BITS_PER_S / 8),
    "silence for one hole in it": (live_reader.MAX_HOLE_S,),
    "processor time of that file's decoder": (live_child.CPU_S, 1, 1 / live_child.CPU_PER_S),
    "time in which that decoder answers": (live.WAITS_S,),
    "the same, relative to the recording's size": (decoders.EXPANDED_S, 1, decoders.MIN_BITS_PER_S / 8),
    "silence for one hole in a recording": (timeline.MAX_HOLE_S,),
    "channels and sample rate of a recording": (reader.MAX_CHANNELS, reader.MIN_RATE, reader.MAX_RATE),
    "repairs of a recording that are reported": (repairs.MAX_REPAIRS,),
    "processor time of its decoder": (decoders.CPU_S, decoders.CPU_S_PER_MB),
    "memory of its decoder": (limits.MEMORY_BYTES,),
    "unused decoders, and how long they are kept": (1, decoders.SPARE_S),
    "length of a URL; redirects of it": (chat.MAX_URL_CHARS, fetch.MAX_REDIRECTS),
    "names looked up at once, for URLs": (fetch.MAX_LOOK_UPS,),
    "its lowest rate, after 10 s; its host silent": (bodies.MIN_BYTES_PER_S, fetch.MAX_SILENCE_S),
    "bytes of one connection in one turn": (websocket.TURN_BYTES,),
    "share of one client in the event loop, while others speak": (fair_loop.CLIENT_SHARE * 100,),
    "requests of one address, while others speak": (fair_requests.ADDRESS_SHARE * 100,),
    "requests that wait for that": (fair_requests.MAX_WAITING_AT_ADDRESS, fair_requests.MAX_WAITING),
    "recordings in the event loop, while others speak": (fair_loop.CLIENT_SHARE * 100,),
    "live sessions of one address that begin with 2 s at once": (
        head_starts.AT_ADDRESS,
        head_starts.AT_ADDRESS_PER_S,
    ),
    "slots of sessions ahead of real time, while others speak": (scheduler.SHARE_OF_OTHERS * 100,),
    "options changed, audio cleared": (live_limits.CHANGES, live_limits.CHANGES_PER_S),
    "utterances ended by `finalize`": (session.FORCED_FINALS, session.FORCED_FINALS_S),
    "wrong API keys from one address": (key_guesses.AT_ADDRESS, key_guesses.AT_ADDRESS_PER_S * 60),
    "wrong API keys from all addresses": (key_guesses.IN_ALL, key_guesses.IN_ALL_PER_S),
    "lines of one kind in the log": (log_rate.PER_MINUTE,),
    "addresses that are remembered": (addresses.MAX_ADDRESSES,),
    "time for a handshake of TLS": (http_bounds.HEAD_TIMEOUT_S,),
    "handshakes of TLS of one address, while others speak": (tls_connections.HANDSHAKE_SHARE * 100,),
    "records of TLS of one connection, while others speak": (fair_loop.CLIENT_SHARE * 100,),
}
"""The numbers of bounds that no option sets, in the order in which the table has them."""


def _rows() -> list[list[str]]:
    section = (DOCS / "operations.md").read_text(encoding="utf-8").partition("### Bounds")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def _numbers(cell: str) -> list[float]:
    found = re.findall(r"\b(\d+(?:,\d{3})*)(?: (MiB|GiB|KiB|kHz|h|min)\b)?", cell)
    return [float(number.replace(",", "")) * SCALES.get(unit, 1) for number, unit in found]


@pytest.mark.parametrize("row", _rows(), ids=lambda row: row[0])
def test_a_row_of_the_table_is_true(row: list[str]) -> None:
    bound, option, default, beyond, test = row
    if option:
        name = option.strip("`-").replace("-", "_")
        value: Any = getattr(ServerOptions(), name) * (2**20 if name.endswith("_mib") else 1)
        expected = [value] if value else []
    else:
        expected = list(IN_CODE[bound])
    numbers = _numbers(default)
    if bound.startswith("channels"):
        numbers = [numbers[0], *(rate if rate > 1000 else rate * 1000 for rate in numbers[1:])]
    assert numbers == pytest.approx(expected)
    codes = re.findall(r"`(\w+)`", beyond)
    assert all(code in {kind.code for kind in FailureKind} for code in codes)
    assert list(TESTS.rglob(test.strip("`")))


def test_the_table_has_every_option_that_limits_something() -> None:
    named = {row[1].strip("`") for row in _rows()}
    page = (DOCS / "operations.md").read_text(encoding="utf-8").partition("<!-- options: end -->")[0]
    elsewhere = {"--final-objective-s", "--drain-timeout-s", "--allow-private-urls"}
    assert set(re.findall(r"^\| `(--[\w-]+)`", page, re.MULTILINE)) - elsewhere <= named
    assert set(IN_CODE) == {row[0] for row in _rows() if not row[1]}
    assert memory.SHARE == 0.9


def test_keywords_and_context_are_bounded() -> None:
    for given in ({"keywords": ("a",) * 201}, {"keywords": ("a" * 101,)}, {"context": "a" * 4001}):
        with pytest.raises(OptionError):
            SessionOptions(**given)  # type: ignore[arg-type]


def test_a_chat_or_its_url_that_is_too_long_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    application = Application(FakeRecognizer(), ServerOptions(session=SessionOptions(vad="webrtc")))
    with TestClient(application.asgi, "http://localhost") as client:
        assert client.portal is not None
        client.portal.call(application.service.start)

        def asked(url: str) -> int:
            part = {"type": "audio_url", "audio_url": {"url": url}}
            return client.post(
                "/v1/chat/completions", json={"messages": [{"role": "user", "content": [part]}]}
            ).status_code

        assert asked("http://a.example/" + "a" * chat.MAX_URL_CHARS) == 400
        monkeypatch.setattr(recordings, "MAX_CHAT_BYTES", 1000)
        assert asked("data:audio/wav;base64," + "A" * 1000) == 413
        client.portal.call(application.service.close)


def test_redirects_are_followed_up_to_a_bound() -> None:
    asked: list[str] = []

    class Redirecting(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(302)
            self.send_header("Location", f"/{len(asked)}")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Redirecting) as host:
        threading.Thread(target=host.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{host.server_port}/"
        with pytest.raises(fetch.FetchRefused, match="redirects"):
            fetch.fetch(url, io.BytesIO(), allow_private=True, max_bytes=10, timeout_s=10)
        host.shutdown()
    assert len(asked) == fetch.MAX_REDIRECTS + 1

"""Spans as a collector receives them, and that they cost a session nothing when it is away."""

from __future__ import annotations

import asyncio
import contextlib
import io
import logging
import socket
import subprocess
import sys
import threading
import time
import wave
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import numpy as np
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from websockets.asyncio.client import connect

from streaming_asr.core.events import EndReason, Final, SpeechEnded, SpeechStarted
from streaming_asr.core.options import OptionError, SessionOptions
from streaming_asr.core.recognizer import DecodeJob, Kind
from streaming_asr.server import span_exporter, tracing
from streaming_asr.server.app import Application
from streaming_asr.server.options import ServerOptions
from streaming_asr.server.tracing import LAST_SPANS, MAX_DECODES, Tracing, make_tracing
from tests.support.fake_recognizer import FakeRecognizer
from tests.support.serving import serving
from tests.support.wire import Conversation, run

SECRET = "rhubarb"
"""What everybody says."""
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE}-{PARENT}-01"
NOISE = np.random.default_rng(0).integers(-20_000, 20_000, 16_000, np.int16)


class Collector:
    """Takes spans by OTLP over HTTP."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        bodies = self.bodies

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                assert self.path == "/v1/traces"
                bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
                self.send_response(200)
                self.send_header("Content-Type", "application/x-protobuf")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def resources(self) -> list[dict[str, str]]:
        return [
            {attribute.key: attribute.value.string_value for attribute in of.resource.attributes}
            for body in self.bodies
            for of in ExportTraceServiceRequest.FromString(body).resource_spans
        ]

    @property
    def spans(self) -> list[Any]:
        return [
            span
            for body in self.bodies
            for of in ExportTraceServiceRequest.FromString(body).resource_spans
            for scope in of.scope_spans
            for span in scope.spans
        ]


def _exporting() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if "OtelBatch" in thread.name or thread.name == LAST_SPANS]


@pytest.fixture(autouse=True)
def _ended() -> Iterator[None]:
    """Nothing goes on after a test, else it would write into the logs of others."""
    before = _exporting()
    yield
    for thread in _exporting():
        if thread not in before:
            thread.join(5)
            assert not thread.is_alive(), "a Tracing was not closed, or tries again"


@pytest.fixture
def collector() -> Iterator[Collector]:
    collector = Collector()
    yield collector
    collector.close()


def attributes(span: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in span.attributes}


def _application(endpoint: str | None = None) -> Application:
    session = SessionOptions(vad="webrtc", partial_interval_ms=100)
    return Application(FakeRecognizer(SECRET), ServerOptions(port=0, session=session, otlp_endpoint=endpoint))


async def _talk(port: int, *, paced: bool = False) -> list[dict[str, Any]]:
    """A session with one utterance, below the span of its client; returns what it got."""
    headers = {"traceparent": TRACEPARENT}
    async with connect(f"ws://127.0.0.1:{port}/v1/stream", additional_headers=headers) as socket_:
        talking = Conversation(socket_)
        await (talking.send_paced(NOISE) if paced else talking.send_audio(NOISE))
        await talking.send_audio(np.zeros(32_000, np.int16))
        await talking.receive("final")
        await talking.send("stop")
        assert await talking.receive_all() == 1000
        return talking.events


def test_a_session_and_its_utterance_have_spans_below_that_of_the_client(collector: Collector) -> None:
    async def script() -> None:
        async with serving(_application(collector.url)) as port:
            events = await _talk(port, paced=True)
        assert SECRET in str(events)

    run(script())
    assert all(SECRET.encode() not in body for body in collector.bodies), "spans have no text of a transcript"
    spans = {span.name: span for span in collector.spans if span.name not in ("queue", "decode")}
    assert set(spans) == {"session", "utterance", "endpoint", "final"}
    assert {span.trace_id.hex() for span in collector.spans} == {TRACE}
    session, utterance = spans["session"], spans["utterance"]
    assert session.parent_span_id.hex() == PARENT
    assert utterance.parent_span_id == session.span_id
    below = [span for span in collector.spans if span.name not in ("session", "utterance")]
    assert {span.parent_span_id for span in below} == {utterance.span_id}
    decodes = [span for span in below if span.name == "decode"]
    assert len(decodes) == len([span for span in below if span.name == "queue"]) >= 1
    assert any(attributes(span)["streaming_asr.outcome"] == "ok" for span in decodes)

    start, end = session.start_time_unix_nano, session.end_time_unix_nano
    assert abs(end / 1e9 - time.time()) < 60
    assert start <= utterance.start_time_unix_nano < utterance.end_time_unix_nano <= end
    endpoint, final = spans["endpoint"], spans["final"]
    assert endpoint.end_time_unix_nano == final.start_time_unix_nano
    assert final.end_time_unix_nano == utterance.end_time_unix_nano
    assert endpoint.end_time_unix_nano - endpoint.start_time_unix_nano > 100_000_000

    said = attributes(utterance)
    assert said["streaming_asr.reason"] == "endpoint"
    assert said["streaming_asr.partials"] >= 1
    assert said["streaming_asr.empty"] is False
    assert [event.name for event in utterance.events] == ["first partial"]
    assert attributes(session)["streaming_asr.protocol"] == "/v1/stream"
    assert attributes(session)["streaming_asr.audio_ms"] == 3000


def test_a_recording_has_spans_below_that_of_its_request(collector: Collector) -> None:
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setparams((1, 2, 16_000, 0, "NONE", ""))
        writer.writeframes(NOISE.tobytes() + bytes(64_000))

    async def script() -> None:
        async with serving(_application(collector.url)) as port, httpx.AsyncClient(timeout=30) as client:
            url = f"http://127.0.0.1:{port}/v1/audio/transcriptions"
            for content in (file.getvalue(), b"not audio"):
                await client.post(url, files={"file": content}, headers={"traceparent": TRACEPARENT})

    run(script())
    good, bad = (span for span in collector.spans if span.name == "session")
    assert {good.parent_span_id.hex(), bad.parent_span_id.hex()} == {PARENT}
    assert attributes(good)["streaming_asr.audio_ms"] == 3000
    assert (bad.status.code, "error.type" in attributes(bad)) == (2, True)
    names = [span.name for span in collector.spans if span.parent_span_id != good.parent_span_id]
    assert sorted(names) == ["decode", "final", "queue", "utterance"], "of a recording the pauses mean nothing"


def test_a_refused_session_has_a_span_that_says_why(collector: Collector) -> None:
    async def script() -> None:
        application = _application(collector.url)
        async with serving(application) as port:
            application.service.drain()
            async with connect(f"ws://127.0.0.1:{port}/v1/stream") as socket_:
                await Conversation(socket_).receive_all()

    run(script())
    (span,) = collector.spans
    assert (span.name, span.status.code, attributes(span)["error.type"]) == ("session", 2, "restarting")


@pytest.mark.parametrize("traceparent", ["", "00-0-0-01", f"00-{'0' * 32}-{PARENT}-01", "x" * 5000])
def test_a_traceparent_that_is_wrong_is_ignored(collector: Collector, traceparent: str) -> None:
    async def script() -> None:
        made = Tracing(f"{collector.url}/v1/traces")
        trace = made.session("/v1/stream", {"traceparent": traceparent})
        trace.opened("s")
        trace.closed()
        await made.close()

    run(script())
    (span,) = collector.spans
    assert not span.parent_span_id


def test_the_environment_names_the_service_and_the_collector(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    monkeypatch.setenv("OTEL_SERVICE_NAME", "mine")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment=test")

    async def script() -> None:
        async with serving(_application()) as port:
            await _talk(port)

    run(script())
    assert collector.resources[0]["service.name"] == "mine"
    assert collector.resources[0]["deployment.environment"] == "test"


def test_a_collector_that_never_answers_delays_no_final(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes the connection, and then says nothing."""
    monkeypatch.setattr(tracing, "FLUSH_S", 0.2)
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "10")

    async def script(endpoint: str) -> None:
        async with serving(_application(endpoint)) as port:
            for events in await asyncio.gather(*(_talk(port) for _ in range(4))):
                assert events[-1]["type"] == "done"

    with socket.create_server(("127.0.0.1", 0)) as silent:
        run(script(f"http://127.0.0.1:{silent.getsockname()[1]}"), within_s=20)


def test_spans_beyond_the_queue_are_dropped_and_closing_does_not_wait(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tracing, "FLUSH_S", 0.2)
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "100")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "100")

    async def script(endpoint: str) -> None:
        made = Tracing(endpoint)
        (processor,) = made._provider._active_span_processor._span_processors
        queue = processor._batch_processor._queue  # type: ignore[attr-defined]
        for number in range(5_000):
            trace = made.session("/v1/stream", {})
            trace.opened(f"s{number}")
            trace.closed()
            assert len(queue) <= 100
        assert len(queue) == 100
        began = time.monotonic()
        await made.close()
        assert time.monotonic() - began < 2

    with socket.create_server(("127.0.0.1", 0)) as silent, caplog.at_level(logging.WARNING):
        run(script(f"http://127.0.0.1:{silent.getsockname()[1]}/v1/traces"), within_s=20)
    complaints = [record for record in caplog.records if "may be dropped" in record.message]
    assert len(complaints) <= 1, "one a minute"


def test_a_collector_that_is_away_is_not_tried_again_once_the_server_is_closed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing listens at its address. The exporter would try again for 10 s, and log each time."""
    monkeypatch.setattr(tracing, "FLUSH_S", 0.2)
    monkeypatch.setattr(span_exporter, "COMPLAINT_S", 0.0)
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "1")

    async def script(endpoint: str) -> None:
        made = Tracing(endpoint)
        for number in range(5):
            trace = made.session("/v1/stream", {})
            trace.opened(f"s{number}")
            trace.closed()
        await made.close()

    with socket.create_server(("127.0.0.1", 0)) as nobody:
        address = f"http://127.0.0.1:{nobody.getsockname()[1]}/v1/traces"
    with caplog.at_level(logging.WARNING):
        run(script(address), within_s=20)
        began = time.monotonic()
        for thread in _exporting():
            thread.join(5)
        assert time.monotonic() - began < 3
    messages = [record.message for record in caplog.records if record.name.startswith("streaming_asr")]
    assert "Spans can't be sent" in messages[0]
    assert "The last spans were not sent" in messages[-1]


class _Stopped(Exception):
    pass


@contextlib.contextmanager
def _failing(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def fail(*_: Any, **__: Any) -> None:
        raise _Stopped

    with monkeypatch.context() as patched:
        for name in ("opened", "closed", "received", "on_events"):
            patched.setattr(tracing.SessionTrace, name, fail)
        yield


def test_a_fault_of_tracing_ends_no_session(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    async def script() -> None:
        async with serving(_application(collector.url)) as port:
            with _failing(monkeypatch):
                assert (await _talk(port))[-1]["type"] == "done"

    run(script())


def test_what_is_kept_for_spans_has_a_bound(collector: Collector) -> None:
    """Of one that pauses again and again, and of those that clients have cleared, so that no final comes."""

    async def script() -> None:
        made = Tracing(f"{collector.url}/v1/traces")
        trace = made.session("/v1/stream", {})
        trace.opened("s")
        for number in range(1, 200):
            trace.on_events((SpeechStarted(number, 0, 0),), float(number))
        assert list(made._utterances) == ["s.0/199"]
        audio = np.zeros(0, np.float32)
        for job in range(2 * MAX_DECODES):
            made.began(DecodeJob(job, Kind.SPECULATIVE, "s.0/199", audio), 0.0)
            made.decoded(DecodeJob(job, Kind.SPECULATIVE, "s.0/199", audio), None, 0.0)
        trace.on_events((SpeechEnded(199, 0, 0, 0, EndReason.STOP),), 200.0)
        trace.on_events((Final(199, 0, "", None, 0, 0, None, None),), 201.0)
        assert not made._utterances
        trace.closed()
        await made.close()

    run(script())
    assert len([span for span in collector.spans if span.name == "decode"]) == MAX_DECODES


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": ""},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4318", "OTEL_SDK_DISABLED": "true"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4318", "OTEL_TRACES_EXPORTER": "none"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4317", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
    ],
)
def test_spans_are_off_unless_the_environment_gives_an_endpoint_for_http(environment: dict[str, str]) -> None:
    assert make_tracing(None, environment) is None


def test_where_opentelemetry_is_missing_the_option_is_an_error_and_the_environment_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    monkeypatch.delitem(sys.modules, span_exporter.__name__)
    with pytest.raises(OptionError, match=r"pip install 'streaming-asr\[otel\]'"):
        make_tracing("http://localhost:4318", {})
    assert make_tracing(None, {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4318"}) is None
    assert "pip install" in caplog.text


def test_an_endpoint_that_is_no_url_is_refused() -> None:
    with pytest.raises(OptionError, match="is not a URL"):
        ServerOptions(otlp_endpoint="localhost:4318")


def test_nothing_of_opentelemetry_is_imported_while_spans_are_off() -> None:
    script = """
import asyncio, sys
from streaming_asr.server.app import Application
from streaming_asr.server.options import ServerOptions
from tests.support.fake_recognizer import FakeRecognizer

async def main():
    application = Application(FakeRecognizer(), ServerOptions())
    await application.service.start()
    assert application.service.tracing is None
    await application.service.close()

asyncio.run(main())
assert not [name for name in sys.modules if name.startswith("opentelemetry")]
"""
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr

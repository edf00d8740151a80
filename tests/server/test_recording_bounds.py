"""Recordings over HTTP: what is bounded, what comes back in pieces, and how well a whole chapter does."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import io
import itertools
import json
import re
import select
import socket
import ssl
import threading
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jiwer
import numpy as np
import openai
import pytest
import soundfile
import trustme
from whisper_normalizer.english import EnglishTextNormalizer

from streaming_asr.core.events import Done
from streaming_asr.core.options import SessionOptions
from streaming_asr.core.recognizer import Audio
from streaming_asr.core.session import Session
from streaming_asr.engine.file_stream import stream_file
from streaming_asr.server.openai_http import fair_turns
from streaming_asr.server.openai_http import fetch as fetch_module
from streaming_asr.server.openai_http.answers import ApiError
from streaming_asr.server.openai_http.fetch import FetchRefused, Line, fetch, is_public
from streaming_asr.server.openai_http.recording_slots import MAX_WAITING, MAX_WAITING_AT_ADDRESS, RecordingSlots
from streaming_asr.voice.detectors import make_detector
from tests.support.fakes import CAPABILITIES
from tests.support.live_server import LiveServer
from tests.support.wire import words


def test_recordings_of_a_client_are_taken_in_order_and_too_many_are_refused() -> None:
    async def scenario() -> None:
        slots = RecordingSlots(1)
        release = asyncio.Event()
        order: list[int] = []

        async def come(number: int, client: str = "a") -> None:
            with slots.place(client):
                async with slots.slot(client):
                    order.append(number)
                    await release.wait()

        tasks = [asyncio.create_task(come(number)) for number in range(1 + MAX_WAITING_AT_ADDRESS)]
        await _settled()
        with pytest.raises(ApiError, match="Too many recordings from your address wait") as refused:
            await come(-1)
        assert refused.value.status == 503
        assert order == [0]
        rest = range(1 + MAX_WAITING_AT_ADDRESS, 1 + MAX_WAITING)
        tasks += [asyncio.create_task(come(number, f"b{number % 8}")) for number in rest]
        await _settled()
        with pytest.raises(ApiError, match="Too many recordings wait"):
            await come(-1, "c")
        release.set()
        await asyncio.gather(*tasks)
        assert sorted(order) == list(range(1 + MAX_WAITING))
        of_first = [number for number in order if number not in rest]
        assert of_first == list(range(1 + MAX_WAITING_AT_ADDRESS))

    asyncio.run(scenario())


def test_a_request_that_stops_waiting_leaves_the_queue() -> None:
    async def scenario() -> None:
        slots = RecordingSlots(1)

        async def come() -> None:
            async with slots.slot("a"):
                pass

        async with slots.slot("a"):
            waiting = asyncio.create_task(come())
            await _settled()
            assert slots.waiting == 1
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
            assert slots.waiting == 0
        await asyncio.wait_for(come(), 1)

    asyncio.run(scenario())


def test_a_recording_is_paused_for_that_of_another_client_and_goes_on_afterwards() -> None:
    async def scenario() -> None:
        slots = RecordingSlots(2)
        pieces = 0
        stop = asyncio.Event()

        async def transcribe_long() -> None:
            nonlocal pieces
            async with slots.slot("a") as own_turn:
                while not stop.is_set():
                    await own_turn()
                    pieces += 1
                    await asyncio.sleep(0)

        async with slots.slot("a"):
            long = asyncio.create_task(transcribe_long())
            await _settled()
            assert pieces
            async with slots.slot("b"):
                await _settled()
                before = pieces
                await _settled()
                assert pieces == before
            await _settled()
            assert pieces > before
            stop.set()
            await long

    asyncio.run(asyncio.wait_for(scenario(), 10))


def test_a_turn_ends_by_itself_where_there_are_fewer_slots_than_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fair_turns, "TURN_S", 0.05)

    async def scenario() -> None:
        slots = RecordingSlots(1)
        async with slots.slot("a") as own_turn, slots.slot("b"):
            await own_turn()

    asyncio.run(asyncio.wait_for(scenario(), 10))


async def _settled() -> None:
    """Every task has gone as far as it can."""
    for _ in range(3):
        await asyncio.sleep(0)


def test_a_recording_is_never_live_however_slowly_it_is_decoded() -> None:
    opened: list[Session] = []

    async def silence() -> AsyncIterator[Audio]:
        for _ in range(5):
            yield np.zeros(16_000, np.float32)

    class FakeHost:
        def open(self, options: SessionOptions, listener: Any, broke: Any, *, recorded: bool) -> Session:
            opened.append(Session("k", options, CAPABILITIES, make_detector, recorded=recorded))
            return opened[0]

        def update(self, session: Session) -> None:
            assert not session.live(time.monotonic() + 3600)

        def remove(self, session: Session) -> None:
            pass

    async def scenario() -> None:
        kinds = [type(event) async for event in stream_file(FakeHost(), silence(), SessionOptions())]
        assert kinds == [Done]

    asyncio.run(asyncio.wait_for(scenario(), 60))
    assert opened


def test_each_piece_of_a_recording_waits_for_its_turn_after_the_cost_of_the_one_before() -> None:
    costs: list[float] = []
    heard: list[int] = []
    rests = asyncio.Event()

    async def pieces() -> AsyncIterator[Audio]:
        for number in range(4):
            heard.append(number)
            yield np.zeros(16_000, np.float32)

    class FakeHost:
        def open(self, options: SessionOptions, listener: Any, broke: Any, *, recorded: bool) -> Session:
            return Session("k", options, CAPABILITIES, make_detector, recorded=recorded)

        def update(self, session: Session) -> None:
            pass

        def remove(self, session: Session) -> None:
            pass

    async def pace(cost_s: float) -> None:
        costs.append(cost_s)
        if len(costs) == 3:
            rests.set()
            await asyncio.Event().wait()

    async def scenario() -> None:
        events = stream_file(FakeHost(), pieces(), SessionOptions(), pace=pace)
        reading = asyncio.ensure_future(events.__anext__())
        await rests.wait()
        await asyncio.wait([reading], timeout=0.2)
        assert not reading.done()
        reading.cancel()

    asyncio.run(asyncio.wait_for(scenario(), 60))
    assert heard == [0, 1, 2]
    assert costs[0] == 0
    assert all(cost > 0 for cost in costs[1:])


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.216.34", True),
        ("2606:4700::1111", True),
        ("127.0.0.1", False),
        ("192.168.1.1", False),
        ("100.64.0.1", False),
        ("169.254.169.254", False),
        ("224.0.0.1", False),
        ("::1", False),
        ("fe80::1%eth0", False),
        ("::ffff:10.0.0.1", False),
        ("64:ff9b::a9fe:a9fe", False),
        ("64:ff9b::5db8:d822", True),
        ("2002:7f00:1::", False),
    ],
)
def test_which_addresses_are_public(address: str, public: bool) -> None:
    assert is_public(address) is public


@contextmanager
def _dripping_host(tls: ssl.SSLContext | None = None, *, greets: bool = True, drop: bytes = b"x") -> Iterator[str]:
    """A host that promises much and sends a byte now and then.

    Args:
        greets: whether it does its part of the TLS handshake.
        drop: is sent instead of the byte.
    """
    over = threading.Event()

    def serve(listening: socket.socket) -> None:
        connected, _ = listening.accept()
        if tls is not None and greets:
            connected = tls.wrap_socket(connected, server_side=True)
        with connected:
            if not greets:
                over.wait(10)
                return
            connected.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (1000 * len(drop)))
            while not over.wait(0.05):
                try:
                    connected.sendall(drop)
                except OSError:
                    return

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve, args=(listening,), daemon=True)
        thread.start()
        yield f"{'https' if tls else 'http'}://127.0.0.1:{listening.getsockname()[1]}/a.wav"
        over.set()
        thread.join(5)


def test_a_host_that_drips_is_given_up_in_time() -> None:
    with _dripping_host() as url, pytest.raises(FetchRefused):
        fetch(url, io.BytesIO(), allow_private=True, max_bytes=10_000, timeout_s=0.5)


@pytest.mark.parametrize("greets", [True, False])
def test_a_host_that_drips_over_tls_is_given_up_in_time(greets: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before, the limit did not hold: wrapping a socket leaves nothing to shut down in the first one."""
    authority = trustme.CA()
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    monkeypatch.setattr(ssl, "create_default_context", lambda: trusting)
    began = time.monotonic()
    with _dripping_host(tls, greets=greets) as url:
        with pytest.raises(FetchRefused):
            fetch(url, io.BytesIO(), allow_private=True, max_bytes=10_000, timeout_s=1)
        assert time.monotonic() - began < 8


def test_a_host_below_the_least_rate_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch_module, "GRACE_S", 0.3)
    with _dripping_host() as url, pytest.raises(FetchRefused, match="fewer than 8000 bytes a second"):
        fetch(url, io.BytesIO(), allow_private=True, max_bytes=10_000, timeout_s=30)


def test_a_silent_host_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch_module, "MAX_SILENCE_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/a.wav"

        def serve() -> None:
            with listening.accept()[0] as connected:
                connected.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nx")
                connected.recv(2000)
                connected.recv(2000)

        threading.Thread(target=serve, daemon=True).start()
        with pytest.raises(FetchRefused, match="timed out"):
            fetch(url, io.BytesIO(), allow_private=True, max_bytes=10_000, timeout_s=30)


def test_a_slow_host_keeps_no_other_recording_waiting(librivox: Path) -> None:
    """Before, its chat had one of the slots while the audio was fetched."""
    sentence = min(librivox.glob("*.wav"), key=lambda path: path.stat().st_size)
    with (
        LiveServer("--allow-private-urls", "--max-recordings", "1") as live,
        # Fast enough not to be given up.
        _dripping_host(drop=bytes(4000)) as url,
    ):
        part = {"type": "audio_url", "audio_url": {"url": url}}
        body = json.dumps({"messages": [{"role": "user", "content": [part]}]}).encode()
        waiting = http.client.HTTPConnection("127.0.0.1", live.port, timeout=60)
        waiting.request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json"})
        client = openai.OpenAI(base_url=f"{live.http_url}/v1", api_key="none", max_retries=0, timeout=60)
        assert client.audio.transcriptions.create(file=sentence, model="any").text
        assert not select.select([waiting.sock], [], [], 0)[0], "the chat was answered first"
        waiting.close()


def test_a_fetch_can_be_cut_off() -> None:
    line = Line()
    began = time.monotonic()
    with _dripping_host() as url:
        threading.Timer(0.3, line.cut).start()
        into = io.BytesIO()
        with contextlib.suppress(FetchRefused):
            fetch(url, into, allow_private=True, max_bytes=10_000, timeout_s=30, line=line)
        assert time.monotonic() - began < 10
        with pytest.raises(FetchRefused, match="cut off"):
            fetch(url, into, allow_private=True, max_bytes=10_000, timeout_s=30, line=line)


def _two_sentences(librivox: Path) -> bytes:
    samples = [soundfile.read(path, dtype="int16")[0] for path in sorted(librivox.glob("*.wav"))[:2]]
    both = io.BytesIO()
    soundfile.write(both, np.concatenate([samples[0], np.zeros(24_000, np.int16), samples[1]]), 16_000, format="FLAC")
    return both.getvalue()


def test_vllm_s_clients_read_the_stream(server: LiveServer, librivox: Path) -> None:
    """By OpenAI's SDK as vLLM's example does, and line by line as its example without the SDK."""
    client = openai.OpenAI(base_url=f"{server.http_url}/v1", api_key="none", max_retries=0)
    recording = _two_sentences(librivox)
    deltas: list[str] = []
    arguments: Any = {"file": ("two.flac", recording), "model": "whisper-1", "response_format": "text", "stream": True}
    for chunk in client.audio.transcriptions.create(**arguments):
        choices = getattr(chunk, "choices", None)
        if choices:
            deltas.append(choices[0].get("delta", {}).get("content") or "")
    whole = client.audio.transcriptions.create(file=("two.flac", recording), model="whisper-1").text
    assert "".join(deltas) == whole
    assert sum(map(bool, deltas)) == 2, "a delta for each sentence"

    boundary = "part"
    fields = {"model": "whisper-1", "stream": "true"}
    body = b"".join(
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in fields.items()
    )
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="two.flac"\r\n\r\n'
    body += head.encode() + recording + f"\r\n--{boundary}--\r\n".encode()
    request = urllib.request.Request(
        f"{server.http_url}/v1/audio/transcriptions",
        body,
        {"Content-Type": f"multipart/form-data; boundary={boundary}"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        lines = [line.decode().strip() for line in answer]
    data = [line.removeprefix("data: ") for line in lines if line]
    assert data[-1] == "[DONE]"
    assert "".join(json.loads(line)["choices"][0]["delta"]["content"] for line in data[:-1]) == whole


_TIMES = re.compile(r"(\d+):(\d+):(\d+),(\d+) --> (\d+):(\d+):(\d+),(\d+)")


def _cues(srt: str) -> list[tuple[float, float, str]]:
    cues = []
    for block in srt.strip().split("\n\n"):
        _, times, *text = block.split("\n")
        match = _TIMES.fullmatch(times)
        assert match is not None, times
        h1, m1, s1, f1, h2, m2, s2, f2 = map(int, match.groups())
        cues.append((h1 * 3600 + m1 * 60 + s1 + f1 / 1000, h2 * 3600 + m2 * 60 + s2 + f2 / 1000, " ".join(text)))
    return cues


def test_a_chapter_is_transcribed_as_well_as_by_the_model_alone_with_subtitles_in_time(
    server: LiveServer, speech: Path | None
) -> None:
    """Eight minutes, where the machine has them; faster-whisper on the same weights is what it is held against."""
    if speech is None:
        pytest.skip("the folder of larger speech sets is not here")
    folder = speech / "long_form"
    entry = json.loads((folder / "manifest.jsonl").read_text().splitlines()[0])
    client = openai.OpenAI(base_url=f"{server.http_url}/v1", api_key="none", max_retries=0, timeout=300)

    def transcribed(**wanted: Any) -> Any:
        return client.audio.transcriptions.create(file=folder / entry["path"], model="whisper-1", **wanted)

    answer = transcribed(response_format="verbose_json", timestamp_granularities=["word"])
    offline = _offline(folder / entry["path"])
    normalize = EnglishTextNormalizer()
    reference = normalize(entry["text"])
    alone = jiwer.wer(reference, normalize(" ".join(word for word, _ in offline)))
    assert jiwer.wer(reference, normalize(answer.text)) <= alone + 0.005

    ours = [(spoken, word.start) for word in answer.words for spoken in words(word.word)]
    aligned = jiwer.process_words(" ".join(word for word, _ in offline), " ".join(word for word, _ in ours))
    apart = [
        abs(offline[chunk.ref_start_idx + n][1] - ours[chunk.hyp_start_idx + n][1])
        for chunk in aligned.alignments[0]
        if chunk.type == "equal"
        for n in range(chunk.ref_end_idx - chunk.ref_start_idx)
    ]
    assert np.median(apart) < 0.1
    assert np.percentile(apart, 95) < 0.5

    cues = _cues(transcribed(response_format="srt"))
    assert words(" ".join(text for _, _, text in cues)) == words(answer.text)
    assert all(start < end for start, end, _ in cues)
    assert all(before[1] <= after[0] + 0.001 for before, after in itertools.pairwise(cues))
    assert cues[-1][1] <= entry["duration_s"] + 0.05
    starts = np.array([start for _, start in ours])
    assert all(np.abs(starts - start).min() < 0.002 for start, _, _ in cues)


def _offline(path: Path) -> list[tuple[str, float]]:
    """The words of the model's own offline run, beam search over windows of 30 s, and where each begins, seconds."""
    from faster_whisper import WhisperModel

    from streaming_asr.recognizers.whisper.weights import find_weights

    model = WhisperModel(str(find_weights(None)), device="cpu", compute_type="int8")
    segments, _ = model.transcribe(str(path), language="en", beam_size=5, word_timestamps=True)
    reference = [word for segment in segments for word in segment.words or ()]
    return [(spoken, word.start) for word in reference for spoken in words(word.word)]

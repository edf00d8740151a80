"""Requests whose bodies are large, slow, or many at once: what is kept of them, and who waits for whom."""

from __future__ import annotations

import asyncio
import base64
import gc
import io
import json
import weakref
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import soundfile

from streaming_asr.core.options import SessionOptions
from streaming_asr.server.app import Application
from streaming_asr.server.openai_http import bodies, fair_turns, recording_slots, recordings
from streaming_asr.server.openai_http.answers import ApiError
from streaming_asr.server.openai_http.bodies import Kept, bounded
from streaming_asr.server.openai_http.long_strings import LongStrings
from streaming_asr.server.options import ServerOptions
from tests.support.fake_recognizer import FakeRecognizer

BOUNDARY = "boundary"
FORM_TYPE = f"multipart/form-data; boundary={BOUNDARY}"
FORM_HEAD = (
    f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n'
    "Content-Type: application/octet-stream\r\n\r\n"
).encode()
UPLOAD, CHAT, SECRETS = "/v1/audio/transcriptions", "/v1/chat/completions", "/v1/realtime/client_secrets"
CLIENT = ""
"""As which all of these requests count: they have no address."""


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that a busy machine keeps waiting is not slow."""
    monkeypatch.setattr(bodies, "GRACE_S", 600.0)


def _wav(seconds: float = 1.0) -> bytes:
    recording = io.BytesIO()
    soundfile.write(recording, np.zeros(int(seconds * 16_000), np.int16), 16_000, format="WAV")
    return recording.getvalue()


def _form(recording: bytes) -> bytes:
    return FORM_HEAD + recording + f"\r\n--{BOUNDARY}--\r\n".encode()


def _chat(recording: bytes) -> bytes:
    part = {"type": "input_audio", "input_audio": {"data": base64.b64encode(recording).decode(), "format": "wav"}}
    return json.dumps({"messages": [{"role": "user", "content": [part]}]}).encode()


class Asking:
    """One request, whose body is given piece by piece."""

    def __init__(
        self, application: Application, path: str, content_type: str = FORM_TYPE, address: str | None = None
    ) -> None:
        self._pieces: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.status = 0
        self.body = b""
        scope = {
            "type": "http",
            "method": "POST",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "headers": [(b"content-type", content_type.encode())],
            "http_version": "1.1",
            "client": address and (address, 1),
        }
        self.task = asyncio.create_task(application.asgi(scope, self._pieces.get, self._take))  # type: ignore[arg-type]

    def give(self, data: bytes, *, last: bool = False) -> None:
        self._pieces.put_nowait({"type": "http.request", "body": data, "more_body": not last})

    def hang_up(self) -> None:
        self._pieces.put_nowait({"type": "http.disconnect"})

    async def answered(self) -> int:
        await self.task
        return self.status

    async def _take(self, message: Any) -> None:
        self.status = message.get("status", self.status)
        self.body += message.get("body", b"")


def _running(script: Callable[[Application], Awaitable[None]], **options: Any) -> None:
    async def run() -> None:
        application = Application(FakeRecognizer(), ServerOptions(session=SessionOptions(vad="webrtc"), **options))
        await application.service.start()
        try:
            await script(application)
        finally:
            await application.service.close()

    asyncio.run(asyncio.wait_for(run(), 120))


async def _until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - nothing says when
        await asyncio.sleep(0.01)


def _wait(application: Application, number: int) -> bool:
    """Whether the given number of requests waits for a turn."""
    return application.recordings._slots.waiting == number


async def _transcribed(application: Application, address: str | None = None) -> int:
    asking = Asking(application, UPLOAD, address=address)
    asking.give(_form(_wav()), last=True)
    return await asking.answered()


def test_slow_uploads_do_not_keep_others_from_being_transcribed() -> None:
    """Before, an upload took its turn before it was there."""

    async def script(application: Application) -> None:
        slow = [Asking(application, UPLOAD) for _ in range(5)]
        for asking in slow:
            asking.give(FORM_HEAD)
        assert await _transcribed(application) == 200
        for asking in slow:
            asking.hang_up()
            assert await asking.answered() == 400

    _running(script, max_recordings=1)


def test_a_recording_does_not_wait_for_those_of_another_client_that_has_all_slots() -> None:
    """Before, it waited until one of them ended."""

    async def script(application: Application) -> None:
        slots = application.recordings._slots
        async with slots.slot("192.0.2.1"), slots.slot("192.0.2.1"):
            assert await _transcribed(application, "192.0.2.2") == 200

    _running(script, max_recordings=2)


def test_recordings_that_are_paused_are_transcribed_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fair_turns, "TURN_S", 0.001)
    paused: set[fair_turns.Turn] = set()
    enter = fair_turns.Turn.enter

    def noted(turn: fair_turns.Turn, state: fair_turns.TurnState) -> None:
        enter(turn, state)
        if state is fair_turns.TurnState.PAUSED:
            paused.add(turn)

    monkeypatch.setattr(fair_turns.Turn, "enter", noted)

    async def script(application: Application) -> None:
        async def length_s(address: str) -> float:
            asking = Asking(application, UPLOAD, address=address)
            style = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="response_format"\r\n\r\nverbose_json\r\n'
            asking.give(style.encode() + _form(_wav(20.0)), last=True)
            assert await asking.answered() == 200
            return float(json.loads(asking.body)["duration"])

        lengths = await asyncio.gather(*(length_s(f"192.0.2.{number}") for number in (1, 1, 2, 3)))
        assert lengths == [20.0] * 4
        assert len(paused) > 1

    _running(script, max_recordings=1)


@pytest.mark.parametrize("path", [UPLOAD, CHAT, SECRETS])
def test_a_body_below_the_least_rate_is_cut_off(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "GRACE_S", 0.05)

    async def script(application: Application) -> None:
        asking = Asking(application, path)
        asking.give(FORM_HEAD)
        assert await asking.answered() == 408
        error = json.loads(asking.body)["error"]
        assert error["code"] == "idle"
        assert "fewer than 8000 bytes a second" in error["message"]

    _running(script)


def test_a_body_that_is_not_complete_in_time_is_cut_off() -> None:
    async def script(application: Application) -> None:
        asking = Asking(application, UPLOAD)
        asking.give(FORM_HEAD + bytes(100_000))
        assert await asking.answered() == 408
        assert "not complete after 1 s" in json.loads(asking.body)["error"]["message"]

    _running(script, upload_timeout_s=1)


def test_a_client_that_hangs_up_while_it_waits_leaves_the_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording_slots, "MAX_WAITING_AT_ADDRESS", 0)

    async def script(application: Application) -> None:
        async with application.recordings._slots.slot(CLIENT):
            waiting = Asking(application, UPLOAD)
            waiting.give(_form(_wav()), last=True)
            await _until(partial(_wait, application, 1))
            refused = Asking(application, UPLOAD)
            assert await refused.answered() == 503
            waiting.hang_up()
            assert await waiting.answered() == 499
        assert await _transcribed(application) == 200

    _running(script, max_recordings=1)


def test_recordings_are_refused_while_those_received_take_all_the_room() -> None:
    async def script(application: Application) -> None:
        first = Asking(application, UPLOAD)
        first.give(FORM_HEAD + bytes(90_000))
        await _until(lambda: application.recordings._kept.bytes > 90_000)
        for path, body in ((UPLOAD, _form(_wav())), (CHAT, _chat(_wav()))):
            refused = Asking(application, path, FORM_TYPE if path == UPLOAD else "application/json")
            refused.give(body, last=True)
            assert await refused.answered() == 503
            assert json.loads(refused.body)["error"]["code"] == "busy"
        first.hang_up()
        await first.answered()
        assert await _transcribed(application) == 200

    _running(script, max_kept_bytes=100_000, max_upload_bytes=100_000)


def test_a_chat_is_kept_once_while_it_waits() -> None:
    wav, body = _wav(), _chat(_wav())

    async def script(application: Application) -> None:
        async with application.recordings._slots.slot(CLIENT):
            reading = Asking(application, CHAT, "application/json")
            reading.give(body[:1000])
            await _until(lambda: application.recordings._kept.bytes == 1000)
            waiting = Asking(application, CHAT, "application/json")
            waiting.give(body, last=True)
            await _until(partial(_wait, application, 1))
            assert application.recordings._kept.bytes == 1000 + len(wav)
            reading.hang_up()
            assert await reading.answered() == 400
        assert await waiting.answered() == 200
        assert application.recordings._kept.bytes == 0

    _running(script, max_recordings=1)


def test_what_a_refused_chat_was_read_into_is_free_at_once() -> None:
    """Without that, each of them would stay until Python looks for cycles, which is rarely."""
    kept: list[weakref.ref[LongStrings]] = []

    class Noted(LongStrings):
        def __init__(self) -> None:
            super().__init__()
            kept.append(weakref.ref(self))

    async def script(application: Application) -> None:
        for _ in range(3):
            asking = Asking(application, CHAT, "application/json")
            asking.give(json.dumps({"messages": [{"role": "user", "content": "x" * 100_000}]}).encode(), last=True)
            assert await asking.answered() == 400
            await asyncio.wait([asking.task])
            asking.task.result()

    gc.disable()
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(recordings, "LongStrings", Noted)
            _running(script)
        assert [one() for one in kept] == [None] * 3
    finally:
        gc.enable()


def test_a_share_is_free_again_however_it_ends() -> None:
    kept = Kept(100)
    for _ in range(3):
        with kept.share("a") as add:
            add(60)
            with pytest.raises(ApiError, match="take all the room"):
                add(60)
    with kept.share("a") as add, kept.share("a") as other:
        add(50)
        other(50)


def test_one_client_leaves_room_for_others() -> None:
    kept = Kept(100, 75)
    with kept.share("a") as first, kept.share("a") as second, kept.share("b") as other:
        first(50)
        second(25)
        with pytest.raises(ApiError, match="from your address") as refused:
            second(1)
        assert refused.value.status == 503
        other(25)
    assert kept.bytes == 0


def test_a_body_at_the_least_rate_is_received_however_long_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "GRACE_S", 0.5)
    monkeypatch.setattr(bodies, "MIN_BYTES_PER_S", 1000)

    async def receive() -> dict[str, Any]:
        await asyncio.sleep(0.2)
        return {"type": "http.request", "body": bytes(200), "more_body": True}

    async def script() -> None:
        receiving = bounded(receive, 10_000, 60)
        assert sum([len((await receiving())["body"]) for _ in range(6)]) == 1200

    asyncio.run(script())


def test_a_form_that_can_have_no_file_is_refused_unread() -> None:
    async def script(application: Application) -> None:
        asking = Asking(application, UPLOAD, "application/x-www-form-urlencoded")
        assert await asking.answered() == 400
        assert b"must be multipart/form-data" in asking.body

    _running(script)

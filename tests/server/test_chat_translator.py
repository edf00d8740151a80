"""Texts are translated by a chat API; whatever it answers, a session only lacks a translation."""

from __future__ import annotations

import asyncio
import http.server
import logging
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from websockets.asyncio.client import connect

from streaming_asr.core.options import SessionOptions
from streaming_asr.server import chat_translator
from streaming_asr.server.app import Application
from streaming_asr.server.chat_translator import MAX_ANSWER_BYTES, MAX_WAITING, ChatTranslator
from streaming_asr.server.options import ServerOptions
from tests.support.chat_server import ChatServer, chat_server, completion, reply
from tests.support.fake_recognizer import FakeRecognizer
from tests.support.serving import serving
from tests.support.wire import Conversation, run


@pytest.fixture
def chat() -> Iterator[ChatServer]:
    with chat_server() as server:
        yield server


def _translate(translator: ChatTranslator, text: str = "Guten Morgen.") -> str | None:
    try:
        return asyncio.run(translator.translate(text, "de", "en"))
    finally:
        translator.close()


def test_a_text_is_translated(chat: ChatServer) -> None:
    chat.answer = lambda handler, body: reply(handler, completion(" Good morning.\n"))
    assert _translate(ChatTranslator(chat.url + "/", "small", "secret")) == "Good morning."
    ((path, authorization, body),) = chat.requests
    assert (path, authorization, body["model"]) == ("/v1/chat/completions", "Bearer secret", "small")
    system, user = body["messages"]
    assert "tag en" in system["content"]
    assert user == {"role": "user", "content": "Guten Morgen."}


@pytest.mark.parametrize(
    ("content", "status", "reason"),
    [
        (b"no", 401, "401"),
        (b"<html>", 200, "not a chat completion"),
        (b'{"choices": []}', 200, "no text"),
        (completion(None), 200, "no text"),
        (b" " * (MAX_ANSWER_BYTES + 1), 200, "more than"),
    ],
    ids=["refused", "no JSON", "no choice", "no text", "too long"],
)
def test_what_is_not_a_translation_is_none_and_is_logged(
    chat: ChatServer, content: bytes, status: int, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    chat.answer = lambda handler, body: reply(handler, content, status)
    assert _translate(ChatTranslator(chat.url, "small")) is None
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert reason in record.getMessage()
    assert "Guten" not in record.getMessage()


def test_a_server_that_is_not_there_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    async def twice() -> list[str | None]:
        translator = ChatTranslator("http://127.0.0.1:9/v1", "small")
        return [await translator.translate("a", None, "en"), await translator.translate("b", None, "en")]

    assert asyncio.run(twice()) == [None, None]
    assert len(caplog.records) == 1


def test_an_answer_that_trickles_is_given_up(chat: ChatServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_translator, "TIMEOUT_S", 0.3)
    ended = threading.Event()

    def trickle(handler: http.server.BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
        handler.send_response(200)
        handler.end_headers()
        try:
            while True:
                handler.wfile.write(b" ")
                time.sleep(0.02)
        except OSError:
            ended.set()

    chat.answer = trickle
    assert _translate(ChatTranslator(chat.url, "small")) is None
    assert ended.wait(10)


def test_more_texts_than_may_wait_are_not_translated(chat: ChatServer) -> None:
    may_answer = threading.Event()

    def wait(handler: http.server.BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
        may_answer.wait(10)
        reply(handler, completion("ok"))

    chat.answer = wait

    async def flood() -> list[str | None]:
        translator = ChatTranslator(chat.url, "small")
        asked = [asyncio.create_task(translator.translate("a", None, "en")) for _ in range(MAX_WAITING + 1)]
        await asyncio.wait(asked[-1:])
        may_answer.set()
        try:
            return list(await asyncio.gather(*asked))
        finally:
            translator.close()

    assert asyncio.run(flood()) == ["ok"] * MAX_WAITING + [None]


def test_a_session_gets_the_translation_after_the_final(chat: ChatServer) -> None:
    chat.answer = lambda handler, body: reply(handler, completion(f"<{body['messages'][1]['content']}>"))
    session = SessionOptions(vad="webrtc")
    options = ServerOptions(port=0, session=session, translate_url=chat.url, translate_model="small")
    noise = np.random.default_rng(0).integers(-20_000, 20_000, 16_000, np.int16)

    async def translated() -> Conversation:
        async with (
            serving(Application(FakeRecognizer(text="rhubarb"), options)) as port,
            connect(f"ws://127.0.0.1:{port}/v1/stream?translate_to=zh-TW") as socket,
        ):
            talking = Conversation(socket)
            await talking.receive("ready")
            await talking.send_audio(noise)
            await talking.send("stop")
            await talking.receive_all()
            return talking

    conversation = run(translated())
    (translation,) = conversation.of("translation")
    (final,) = conversation.of("final")
    assert translation["text"] == f"<{final['text']}>"
    assert (translation["language"], translation["utterance"]) == ("zh-TW", final["utterance"])
    assert [event["type"] for event in conversation.events][-2:] == ["translation", "done"]

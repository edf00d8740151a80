"""What `MediaRecorder` sends is transcribed while it arrives: no page needs to make raw audio."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import sync_playwright

from tests.support.browser import chromium, recording, visit
from tests.support.live_server import LiveServer
from tests.support.wire import assert_said

SPOKEN = "He might even have been made amiable himself."

RECORD = """async (ways) => {
    const connect = async ([path]) => {
        const messages = [];
        const socket = new WebSocket(location.origin.replace("http", "ws") + path);
        const closed = new Promise((resolve) => { socket.onclose = resolve; });
        socket.onmessage = ({ data }) => messages.push(JSON.parse(data));
        await new Promise((resolve) => { socket.onopen = resolve; });
        return { messages, socket, closed };
    };
    const connections = await Promise.all(ways.map(connect));
    // It speaks from the moment that it is opened.
    const microphone = await navigator.mediaDevices.getUserMedia({ audio: true });
    const record = async ([, stop, type, timeslice], number) => {
        const { messages, socket, closed } = connections[number];
        const recorder = new MediaRecorder(microphone.clone(), type ? { mimeType: type } : {});
        recorder.ondataavailable = ({ data }) => socket.send(data);
        recorder.start(timeslice);
        await new Promise((resolve) => setTimeout(resolve, 6500));
        const stopped = new Promise((resolve) => { recorder.onstop = resolve; });
        recorder.stop();
        await stopped;
        socket.send(stop);
        await closed;
        return [recorder.mimeType, messages];
    };
    return Promise.all(ways.map(record));
}"""


def _texts(messages: list[dict[str, Any]]) -> list[str]:
    finals = [message["text"] for message in messages if message["type"] == "final"]
    for message in messages:
        if message["type"] == "Results" and message["is_final"]:
            finals.append(message["channel"]["alternatives"][0]["transcript"])
        if message.get("event") == "EndOfTurn":
            finals.append(message["transcript"])
    return finals


SOCKETS = {
    "/v1/stream?encoding=auto": '{"type":"stop"}',
    "/v1/listen": '{"type":"CloseStream"}',
    "/v2/listen?model=flux-general-en": '{"type":"CloseStream"}',
}
KINDS = [("", 250), ("audio/webm;codecs=opus", 100), ("audio/mp4;codecs=opus", 250)]


def test_a_recorder_needs_no_more_than_a_socket(server: LiveServer, librivox: Path, tmp_path: Path) -> None:
    """One for each path, at the same time."""
    microphone = recording(tmp_path / "speech.wav", [librivox / "sense_and_sensibility_01_0930.wav"], lead_s=1.4)
    ways = [[*socket, *kind] for socket, kind in zip(SOCKETS.items(), KINDS, strict=True)]
    with (
        sync_playwright() as playwright,
        chromium(playwright, microphone=microphone) as browser,
        visit(browser, server.http_url) as visiting,
    ):
        for kind, _ in KINDS:
            if kind and not visiting.page.evaluate("(kind) => MediaRecorder.isTypeSupported(kind)", kind):
                pytest.fail(f"this browser does not record {kind}")
        for recorded, messages in visiting.page.evaluate(RECORD, ways):
            assert "opus" in recorded
            assert [
                message for message in messages if message["type"] in ("error", "Error", "warning", "Warning")
            ] == []
            assert_said(" ".join(_texts(messages)), SPOKEN)

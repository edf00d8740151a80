"""`LiveStream` by itself, in Chromium, over a socket without a server."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Page, sync_playwright

from tests.support.browser import chromium, visit
from tests.support.chaos_proxy import ChaosProxy, Fault
from tests.support.live_server import LiveServer
from tests.support.wire import speech, transcribe, words

FAKE_SOCKET = Path(__file__).parents[1] / "support" / "fake_socket.js"


@pytest.fixture(scope="module")
def page(server: LiveServer) -> Iterator[Page]:
    with sync_playwright() as playwright, chromium(playwright) as browser, visit(browser, server.http_url) as visiting:
        visiting.page.evaluate(f"() => {{ {FAKE_SOCKET.read_text()} }}")
        yield visiting.page


def test_a_new_connection_has_the_options_that_were_accepted_and_those_without_an_answer(page: Page) -> None:
    urls, sent = page.evaluate(
        """async () => {
            const { LiveStream } = await import("/client/live-stream.js");
            const options = { context: "Ships.", partials: false };
            const stream = new LiveStream({ url: "ws://localhost/v1/stream", sampleRate: 16000, options });
            const opened = () => new Promise((resolve) =>
                stream.addEventListener("state", ({ detail }) => detail === "open" && resolve()));
            await opened();
            const [socket] = WebSocket.made;
            const accept = (options) => socket.deliver({ type: "configured", options });
            accept({ context: "Ships." });
            stream.configure({ endpoint_ms: 5 });
            socket.deliver({ type: "error", code: "bad_option", message: "Too short.", fatal: false });
            stream.configure({ language: "de" });
            accept({ language: "de" });
            stream.configure({ pause_ms: 300 });
            const again = opened();
            socket.close(1006);
            await again;
            const found = WebSocket.made.map(({ url }) => url);
            const messages = WebSocket.made.map(({ sent }) => sent);
            stream.close();
            return [found, messages[1]];
        }"""
    )
    queries = [parse_qs(urlsplit(url).query) for url in urls]
    assert queries == [
        {"sample_rate": ["16000"], "resume": ["offer"], "partials": ["false"]},
        {"sample_rate": ["16000"], "resume": ["offer"], "partials": ["false"], "language": ["de"]},
    ]
    assert sent == [{"type": "configure", "context": "Ships."}, {"type": "configure", "pause_ms": 300}]


def test_options_changed_during_an_outage_are_sent_as_one_message(page: Page) -> None:
    sent = page.evaluate(
        """async () => {
            const { LiveStream } = await import("/client/live-stream.js");
            WebSocket.made.length = 0;
            const stream = new LiveStream({ url: "ws://localhost/v1/stream", sampleRate: 16000 });
            const opened = () => new Promise((resolve) =>
                stream.addEventListener("state", ({ detail }) => detail === "open" && resolve()));
            await opened();
            stream.configure({ pause_ms: 300, language: "de" });
            const broken = new Promise((resolve) => stream.addEventListener("retry", resolve));
            const again = opened();
            WebSocket.made[0].close(1006);
            await broken;
            for (let ms = 500; ms < 600; ms++) stream.configure({ endpoint_ms: ms });
            stream.configure({ language: "fr" });
            await again;
            const [, { sent }] = WebSocket.made;
            stream.close();
            return sent;
        }"""
    )
    assert sent == [{"type": "configure", "pause_ms": 300, "language": "fr", "endpoint_ms": 599}]


def test_a_session_is_claimed_by_its_token_and_the_last_message_received(page: Page) -> None:
    urls, sent, again, detail = page.evaluate(
        """async () => {
            const { LiveStream } = await import("/client/live-stream.js");
            WebSocket.made.length = 0;
            WebSocket.resume = { token: "T", keep_s: 60, resumed: false, audio_bytes: 0, controls: 0 };
            const options = { context: "Ships." };
            const stream = new LiveStream({ url: "ws://localhost/v1/stream", sampleRate: 16000, options });
            const next = (name) => new Promise((resolve) =>
                stream.addEventListener(name, ({ detail }) => resolve(detail), { once: true }));
            await next("event");
            const [first] = WebSocket.made;
            first.deliver({ type: "configured", options, seq: 1 });
            stream.configure({ language: "de" });
            first.deliver({ type: "speech_started", utterance: 1, channel: 0, time_ms: 10, seq: 4 });
            stream.send(new Int16Array(16000));
            stream.configure({ pause_ms: 300 });
            // Of its messages the server has received the first `configure`, the second, and half a second of audio.
            WebSocket.resume = { ...WebSocket.resume, resumed: true, audio_bytes: 16000, controls: 2 };
            const reconnected = next("reconnected");
            first.close(1006);
            const detail = await reconnected;
            const [, second] = WebSocket.made;
            await new Promise((resolve) => setTimeout(resolve));
            const given = [WebSocket.made.map(({ url }) => url), second.sent, second.bytes, detail];
            stream.close();
            WebSocket.resume = undefined;
            return given;
        }"""
    )
    assert [parse_qs(urlsplit(url).query)["resume"] for url in urls] == [["offer"], ["claim"]]
    assert sent == [{"type": "resume", "token": "T", "seq": 4}, {"type": "configure", "pause_ms": 300}]
    assert again == 16_000
    assert detail == {"resentMs": 500, "resumed": True}


def test_words_survive_connections_that_break(page: Page, server: LiveServer, librivox: Path) -> None:
    clip = speech(max(librivox.glob("*.wav"), key=lambda path: path.stat().st_size))
    with ChaosProxy(server.port) as proxy:
        browser = page.context.browser
        assert browser is not None
        visiting = browser.new_page()
        visiting.goto(proxy.http_url)
        visiting.evaluate(SAY, [clip.tolist(), f"{proxy.url}"])
        for fault in (Fault.RESET, Fault.HALF_OPEN):
            visiting.evaluate("() => window.said(1500)")
            proxy.suffer(fault)
        texts, resumed = visiting.evaluate("() => window.ended")
        visiting.close()
    assert resumed == [True, True]
    # In another thread, because Playwright has an event loop in this one.
    with ThreadPoolExecutor(1) as pool:
        undisturbed = pool.submit(transcribe, server.url, clip).result()
    assert words(texts) == words(undisturbed.text)


SAY = """async ([samples, url]) => {
    const { LiveStream } = await import("/client/live-stream.js");
    const stream = new LiveStream({ url, sampleRate: 16000 });
    const texts = [];
    const resumed = [];
    stream.addEventListener("event", ({ detail }) => detail.type === "final" && texts.push(detail.text));
    stream.addEventListener("reconnected", ({ detail }) => resumed.push(detail.resumed));
    // Resolves once so much more audio was sent while a connection is open.
    window.said = async (ms) => {
        const until = stream.audioMs + ms;
        const late = () => stream.state !== "open" || stream.audioMs < until;
        while (late()) await new Promise((resolve) => setTimeout(resolve, 20));
    };
    const say = async () => {
        for (let at = 0; at < samples.length; at += 1600) {
            stream.send(Int16Array.from(samples.slice(at, at + 1600)));
            await new Promise((resolve) => setTimeout(resolve, 100));
        }
        await stream.stop();
        return [texts, resumed];
    };
    window.ended = say();
}"""

"""`LiveStream` by itself, in Chromium, over a socket without a server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Page, sync_playwright

from tests.support.browser import chromium, visit
from tests.support.live_server import LiveServer

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
        {"sample_rate": ["16000"], "partials": ["false"]},
        {"sample_rate": ["16000"], "partials": ["false"], "language": ["de"]},
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

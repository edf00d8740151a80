"""What the pages do when something is missing, refused or long; and whether everybody can use them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from axe_playwright_python.base import AXE_SCRIPT
from playwright.sync_api import Browser, CDPSession, Page, Playwright, expect, sync_playwright

from tests.support.browser import chromium, visit
from tests.support.live_server import LiveServer

CLIP = "sense_and_sensibility_01_0930.wav"
FAKE_SOCKET = Path(__file__).parents[1] / "support" / "fake_socket.js"


@pytest.fixture(scope="module")
def playwright() -> Iterator[Playwright]:
    with sync_playwright() as running:
        yield running


@pytest.fixture(scope="module")
def browser(playwright: Playwright, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """Its microphone records silence."""
    silence = tmp_path_factory.mktemp("microphone") / "silence.wav"
    soundfile.write(silence, np.zeros(48_000, np.int16), 48_000)
    with chromium(
        playwright, microphone=silence, arguments=["--host-resolver-rules=MAP far.test 127.0.0.1"]
    ) as running:
        yield running


# What may be missing.


def test_a_refused_microphone_is_explained(playwright: Playwright, server: LiveServer, tmp_path: Path) -> None:
    silence = tmp_path / "silence.wav"
    soundfile.write(silence, np.zeros(48_000, np.int16), 48_000)
    with (
        chromium(playwright, microphone=silence, permission="deny") as browser,
        visit(browser, server.http_url) as visiting,
    ):
        visiting.page.get_by_role("button", name="Start").click()
        visiting.page.locator(".notice", has_text="The microphone was not allowed").wait_for()
        visiting.picture("refused")
        visiting.wait_for_phase("idle")
        with visit(browser, f"{server.http_url}/captions") as captions:
            captions.page.get_by_role("alert").filter(has_text="not allowed").wait_for()
            captions.picture("captions-refused")


def test_no_microphone_is_explained(playwright: Playwright, server: LiveServer, librivox: Path) -> None:
    with chromium(playwright) as browser, visit(browser, server.http_url) as visiting:
        visiting.page.get_by_role("button", name="Start").click()
        visiting.page.locator(".notice", has_text="No microphone was found").wait_for()
        # A file works without one.
        visiting.page.set_input_files("#file", librivox / CLIP)
        assert "amiable himself" in visiting.wait_for_final()


def test_an_insecure_origin_is_explained_at_once(browser: Browser, librivox: Path) -> None:
    with (
        LiveServer("--allowed-host", "far.test") as server,
        visit(browser, f"http://far.test:{server.port}") as visiting,
    ):
        notice = visiting.page.locator(".notice")
        notice.wait_for()
        assert f"http://localhost:{server.port}" in notice.inner_text()
        assert "https" in notice.inner_text()
        visiting.picture("insecure")
        visiting.page.set_input_files("#file", librivox / CLIP)
        assert "amiable himself" in visiting.wait_for_final()


def test_a_file_that_is_no_audio_is_named(server: LiveServer, browser: Browser) -> None:
    with visit(browser, server.http_url) as visiting:
        visiting.page.set_input_files("#file", {"name": "letter.txt", "mimeType": "text/plain", "buffer": b"Dear me"})
        visiting.page.locator(".notice", has_text="letter.txt is not audio").wait_for()
        visiting.wait_for_phase("idle")


def test_a_server_that_is_gone_is_told(browser: Browser) -> None:
    with LiveServer() as live, visit(browser, live.http_url, faultless=False) as visiting:
        live.kill()
        visiting.page.get_by_role("button", name="Start").click()
        visiting.page.locator(".notice", has_text="The server does not answer").wait_for()
        visiting.wait_for_phase("idle")


def test_the_api_key_is_asked_for_and_kept_for_the_tab(browser: Browser, librivox: Path) -> None:
    with LiveServer("--api-key", "open-sesame") as live:
        with visit(browser, live.http_url) as visiting:
            page = visiting.page
            dialog = page.get_by_role("dialog", name="API key")
            page.set_input_files("#file", librivox / CLIP)
            dialog.wait_for()
            assert live.metric('streaming_asr_refusals_total{code="unauthorized"}') == 0
            visiting.picture("key")
            dialog.get_by_role("textbox").fill("wrong")
            dialog.get_by_role("textbox").press("Enter")
            dialog.filter(has_text="not the right one").wait_for()
            dialog.get_by_role("textbox").fill("open-sesame")
            dialog.get_by_role("button", name="Continue").click()
            assert "amiable himself" in visiting.wait_for_final()
            visiting.wait_for_phase("idle")
            assert not any("open-sesame" in url for url in visiting.requests), "the key is in an address"
            page.reload()
            page.set_input_files("#file", librivox / CLIP)
            assert "amiable himself" in visiting.wait_for_final()
            assert not dialog.is_visible()
        with visit(browser, live.http_url) as another:
            another.page.get_by_role("button", name="Start").click()
            another.page.get_by_role("dialog", name="API key").wait_for()
            another.page.get_by_role("button", name="Cancel").click()
            another.wait_for_phase("idle")


# What everybody should be able to do.


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(server: LiveServer, browser: Browser, librivox: Path, scheme: Any) -> None:
    with visit(browser, server.http_url, color_scheme=scheme) as visiting:
        page = visiting.page
        _check_with_axe(page)
        page.set_input_files("#file", librivox / CLIP)
        visiting.wait_for_final()
        visiting.wait_for_phase("idle")
        page.locator("#download summary").click()
        _check_with_axe(page)
        page.get_by_role("button", name="Clear").click()
        page.get_by_role("button", name="Options").click()
        visiting.picture(f"options-{scheme}")
        _check_with_axe(page)
        page.keyboard.press("Escape")
        page.get_by_role("button", name="Start").click()
        page.locator("#voice", has_text="Listening").wait_for()
        _check_with_axe(page)
        page.goto(f"{server.http_url}/captions")
        page.locator('[data-connection="open"]').wait_for()
        _check_with_axe(page)


def _check_with_axe(page: Page) -> None:
    page.evaluate(AXE_SCRIPT)
    violations = page.evaluate("axe.run().then(({violations}) => violations)")
    assert [(found["id"], found["impact"], [node["html"] for node in found["nodes"]]) for found in violations] == []


def test_the_keyboard_reaches_and_works_everything(server: LiveServer, browser: Browser) -> None:
    with visit(browser, server.http_url) as visiting:
        page = visiting.page
        reached = []
        for _ in range(12):
            page.keyboard.press("Tab")
            reached.append(page.evaluate("document.activeElement.id"))
        assert reached[:4] == ["open-options", "scroller", "choose-file", "record"]
        page.locator("#record").focus()
        page.keyboard.press("Enter")
        visiting.wait_for_phase("live")
        assert page.evaluate("document.activeElement.id") == "record"
        page.keyboard.press("Space")
        visiting.wait_for_phase("idle")


def test_options_reach_the_server_and_last(server: LiveServer, browser: Browser) -> None:
    with visit(browser, server.http_url, faultless=False) as visiting:
        page = visiting.page
        page.add_init_script(path=FAKE_SOCKET)
        page.reload()
        page.get_by_role("button", name="Start").click()
        visiting.wait_for_connection()
        page.get_by_role("button", name="Options").click()
        expect(page.get_by_label("Translation")).to_be_hidden()  # This server does not translate.
        page.get_by_label("Language").select_option("German")
        page.get_by_label("Words to expect").fill("Dashwood, Norland")
        page.get_by_label("Words to expect").press("Tab")
        page.get_by_role("slider").fill("800")
        sent = page.evaluate("WebSocket.made.at(-1).sent")
        assert sent[-1] == {
            "type": "configure",
            "profile": "captions",
            "language": "de",
            "endpoint_ms": 800,
            "keywords": ["Dashwood", "Norland"],
            "context": "",
        }
        captions = page.locator("#captions-link").get_attribute("href")
        assert captions == "captions?language=de&endpoint_ms=800&keywords=Dashwood%2C+Norland"
        page.get_by_label("Speakers").select_option("true")
        assert page.evaluate("WebSocket.made.at(-1).sent.length") == len(sent), "it can't change in mid-stream"
        # The link is that of the options as they are when they are opened.
        page.keyboard.press("Escape")
        page.get_by_role("button", name="Options").click()
        assert "speakers=true" in (page.locator("#captions-link").get_attribute("href") or "")
        page.get_by_label("dark").check()
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 22, 21)"
        page.reload()
        page.get_by_role("button", name="Start").click()
        visiting.wait_for_connection()
        assert {"endpoint_ms=800", "speakers=true", "word_times=true"} <= set(
            page.evaluate("WebSocket.made.at(-1).url").partition("?")[2].split("&")
        )
        assert page.evaluate("WebSocket.made.at(-1).sent[0].keywords") == ["Dashwood", "Norland"]


# What is long.

FEED = """async ([first, last, perFrame]) => {
    const socket = WebSocket.made.at(-1);
    const frames = [];
    let fed = 0;
    for (let number = first; number <= last; number++) {
        for (const event of socket.utterance(number, number * 4000)) {
            socket.deliver(event);
            if (++fed % perFrame === 0) frames.push(await new Promise(requestAnimationFrame));
        }
    }
    await new Promise(requestAnimationFrame);
    return frames.slice(1).map((at, index) => at - frames[index]);
}"""
"""Deliver utterances of four seconds each, `perFrame` events between two frames; returns the time of each frame, ms."""


@pytest.fixture
def fed(server: LiveServer, browser: Browser) -> Iterator[Page]:
    """A page that listens, and gets the events that a test makes up."""
    with visit(browser, server.http_url, faultless=False) as visiting:
        visiting.page.add_init_script(path=FAKE_SOCKET)
        visiting.page.reload()
        visiting.page.get_by_role("button", name="Start").click()
        visiting.wait_for_connection()
        yield visiting.page


def test_the_page_follows_until_the_reader_scrolls_back(fed: Page) -> None:
    fed.evaluate(FEED, [1, 30, 20])
    assert _from_end(fed) < 2
    fed.locator("#scroller").hover()
    fed.mouse.wheel(0, -400)
    latest = fed.get_by_role("button", name="Latest")
    latest.wait_for()
    reading = _top_line(fed)
    fed.evaluate(FEED, [31, 40, 20])
    assert _top_line(fed) == reading, "what was being read has moved"
    latest.click()
    assert _from_end(fed) < 2
    expect(latest).to_be_hidden()
    fed.evaluate(FEED, [41, 45, 20])
    assert _from_end(fed) < 2


def test_who_speaks_is_shown(fed: Page) -> None:
    events = [
        {
            "type": "partial",
            "utterance": 1,
            "revision": 1,
            "stable": "So",
            "tentative": " it",
            "start_ms": 0,
            "time_ms": 600,
        },
        {"type": "speaker", "utterance": 1, "channel": 0, "time_ms": 600, "speaker": 0},
    ]
    fed.evaluate("events => events.forEach((event) => WebSocket.made.at(-1).deliver(event))", events)
    label = fed.locator("#transcript .speaker")
    expect(label).to_have_text("Speaker 1")
    final = {"type": "final", "utterance": 1, "text": "So it is.", "start_ms": 0, "time_ms": 900, "speaker": 1}
    fed.evaluate("event => WebSocket.made.at(-1).deliver(event)", final)
    expect(label).to_have_text("Speaker 2")


def test_half_an_hour_of_speech_stays_within_bounds(fed: Page) -> None:
    session = fed.context.new_cdp_session(fed)
    session.send("Performance.enable")
    early = fed.evaluate(FEED, [1, 310, 40])
    before = _used(session)
    late = fed.evaluate(FEED, [311, 450, 40])
    after = _used(session)
    # The quick ones: what slows down the others may be another process.
    quick_early, quick_late = np.quantile(early, 0.1), np.quantile(late, 0.1)
    print(f"quick frames: {quick_early:.1f} ms, then {quick_late:.1f} ms; {before}, then {after}")
    assert quick_late < 2 * quick_early, "the longer the transcript, the slower the page"
    assert fed.locator("#transcript li").count() == 300
    assert after["Nodes"] <= before["Nodes"] + 50
    assert after["JSHeapUsedSize"] < before["JSHeapUsedSize"] + 2**20
    assert fed.locator("#announcer p").count() <= 5
    # All of it is still there to be read, and to be taken away.
    fed.get_by_role("button", name="Show what came before").click()
    fed.locator("#transcript li", has_text="Sentence 1 goes").wait_for()
    assert fed.locator("#transcript li").count() == 450
    with fed.expect_download() as downloading:
        fed.locator("#download summary").click()
        fed.get_by_role("button", name="Text").click()
    assert len(downloading.value.path().read_text().splitlines()) == 450


def _used(session: CDPSession) -> dict[str, float]:
    session.send("HeapProfiler.collectGarbage")
    metrics = session.send("Performance.getMetrics")["metrics"]
    return {metric["name"]: metric["value"] for metric in metrics if metric["name"] in ("Nodes", "JSHeapUsedSize")}


def _from_end(page: Page) -> float:
    distance: float = page.evaluate(
        "(({scrollHeight, scrollTop, clientHeight}) => scrollHeight - scrollTop - clientHeight)(scroller)"
    )
    return distance


def _top_line(page: Page) -> list[Any]:
    """The first item that is wholly in sight, and where."""
    found: list[Any] = page.evaluate("""() => {
        const top = scroller.getBoundingClientRect().top;
        const items = [...document.querySelectorAll("#transcript li")];
        const item = items.find((each) => each.getBoundingClientRect().top >= top);
        return [item.textContent, Math.round(item.getBoundingClientRect().top)];
    }""")
    return found


def test_a_long_break_of_the_connection_is_told(server: LiveServer, browser: Browser) -> None:
    with visit(browser, f"{server.http_url}/?keep_s=3", faultless=False) as visiting:
        page = visiting.page
        page.add_init_script(path=FAKE_SOCKET)
        page.add_init_script("WebSocket.manner = 'silent'")
        page.reload()
        page.get_by_role("button", name="Start").click()
        page.locator(".notice", has_text="can't be kept").wait_for()
        visiting.picture("overflow")
        page.evaluate("WebSocket.made.at(-1).open()")
        received = page.wait_for_function("""() => {
            const notices = [...document.querySelectorAll(".notice")];
            return notices.some((each) => each.textContent.includes("Some words are lost"))
                && WebSocket.made.at(-1).bytes;
        }""")
        visiting.wait_for_connection()
        expect(page.locator(".notice", has_text="can't be kept")).to_be_hidden()
        # What was kept has come, and not much more than that.
        assert received.json_value() < 48_000 * 2 * 6

"""The pages in a real browser, its microphone fed with real speech, on the real server with the embedded default."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Playwright, expect, sync_playwright

from tests.support.browser import Visit, chromium, recording, visit
from tests.support.chat_server import chat_server, completion, reply
from tests.support.live_server import LiveServer
from tests.support.wire import words

LONG = "sense_and_sensibility_01_0870.wav"
"""Seven seconds: "And Mr. John Dashwood had then leisure to consider how much there might be …"."""
SHORT = "sense_and_sensibility_01_0930.wav"
"""Three seconds that Whisper tiny gets right."""
SHORT_TEXT = "he might even have been made amiable himself"

WATCH = """
    window.seen = [];
    new MutationObserver(() => {
        const item = document.querySelector("#transcript li");
        if (!item) return;
        const text = (name) => item.querySelector(name).textContent;
        seen.push([item.classList.contains("final"), text(".stable"), text(".tentative")]);
    }).observe(
        document.querySelector("#transcript"), {subtree: true, childList: true, characterData: true, attributes: true}
    );
"""
"""Notes every state of the first utterance."""


@pytest.fixture(scope="module")
def playwright() -> Iterator[Playwright]:
    with sync_playwright() as running:
        yield running


@pytest.fixture(scope="module")
def short_browser(
    playwright: Playwright, librivox: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Browser]:
    """Its microphone plays the short sentence whenever it is opened."""
    file = recording(tmp_path_factory.mktemp("microphone") / "short.wav", [librivox / SHORT])
    with chromium(playwright, microphone=file) as browser:
        yield browser


@pytest.fixture(scope="module")
def long_browser(playwright: Playwright, librivox: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    file = recording(tmp_path_factory.mktemp("microphone") / "long.wav", [librivox / LONG], rate=44_100)
    with chromium(playwright, microphone=file) as browser:
        yield browser


def test_words_are_tentative_then_stable_then_final(server: LiveServer, long_browser: Browser) -> None:
    with visit(long_browser, server.http_url) as visiting:
        page = visiting.page
        visiting.picture("idle")
        page.evaluate(WATCH)
        page.get_by_role("button", name="Start").click()
        page.locator("#voice", has_text="Hearing you").wait_for()
        page.locator("#transcript .stable", has_text=re.compile("then leisure", re.IGNORECASE)).wait_for()
        visiting.picture("speaking")
        visiting.wait_for_final()
        seen = page.evaluate("seen")
        final, stable, tentative = ([state[index] for state in seen] for index in range(3))
        assert any("sample_rate=48000&" in url for url in visiting.requests)
        first_tentative = next(index for index, text in enumerate(tentative) if text)
        first_stable = next(index for index, text in enumerate(stable) if text)
        first_final = final.index(True)
        assert first_tentative < first_stable < first_final
        for before, after in itertools.pairwise(stable[:first_final]):
            assert after.startswith(before.rstrip()), "what was stable changed before the final"
        said = " ".join(words(stable[-1]))
        assert "dashwood had then leisure to consider how much there might be" in said
        assert tentative[-1] == ""
        # Screen readers read the final, once, and nothing before it.
        assert page.locator("#announcer p").all_text_contents() == [stable[-1]]
        for latency in ("#latency-first", "#latency-final"):
            assert 0 < float(page.inner_text(latency).removesuffix(" s")) < 60
        assert page.inner_text("#transcript time") == "0:00"
        assert page.inner_text("#transcript .language") == "en"
        _stop(page, visiting)
        visiting.picture("done")


def test_a_phone_with_a_microphone_of_another_rate(server: LiveServer, short_browser: Browser) -> None:
    phone = {"viewport": {"width": 390, "height": 780}, "has_touch": True, "color_scheme": "dark"}
    with visit(short_browser, server.http_url, **phone) as visiting:
        page = visiting.page
        # As in Firefox, which does not report the device's rate: the context has that of the output, here 44.1 kHz.
        page.evaluate("MediaStreamTrack.prototype.getSettings = () => ({})")
        page.get_by_role("button", name="Start").click()
        assert visiting.wait_for_final() == SHORT_TEXT
        assert any("sample_rate=44100&" in url for url in visiting.requests)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "the page is wider than the window"
        visiting.picture("phone")
        _stop(page, visiting)


def test_a_pause_records_nothing_and_goes_on(server: LiveServer, long_browser: Browser) -> None:
    with visit(long_browser, server.http_url) as visiting:
        page = visiting.page
        page.get_by_role("button", name="Start").click()
        # Enough words that the final has some, wherever the pause cuts.
        visiting.wait_for_text("then leisure")
        page.get_by_role("button", name="Pause").press("Space")
        # What was said so far gets its final although the speaker did not pause.
        visiting.wait_for_final()
        assert page.inner_text("#voice") == "Paused"
        assert page.get_by_role("button", name="Resume").get_attribute("aria-pressed") == "true"
        elapsed = _clock_at_rest(page)
        visiting.picture("paused")
        page.get_by_role("button", name="Resume").press("Enter")
        page.locator("#elapsed").filter(has_not_text=elapsed).wait_for()
        _stop(page, visiting)


def _clock_at_rest(page: Page) -> str:
    """What the clock shows once it has not moved for more than a second; it shows whole seconds."""
    for _ in range(10):
        elapsed = page.inner_text("#elapsed")
        page.wait_for_timeout(1100)
        if page.inner_text("#elapsed") == elapsed:
            return elapsed
    raise AssertionError("the clock goes on")


def test_a_killed_server_costs_no_words(long_browser: Browser) -> None:
    with LiveServer() as live, visit(long_browser, live.http_url, faultless=False) as visiting:
        page = visiting.page
        page.get_by_role("button", name="Start").click()
        visiting.wait_for_text("Dashwood")
        live.kill()
        page.locator("#connection", has_text="Reconnecting").wait_for()
        before = page.inner_text("#transcript p")
        assert "Dashwood" in before
        page.locator(".notice", has_text="connection is lost").wait_for()
        assert page.inner_text("#transcript p") == before, "what could be read is gone"
        visiting.picture("reconnecting")
        live.restart()
        visiting.wait_for_connection()
        said = visiting.wait_for_final()
        assert re.search("dashwood had then leisure to consider how much there might be .* in his power", said)
        assert page.locator(".notice").count() == 0
        assert page.locator("#transcript li").count() == len(visiting.finals) <= 2
        _stop(page, visiting)


@pytest.fixture(scope="module")
def translating() -> Iterator[LiveServer]:
    """A server whose translator gives the same text always."""
    with chat_server() as chat, LiveServer("--translate-url", chat.url, "--translate-model", "small") as live:
        chat.answer = lambda handler, body: reply(handler, completion("Selbst ihn."))
        yield live


def test_the_page_shows_translations_below_their_texts(translating: LiveServer, short_browser: Browser) -> None:
    with visit(short_browser, translating.http_url) as visiting:
        page = visiting.page
        page.get_by_role("button", name="Options").click()
        page.get_by_label("Translation").select_option("German")
        page.get_by_role("button", name="Done").click()
        page.get_by_role("button", name="Start").click()
        assert visiting.wait_for_final() == SHORT_TEXT
        item = page.locator("#transcript li.final")
        translation = item.locator(".translation")
        expect(translation).to_have_text("Selbst ihn.")
        assert (item.locator("p").get_attribute("lang"), translation.get_attribute("lang")) == ("en", "de")
        assert page.locator("#announcer p").all_inner_texts() == [item.locator("p").inner_text(), "Selbst ihn."]
        visiting.picture("translation")
        _stop(page, visiting)


def test_captions_show_the_last_lines_large_who_speaks_and_a_translation(
    translating: LiveServer, short_browser: Browser
) -> None:
    query = (
        "?lines=3&size=10&color=ffee00&background=transparent&align=center&language=en&clear_s=3&keywords=Austen"
        "&speakers=true&translate_to=de"
    )
    with visit(short_browser, f"{translating.http_url}/captions{query}") as visiting:
        page = visiting.page
        visiting.wait_for_text("he might", "#roll")
        visiting.wait_for_text(SHORT_TEXT, "#roll")
        # All at one moment: a few seconds later the screen is empty.
        shown = page.wait_for_function("""() => {
            const line = document.querySelector("#roll p");
            const translation = line?.querySelector(".translation");
            if (translation?.textContent !== "Selbst ihn.") return false;
            const style = getComputedStyle(document.querySelector("#lines"));
            return {
                languages: [line.lang, translation.lang],
                text: line.innerText,
                announced: [...document.querySelectorAll("#announcer p")].map((each) => each.innerText),
                look: {
                    size: parseFloat(style.fontSize) / innerHeight,
                    lines: parseFloat(style.height) / parseFloat(style.lineHeight),
                    color: style.color,
                    ground: getComputedStyle(document.body).backgroundColor,
                },
            };
        }""").json_value()
        visiting.picture("captions")
        assert shown["languages"] == ["en", "de"]
        said, translated = shown["text"].splitlines()
        assert words(said.removeprefix("Speaker 1: ")) == SHORT_TEXT.split()
        assert translated == "Selbst ihn."
        assert shown["announced"] == [said, translated]
        assert shown["look"] == {
            "size": pytest.approx(0.1, abs=0.001),
            "lines": pytest.approx(3, abs=0.05),
            "color": "rgb(255, 238, 0)",
            "ground": "rgba(0, 0, 0, 0)",
        }
        assert any("language=en" in url for url in visiting.requests)
        # After a silence the screen is empty.
        expect(page.locator("#roll p")).to_have_count(0)


def test_a_dropped_file_is_transcribed_and_can_be_taken_away(
    server: LiveServer, short_browser: Browser, librivox: Path
) -> None:
    with visit(
        short_browser, server.http_url, accept_downloads=True, permissions=["clipboard-read", "clipboard-write"]
    ) as visiting:
        page = visiting.page
        _drop(page, librivox / SHORT, visiting)
        assert visiting.wait_for_final() == SHORT_TEXT
        visiting.wait_for_phase("idle")
        # Another run goes on behind the first, in number and in time.
        page.set_input_files("#file", librivox / SHORT)
        visiting.wait_for_final(2)
        visiting.wait_for_phase("idle")
        _check_downloads(page)
        page.get_by_role("button", name="Copy").click()
        page.locator(".notice", has_text="Copied").wait_for()
        assert words(page.evaluate("navigator.clipboard.readText()")) == SHORT_TEXT.split() * 2
        page.get_by_role("button", name="Clear").click()
        assert page.locator("#transcript li").count() == 0
        assert page.get_by_role("heading", name="Speak").is_visible()
        page.get_by_role("button", name="Undo").click()
        assert len(visiting.finals) == 2


def test_a_file_can_be_heard_as_if_it_were_spoken_now(
    server: LiveServer, short_browser: Browser, librivox: Path
) -> None:
    with visit(short_browser, server.http_url) as visiting:
        page = visiting.page
        page.get_by_role("button", name="Options").click()
        page.get_by_label("as if spoken now").check()
        page.get_by_role("button", name="Done").click()
        page.evaluate(WATCH)
        page.set_input_files("#file", librivox / SHORT)
        page.locator("#elapsed", has_text="/ 0:03").wait_for()
        page.locator("#transcript li").wait_for()
        visiting.picture("file")
        assert visiting.wait_for_final() == SHORT_TEXT
        assert any(stable + tentative and not final for final, stable, tentative in page.evaluate("seen"))
        visiting.wait_for_phase("idle")
        assert page.inner_text("#elapsed") == "0:03"


def _drop(page: Page, file: Path, visiting: Visit) -> None:
    data = page.evaluate_handle(
        """([bytes, name]) => {
            const transfer = new DataTransfer();
            transfer.items.add(new File([new Uint8Array(bytes)], name, {type: "audio/wav"}));
            return transfer;
        }""",
        [list(file.read_bytes()), file.name],
    )
    page.dispatch_event("body", "dragover", {"dataTransfer": data})
    page.locator("#drop").wait_for()
    visiting.picture("drop")
    page.dispatch_event("body", "drop", {"dataTransfer": data})


def _check_downloads(page: Page) -> None:
    files = {}
    for kind in ("txt", "srt", "vtt", "json"):
        page.locator("#download summary").click()
        with page.expect_download() as downloading:
            page.locator(f"#download [data-format={kind}]").click()
        assert re.fullmatch(rf"transcript-\d{{4}}-\d\d-\d\d-\d{{4}}\.{kind}", downloading.value.suggested_filename)
        files[kind] = downloading.value.path().read_text()
    utterances = json.loads(files["json"])["utterances"]
    assert [utterance["utterance"] for utterance in utterances] == [1, 2]
    times = [utterance[name] for utterance in utterances for name in ("start_ms", "end_ms")]
    assert times == sorted(times)
    assert times[2] >= 3200, "the second file's times do not follow the first's"
    texts = [utterance["text"] for utterance in utterances]
    assert files["txt"] == "".join(f"{text}\n" for text in texts)
    stamp = r"(\d\d):(\d\d):(\d\d)[,.](\d{3})"
    srt = re.findall(rf"(\d+)\n{stamp} --> {stamp}\n(.+)\n\n", files["srt"])
    vtt = re.findall(rf"{stamp} --> {stamp}\n(.+)\n\n", files["vtt"])
    assert files["vtt"].startswith("WEBVTT\n\n")
    assert [cue[-1] for cue in srt] == [cue[-1] for cue in vtt] == texts
    assert [cue[0] for cue in srt] == ["1", "2"]
    shown = [_ms(cue[at : at + 4]) for cue in srt for at in (1, 5)]
    assert shown == [_ms(cue[at : at + 4]) for cue in vtt for at in (0, 4)] == times


def _ms(stamp: tuple[str, ...]) -> int:
    hours, minutes, seconds, ms = map(int, stamp)
    return ((hours * 60 + minutes) * 60 + seconds) * 1000 + ms


def _stop(page: Page, visiting: Visit) -> None:
    page.get_by_role("button", name="Stop").click()
    visiting.wait_for_phase("idle")
    assert page.inner_text("#connection") == "Not connected"

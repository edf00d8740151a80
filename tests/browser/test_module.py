"""The JavaScript client by itself: what it keeps of the audio, and how it writes transcripts. In Chromium."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Page, sync_playwright

from tests.support.browser import chromium, visit
from tests.support.live_server import LiveServer


@pytest.fixture(scope="module")
def page(server: LiveServer) -> Iterator[Page]:
    with sync_playwright() as playwright, chromium(playwright) as browser, visit(browser, server.http_url) as visiting:
        yield visiting.page


def ledger(page: Page, script: str) -> Any:
    """Run a script with `ledger`, 1 kHz and 10 s kept; `audio(ms)`; `sent()`, all that it has to send."""
    return page.evaluate(
        """async () => {
            const { AudioLedger } = await import("/client/audio-ledger.js");
            const ledger = new AudioLedger(1000, 10);
            let next = 0;
            const audio = (ms) => ledger.append(Int16Array.from({length: ms}, () => next++ % 30000));
            const sent = () => {
                const found = [];
                for (let message; (message = ledger.nextMessage()); ) {
                    found.push(message.audio ? [message.audio[0], message.audio.length] : message.type);
                }
                return found;
            };
            const options = {pre_roll_ms: 100, onset_ms: 100, max_utterance_s: 5};
            const final = (utterance, start_ms, time_ms, text = "") => ledger.observe(
                {type: "final", utterance, channel: 0, text, language: "en", start_ms, time_ms, words: null});
            const started = (utterance, time_ms) => ledger.observe({type: "speech_started", utterance, time_ms});
            return (SCRIPT)();
        }""".replace("SCRIPT", script)
    )


def audio_of(messages: list[Any]) -> tuple[int, int]:
    """First sample and count of what was sent as audio, which must be without a gap."""
    pieces = [message for message in messages if isinstance(message, list)]
    for (start, length), (following, _) in itertools.pairwise(pieces):
        assert following == start + length
    return pieces[0][0], sum(length for _, length in pieces)


def test_a_new_session_hears_again_what_has_no_final(page: Page) -> None:
    told = ledger(
        page,
        """() => {
            ledger.beginSession(options);
            audio(3000);
            const first = sent();
            started(1, 200); final(1, 200, 1000, "One.");
            started(2, 1500);
            const again = ledger.beginSession(options);
            const second = sent();
            started(1, 500);
            return {first, again, second, later: final(1, 500, 1200, "Two.")};
        }""",
    )
    assert audio_of(told["first"]) == (0, 3000)
    assert "ping" in told["first"]
    assert told["again"] == {"resentMs": 2000, "lost": None}
    assert audio_of(told["second"]) == (1000, 2000)
    (final,) = told["later"]
    assert (final["utterance"], final["start_ms"], final["time_ms"]) == (2, 1500, 2200)


def test_silence_that_was_heard_is_not_kept(page: Page) -> None:
    kept = ledger(
        page,
        """() => {
            ledger.beginSession(options);
            for (let n = 0; n < 100; n++) {
                audio(1000);
                sent();
                ledger.observe({type: "pong", id: (n + 1) * 1000});
            }
            return [ledger.full, ledger._chunks.length, ledger.beginSession(options).resentMs];
        }""",
    )
    assert kept == [False, 1, 800]


def test_beyond_the_bound_the_oldest_goes_and_is_told(page: Page) -> None:
    told = ledger(
        page,
        """() => {
            ledger.beginSession(options);
            audio(500); sent();
            for (let n = 0; n < 100; n++) audio(250);
            const {full, _chunks: {length: chunks}} = ledger;
            const messages = sent();
            const [gap, once] = [ledger.takeGap(), ledger.takeGap()];
            return {full, chunks, messages, gap, once, resumed: started(1, 600)};
        }""",
    )
    assert told["full"]
    assert told["chunks"] == 40
    assert audio_of(told["messages"]) == (15_500, 10_000)
    assert told["gap"] == {"startMs": 500, "endMs": 15_500}
    assert told["once"] is None
    # Sample 600 of the session is what was said 100 ms after the gap.
    assert told["resumed"][0]["time_ms"] == 15_600


def test_finals_that_the_end_of_a_session_cut_wait_for_better_ones(page: Page) -> None:
    told = ledger(
        page,
        """() => {
            ledger.beginSession(options);
            audio(2000); sent();
            started(1, 100);
            ledger.observe({type: "speech_ended", utterance: 1, start_ms: 100, time_ms: 2000, reason: "stop"});
            const cut = final(1, 100, 2000, "Half a");
            const none = ledger.beginSession(options).resentMs;
            ledger.stop();
            const last = sent().at(-1);
            started(1, 100);
            ledger.observe({type: "speech_ended", utterance: 1, start_ms: 100, time_ms: 2000, reason: "stop"});
            final(1, 100, 2000, "Half a sentence.");
            const done = ledger.observe({type: "done", audio_ms: 2000});
            return {cut, none, last, done: done.map(({text}) => text ?? "done")};
        }""",
    )
    assert told == {"cut": [], "none": 2000, "last": "stop", "done": ["Half a sentence.", "done"]}


def test_a_finalize_without_answer_is_asked_again(page: Page) -> None:
    told = ledger(
        page,
        """() => {
            ledger.beginSession(options);
            audio(500); ledger.finalize(); audio(300);
            const first = sent();
            ledger.beginSession(options);
            const second = sent();
            ledger.observe({type: "finalized", channel: 0, time_ms: 500});
            ledger.beginSession(options);
            return [first, second, sent()].map((messages) => messages.filter((each) => typeof each === "string"));
        }""",
    )
    assert told == [["finalize"], ["finalize"], []]


def test_subtitles_are_short_escaped_and_in_time(page: Page) -> None:
    told = page.evaluate(
        """async () => {
            const { written } = await import("/client/subtitles.js");
            const word = (_, n) => ({text: `word${n}`, start_ms: n * 300, end_ms: n * 300 + 250});
            const words = Array.from({length: 20}, word);
            const utterances = [
                {stable: "A & B --> C <i>.", startMs: 3_725_004, endMs: 3_726_000},
                {stable: words.map(({text}) => text).join(" "), startMs: 0, endMs: 6000, words},
                {stable: "我们每天早上都去公园散步，".repeat(9), startMs: 0, endMs: 20_000},
            ];
            return utterances.map((utterance) => [written([utterance], "srt"), written([utterance], "vtt")]);
        }"""
    )
    (odd_srt, odd_vtt), (timed, _), (chinese, _) = told
    assert odd_srt == "1\n01:02:05,004 --> 01:02:06,000\nA & B → C <i>.\n\n"
    assert odd_vtt == "WEBVTT\n\n01:02:05.004 --> 01:02:06.000\nA &amp; B --&gt; C &lt;i&gt;.\n\n"
    cues = [cue.split("\n", 2) for cue in timed.strip().split("\n\n")]
    assert [cue[1] for cue in cues] == ["00:00:00,000 --> 00:00:03,850", "00:00:03,900 --> 00:00:05,950"]
    assert " ".join(cue[2] for cue in cues) == " ".join(f"word{n}" for n in range(20))
    lines = [cue.split("\n")[2] for cue in chinese.strip().split("\n\n")]
    assert len(lines) >= 3
    assert "".join(lines) == "我们每天早上都去公园散步，" * 9
    assert max(map(len, lines)) <= 84

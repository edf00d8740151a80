"""The JavaScript client by itself: how it writes transcripts. In Chromium.

`tests/clients/test_vectors.py` tests what it keeps of the audio, and when it connects again.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, sync_playwright

from tests.support.browser import chromium, visit
from tests.support.live_server import LiveServer


@pytest.fixture(scope="module")
def page(server: LiveServer) -> Iterator[Page]:
    with sync_playwright() as playwright, chromium(playwright) as browser, visit(browser, server.http_url) as visiting:
        yield visiting.page


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

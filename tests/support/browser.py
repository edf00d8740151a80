"""Headless Chromium with a fake microphone that plays real speech, and a page of ours in it, watched for faults."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import soundfile
from playwright.sync_api import Browser, BrowserContext, Page, Playwright, Request

from tests.support.wire import speech, words

CHROMIUM = os.environ.get("STREAMING_ASR_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
FLAGS = (
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
HEARS_WITHIN_MS = 30_000
SCREENSHOTS = Path(__file__).parents[2] / "results" / "browser"
"""Where tests leave pictures of each state, to be looked at."""


@contextmanager
def chromium(
    playwright: Playwright,
    *,
    microphone: Path | None = None,
    permission: str = "allow",
    arguments: Sequence[str] = (),
) -> Iterator[Browser]:
    """A browser.

    Args:
        microphone: what its fake microphone plays, once from the moment that it is opened; None: it has no microphone.
        permission: `allow` or `deny` the microphone to any page.
    """
    assert CHROMIUM, "These tests drive Chromium: apt-get install chromium, or name one in STREAMING_ASR_CHROMIUM."
    flags = [*FLAGS, *arguments, "--use-fake-ui-for-media-stream" + ("=deny" if permission == "deny" else "")]
    if microphone is not None:
        flags += ["--use-fake-device-for-media-stream", f"--use-file-for-fake-audio-capture={microphone}%noloop"]
    browser = playwright.chromium.launch(executable_path=CHROMIUM, args=flags, chromium_sandbox=False)
    try:
        yield browser
    finally:
        browser.close()


def recording(path: Path, clips: Sequence[Path], rate: int = 48_000, lead_s: float = 0.4, gap_s: float = 1.2) -> Path:
    """A file for the fake microphone: clips, each followed by silence."""
    pieces = [np.zeros(int(lead_s * rate), np.int16)]
    for clip in clips:
        pieces += [speech(clip, rate), np.zeros(int(gap_s * rate), np.int16)]
    soundfile.write(path, np.concatenate(pieces), rate, subtype="PCM_16")
    return path


class Visit:
    """A page and all that went wrong on it."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.faults: list[str] = []
        self.requests: list[str] = []
        page.set_default_timeout(HEARS_WITHIN_MS)
        page.on("console", lambda message: message.type == "error" and self.faults.append(message.text))
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.on("request", self._requested)
        page.on("websocket", lambda socket: self.requests.append(socket.url))

    def _requested(self, request: Request) -> None:
        self.requests.append(request.url)

    @property
    def hosts(self) -> set[str]:
        """Wherever the page has sent a request; blobs are its own."""
        return {urlsplit(url).netloc for url in self.requests if not url.startswith(("blob:", "data:"))}

    @property
    def finals(self) -> list[str]:
        return self.page.locator("#transcript li.final p").all_inner_texts()

    def wait_for_final(self, count: int = 1) -> str:
        """The words of all finals, once there are this many."""
        self.page.locator("#transcript li.final").nth(count - 1).wait_for()
        return self.words

    @property
    def words(self) -> str:
        return " ".join(words(self.finals))

    def wait_for_text(self, pattern: str, selector: str = "#transcript") -> None:
        """Until a part of the page says something, however it is capitalized."""
        self.page.locator(selector).filter(has_text=re.compile(pattern, re.IGNORECASE)).first.wait_for()

    def wait_for_phase(self, phase: str) -> None:
        self.page.locator(f'body[data-phase="{phase}"]').wait_for()

    def wait_for_connection(self) -> None:
        self.page.locator('#connection[data-state="on"]').wait_for()

    def picture(self, name: str) -> None:
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=SCREENSHOTS / f"{name}.png")


@contextmanager
def visit(browser: Browser, url: str, *, faultless: bool = True, **context: object) -> Iterator[Visit]:
    """Open a page in a window of its own; it must have no fault, and send requests to its own server only.

    Args:
        faultless: False where the server is killed, which browsers log as an error.
        context: of Playwright's `new_context`.
    """
    window: BrowserContext = browser.new_context(**{"viewport": {"width": 1120, "height": 760}, **context})  # type: ignore[arg-type]
    try:
        visiting = Visit(window.new_page())
        visiting.page.goto(url)
        yield visiting
        if faultless:
            assert visiting.faults == []
        assert visiting.hosts == {urlsplit(url).netloc}
    finally:
        window.close()

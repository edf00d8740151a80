"""What a speaker sees: streams clips at real time to a running server, and tells latencies with the word error rate.

    streaming-asr serve &
    python -m benchmarks.live --speech DIR --set librispeech --streams 1

With `--fast` the clips are sent as fast as the server takes them, which measures accuracy and throughput instead.

Times are on the audio's own clock: a sample is due when it would have been spoken.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import jiwer
import numpy as np
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from whisper_normalizer.english import EnglishTextNormalizer

from benchmarks.speech import Clip, NoSpeech, add_speech_option, clips
from clients.errors import StreamError
from clients.events import Final, Partial, SpeechEnded, SpeechStarted
from clients.stream import DEFAULT_URL, TranscriptionStream, open_stream
from streaming_asr.recognizers.base import SAMPLE_RATE

CHUNK_S = 0.05
_TRAILING_S = 1.0
"""Silence after each clip, so that its last utterance ends by itself."""


@dataclass
class Seen:
    """What the runs so far have shown; seconds."""

    first_partial: list[float] = field(default_factory=list)
    """From the onset in the audio, as the server tells it, to the first partial."""
    final: list[float] = field(default_factory=list)
    """From the end of speech, as the server tells it, to the final: TTFS, the endpoint's silence included."""
    after_endpoint: list[float] = field(default_factory=list)
    """From the news that the utterance ended to its final."""
    sender_late: list[float] = field(default_factory=list)
    """How late this program itself sent a chunk."""
    failures: list[str] = field(default_factory=list)
    """Clips that got no transcript, and why."""
    references: list[str] = field(default_factory=list)
    hypotheses: list[str] = field(default_factory=list)


async def run_clip(url: str, clip: Clip, seen: Seen, *, fast: bool) -> None:
    """Stream one clip, at real time unless `fast`.

    Raises:
        StreamError: the server refuses, or breaks off.
    """
    audio = np.concatenate([clip.audio(), np.zeros(int(_TRAILING_S * SAMPLE_RATE), np.float32)])
    pcm = (audio.clip(-1, 1) * 32767).astype("<i2")
    loop = asyncio.get_running_loop()
    async with open_stream(url, {"sample_rate": SAMPLE_RATE, "partials": not fast}) as stream:
        began = loop.time()
        sending = asyncio.create_task(_send(stream, pcm.tobytes(), None if fast else began, seen))
        onsets: dict[int, float] = {}
        ends: dict[int, float] = {}
        texts: list[str] = []
        async for event in stream:
            now = loop.time() - began
            if isinstance(event, SpeechStarted):
                onsets[event.utterance] = event.time_ms / 1000
            elif isinstance(event, Partial) and event.utterance in onsets:
                seen.first_partial.append(now - onsets.pop(event.utterance))
            elif isinstance(event, SpeechEnded):
                ends[event.utterance] = now
            elif isinstance(event, Final):
                texts.append(event.text)
                seen.final.append(now - event.time_ms / 1000)
                seen.after_endpoint.append(now - ends[event.utterance])
        await sending
    normalize = EnglishTextNormalizer()
    seen.references.append(normalize(clip.text))
    seen.hypotheses.append(normalize(" ".join(texts)))


async def _send(stream: TranscriptionStream, pcm: bytes, began: float | None, seen: Seen) -> None:
    """Send at the pace of speech that began then; None: at once."""
    loop = asyncio.get_running_loop()
    size = int(CHUNK_S * SAMPLE_RATE) * 2
    for number, start in enumerate(range(0, len(pcm), size), 1):
        if began is not None:
            due = began + number * CHUNK_S
            await asyncio.sleep(max(0.0, due - loop.time()))
            seen.sender_late.append(loop.time() - due)
        await stream.send(pcm[start : start + size])
    await stream.stop()


async def run(url: str, chosen: Sequence[Clip], streams: int, *, fast: bool) -> Seen:
    """Stream all clips, `streams` at a time; those that fail are counted."""
    seen = Seen()
    waiting = list(reversed(chosen))
    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task("Streaming", total=len(chosen))

        async def worker() -> None:
            while waiting:
                clip = waiting.pop()
                try:
                    await run_clip(url, clip, seen, fast=fast)
                except StreamError as error:
                    seen.failures.append(f"{clip.id}: {error}")
                progress.advance(task)

        await asyncio.gather(*(worker() for _ in range(streams)))
    return seen


def as_table(seen: Seen) -> Table:
    table = Table(title=f"WER {jiwer.wer(seen.references, seen.hypotheses):.2%} on {len(seen.references)} clips")
    for head in ("seconds", "p50", "p95", "p99", "n"):
        table.add_column(head, justify="left" if head == "seconds" else "right")
    rows = (
        ("first partial, from the onset", seen.first_partial),
        ("final, from the end of speech", seen.final),
        ("final, from the endpoint", seen.after_endpoint),
        ("lateness of this program", seen.sender_late),
    )
    for name, values in rows:
        if values:
            figures = (f"{np.percentile(values, p):.3f}" for p in (50, 95, 99))
            table.add_row(name, *figures, str(len(values)))
    return table


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.live", description=(__doc__ or "").splitlines()[0])
    add_speech_option(parser)
    parser.add_argument("--set", default="librivox", help="name of the set (default: the clips of the tests)")
    parser.add_argument("--clips", type=int, metavar="N", help="that many, spread over the set; default all")
    parser.add_argument("--streams", type=int, default=1, metavar="N", help="at once (default 1)")
    parser.add_argument("--fast", action="store_true", help="send as fast as the server takes it")
    parser.add_argument("--url", default=DEFAULT_URL)
    options = parser.parse_args(argv)
    try:
        found = [clip for clip in clips(options.speech, options.set) if clip.language == "en"]
        chosen = found[:: max(1, len(found) // (options.clips or len(found)))][: options.clips]
        began = time.perf_counter()
        seen = asyncio.run(run(options.url, chosen, options.streams, fast=options.fast))
    except NoSpeech as error:
        parser.exit(1, f"{error}\n")
    took = time.perf_counter() - began
    console = Console()
    if seen.references and not options.fast:
        console.print(as_table(seen))
    good = len(seen.references)
    wer = f", WER {jiwer.wer(seen.references, seen.hypotheses):.2%}" if good else ""
    console.print(f"{good} of {len(chosen)} clips transcribed in {took:.1f} s: {good / took:.2f} a second{wer}")
    for failure in seen.failures:
        console.print(f"failed: {failure}")
    return 1 if seen.failures else 0


if __name__ == "__main__":
    raise SystemExit(main())

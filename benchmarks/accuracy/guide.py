"""`guide`: the two tables that the deployment guide of Qwen3-ASR-1.7B on vllm-ascend publishes, from any server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.accuracy.openai_server import OpenAIServer, Request, RequestFailed
from benchmarks.accuracy.served import wav
from benchmarks.accuracy.word_errors import Errors, count_errors, interval, pooled
from benchmarks.accuracy.working import work_through
from benchmarks.common.normalization import measure_of, plain_words, units
from benchmarks.common.speech import Clip, NoSpeech
from benchmarks.common.stats import spread
from streaming_asr.core.recognizer import SAMPLE_RATE, Audio

GUIDE_ACCURACY = ("500", "500", "0", "0.035")
"""Samples, success, failure, WER; LibriSpeech test-clean."""
GUIDE_THROUGHPUT = ("100", "57", "1.73")
"""Samples, runtime in seconds, samples a second; one after the other."""
_MOST_FAILURES = 10


@dataclass(frozen=True, slots=True)
class Sample:
    """What the server made of one recording."""

    clip: Clip
    audio_s: float
    took_s: float
    text: str | None
    """None where it failed."""
    failure: str = ""

    @property
    def errors(self) -> Errors:
        said = units(self.clip.text, self.clip.language)
        return count_errors(said, units(self.text or "", self.clip.language))

    @property
    def plain_errors(self) -> Errors:
        return count_errors(plain_words(self.clip.text), plain_words(self.text or ""))


@dataclass(slots=True)
class Samples:
    """One table's samples; fills while it runs."""

    wanted: int
    done: list[Sample] = field(default_factory=list)
    runtime_s: float = 0.0
    """From the first file that is read to the last answer."""

    async def run(
        self,
        server: OpenAIServer,
        clips: Sequence[Clip],
        request: Request,
        *,
        at_once: int,
        send_language: bool,
        title: str,
    ) -> None:
        """Send each clip and keep its text or the reason for its failure.

        Raises:
            NoSpeech: a file can't be read.
        """
        began = time.perf_counter()

        async def work(clip: Clip) -> None:
            audio, file = await asyncio.to_thread(_read, clip)
            asked = time.perf_counter()
            text, failure = None, ""
            try:
                answer = await server.transcribe(file, request, language=clip.language if send_language else None)
                text = answer.text
            except RequestFailed as error:
                failure = str(error)
            took = time.perf_counter() - asked
            self.done.append(Sample(clip, len(audio) / SAMPLE_RATE, took, text, failure))
            self.runtime_s = time.perf_counter() - began

        await work_through(clips, at_once, work, title=title)

    @property
    def good(self) -> list[Sample]:
        return [sample for sample in self.done if sample.text is not None]

    @property
    def failures(self) -> list[Sample]:
        return [sample for sample in self.done if sample.text is None]

    @property
    def per_second(self) -> float:
        return len(self.good) / self.runtime_s if self.runtime_s else 0.0

    def as_json(self) -> dict[str, Any]:
        good = self.good
        result: dict[str, Any] = {"wanted": self.wanted, "samples": len(self.done), "success": len(good)}
        result["failure"] = len(self.failures)
        if good:
            audio_s = sum(sample.audio_s for sample in good)
            result |= {
                "wer": pooled([sample.errors for sample in good]).rate,
                "wer_interval_95": interval([sample.errors for sample in good]),
                "wer_plain": pooled([sample.plain_errors for sample in good]).rate,
                "wer_failures_as_lost": pooled([sample.errors for sample in self.done]).rate,
                "latency_s": spread([sample.took_s for sample in good]),
                "audio_s": audio_s,
                "real_time_factor": self.runtime_s / audio_s,
            }
        return result | {
            "runtime_s": self.runtime_s,
            "samples_per_s": self.per_second,
            "clips": [
                {
                    "id": sample.clip.id,
                    "said": sample.clip.text,
                    "text": sample.text,
                    "failure": sample.failure,
                    "took_s": sample.took_s,
                }
                for sample in self.done
            ],
        }


@dataclass(slots=True)
class Guide:
    """Both tables."""

    accuracy: Samples
    throughput: Samples
    url: str = ""
    model: str = ""

    async def run(
        self,
        server: OpenAIServer,
        clips: Sequence[Clip],
        faster: Sequence[Clip],
        request: Request,
        *,
        at_once: int,
        send_language: bool,
    ) -> None:
        """Accuracy of `clips`, then the throughput of `faster`.

        Raises:
            RequestFailed: the server can't be reached.
            NoSpeech: a file can't be read, or there is none.
        """
        if not clips and not faster:
            raise NoSpeech("no clip is left to send")
        self.url = server.url
        try:
            self.model = await server.find_model()
            for table, chosen, title in ((self.accuracy, clips, "Accuracy"), (self.throughput, faster, "Throughput")):
                await table.run(server, chosen, request, at_once=at_once, send_language=send_language, title=title)
        finally:
            await asyncio.shield(server.close())

    def show(self, console: Console) -> None:
        if self.accuracy.done:
            console.print(self._accuracy_table())
            self._tell_more(console)
        if self.throughput.done:
            console.print(self._throughput_table())
        for sample in (*self.accuracy.failures, *self.throughput.failures)[:_MOST_FAILURES]:
            console.print(f"failed: {sample.clip.id}: {sample.failure}", style="yellow", markup=False)

    def as_json(self) -> dict[str, Any]:
        return {
            "url": self.url,
            "model": self.model,
            "accuracy": self.accuracy.as_json(),
            "throughput": self.throughput.as_json(),
        }

    def _accuracy_table(self) -> Table:
        result = self.accuracy.as_json()
        measure = measure_of(self.accuracy.done[0].clip.language)
        table = Table(title=f"Accuracy of {self.model}")
        for head in ("", "samples", "success", "failure", measure):
            table.add_column(head, justify="right" if head else "left")
        rate = f"{result['wer']:.4f}" if "wer" in result else "–"
        table.add_row("here", *(str(result[name]) for name in ("samples", "success", "failure")), rate)
        table.add_row("the guide", *GUIDE_ACCURACY, style="dim")
        return table

    def _tell_more(self, console: Console) -> None:
        result = self.accuracy.as_json()
        if "wer" not in result:
            return
        bounds = result["wer_interval_95"]
        span = f"95 % of it {bounds[0]:.4f} to {bounds[1]:.4f}; " if bounds else ""
        console.print(f"{span}only case and punctuation made equal: {result['wer_plain']:.4f}")
        if self.accuracy.failures:
            console.print(f"failures counted as lost words: {result['wer_failures_as_lost']:.4f}")

    def _throughput_table(self) -> Table:
        result = self.throughput.as_json()
        table = Table(title=f"Throughput of {self.model}")
        for head in ("", "samples", "runtime, s", "samples/s", "latency p50, s", "p95, s", "real-time factor"):
            table.add_column(head, justify="right" if head else "left")
        more = ["–"] * 3
        if latency := result.get("latency_s"):
            more = [f"{latency['p50']:.2f}", f"{latency['p95']:.2f}", f"{result['real_time_factor']:.4f}"]
        table.add_row(
            "here", str(result["samples"]), f"{result['runtime_s']:.1f}", f"{result['samples_per_s']:.2f}", *more
        )
        table.add_row("the guide", *GUIDE_THROUGHPUT, "", "", "", style="dim")
        return table


def _read(clip: Clip) -> tuple[Audio, bytes]:
    audio = clip.audio()
    return audio, wav(audio)

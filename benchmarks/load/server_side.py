"""What the server itself says of a run: its own metrics, and what its process took of the machine."""

from __future__ import annotations

import asyncio
import time
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psutil
from prometheus_client.parser import text_string_to_metric_families

PREFIX = "streaming_asr_"
SAMPLE_S = 1.0
_TIMEOUT_S = 5.0
_MIB = 2**20

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]
"""By name without the prefix, and labels."""


def metrics_url(url: str) -> str:
    """Where a server with WebSockets at `url` has its metrics, if it is ours."""
    parts = urlsplit(url)
    scheme = {"ws": "http", "wss": "https"}.get(parts.scheme, parts.scheme)
    return urlunsplit((scheme, parts.netloc, "/metrics", "", ""))


def read_metrics(text: str) -> Samples:
    """The samples of this project's server in a text of Prometheus' format."""
    return {
        (sample.name.removeprefix(PREFIX), tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name.startswith(PREFIX) and not sample.name.endswith("_created")
    }


async def fetch_metrics(url: str, key: str | None = None) -> Samples | None:
    """The server's metrics now; None if it is another server, or does not answer.

    Args:
        key: an API key of the server.
    """
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {key}"} if key else {})

    def fetch() -> str:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:
            body: bytes = answer.read()
            return body.decode()

    try:
        samples = read_metrics(await asyncio.to_thread(fetch))
    except (OSError, ValueError):
        return None
    return samples or None


def difference(before: Samples, after: Samples) -> dict[str, Any]:
    """What happened between two looks at the metrics."""

    def grown(name: str, **labels: str) -> float:
        wanted = labels.items()
        return sum(
            value - before.get(key, 0.0)
            for key, value in after.items()
            if key[0] == name and wanted <= dict(key[1]).items()
        )

    def by(name: str, label: str) -> dict[str, float]:
        found = sorted({dict(labels).get(label, "") for key, labels in after if key == name})
        return {value: count for value in found if (count := grown(name, **{label: value}))}

    audio_s, prompt = grown("audio_seconds_total"), grown("tokens_total", what="prompt")
    decodes = {kind: by_outcome for kind in by("decodes_total", "kind") if (by_outcome := _outcomes(kind, grown))}
    return {
        "audio_s": audio_s,
        "sessions": by("sessions_opened_total", "protocol"),
        "utterances": by("utterances_total", "reason"),
        "decodes": decodes,
        "decode_s": by("decode_seconds_sum", "kind"),
        "encoded_audio_s": grown("encoded_audio_seconds_total"),
        "tokens": by("tokens_total", "what"),
        "cached_share_of_prompt_tokens": grown("tokens_total", what="cached") / prompt if prompt else None,
        "refusals": by("refusals_total", "code"),
        "errors": by("errors_total", "code"),
        "event_loop_lag_s": {
            f"p{percent}": quantile(before, after, "event_loop_lag_seconds", percent / 100) for percent in (50, 95, 99)
        },
    }


def _outcomes(kind: str, grown: Any) -> dict[str, float]:
    return {
        outcome: count
        for outcome in ("ok", "failed", "cancelled")
        if (count := grown("decodes_total", kind=kind, outcome=outcome))
    }


def quantile(before: Samples, after: Samples, name: str, share: float) -> float | None:
    """The upper bound of a histogram's bucket in which the quantile lies; None where nothing was counted."""
    buckets = sorted(
        (float(dict(labels)["le"]), value - before.get((key, labels), 0.0))
        for (key, labels), value in after.items()
        if key == f"{name}_bucket"
    )
    if not buckets or not buckets[-1][1]:
        return None
    return next(bound for bound, count in buckets if count >= share * buckets[-1][1])


@dataclass
class ProcessWatch:
    """CPU and memory of a process and all its children, sampled while a run goes on.

    Args:
        pid: of the server.

    Raises:
        psutil.Error: the process does not exist.
    """

    pid: int
    rss_mib: list[float] = field(default_factory=list)
    cores: list[float] = field(default_factory=list)
    """CPU seconds per second, of each interval."""

    def __post_init__(self) -> None:
        self._process = psutil.Process(self.pid)
        self._began = self._last = (time.perf_counter(), self._cpu_s()[0])

    async def watch(self) -> None:
        """Sample until cancelled, or until the process ends."""
        while True:
            await asyncio.sleep(SAMPLE_S)
            try:
                # A walk through all processes of the machine takes too long for the event loop that sends audio.
                cpu_s, rss = await asyncio.to_thread(self._cpu_s)
            except psutil.Error:
                return
            now, (then, before) = time.perf_counter(), self._last
            self._last = (now, cpu_s)
            self.cores.append(max(0.0, cpu_s - before) / (now - then))
            self.rss_mib.append(rss / _MIB)

    def _cpu_s(self) -> tuple[float, int]:
        cpu_s, rss = 0.0, 0
        for process in (self._process, *self._process.children(recursive=True)):
            try:
                times = process.cpu_times()
                cpu_s += times.user + times.system
                rss += process.memory_info().rss
            except psutil.NoSuchProcess:
                if process is self._process:
                    raise
        return cpu_s, rss

    def figures(self, audio_s: float) -> Mapping[str, float | None]:
        """CPU time, cores and memory since the beginning.

        Args:
            audio_s: seconds of audio that the server received meanwhile.
        """
        try:
            cpu_s = self._cpu_s()[0] - self._began[1]
        except psutil.Error:
            cpu_s = self._last[1] - self._began[1]
        return {
            "cpu_s": cpu_s,
            "cpu_s_per_audio_s": cpu_s / audio_s if audio_s else None,
            "cores_mean": sum(self.cores) / len(self.cores) if self.cores else None,
            "cores_max": max(self.cores, default=None),
            "rss_mib_max": max(self.rss_mib, default=None),
        }

"""vLLM's own statistics, summed for our metrics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from vllm.v1.metrics.loggers import StatLoggerBase


@dataclass(slots=True)
class EngineStats:
    """Counts since the start, over restarts; gauges of the latest step, summed over data-parallel engines."""

    steps: int = 0
    running: int = 0
    waiting: int = 0
    kv_usage: float = 0.0
    """Share of the key-value cache in use, 0..1, of the fullest engine."""
    prompt_tokens: int = 0
    """Tokens of prompts that were looked up in the prefix cache."""
    cached_tokens: int = 0
    """Of these, found there."""
    generated_tokens: int = 0
    preemptions: int = 0
    encoder_items: int = 0
    encoder_tokens: int = 0
    """Audio items that went through the encoder, and positions that came out. Counted only with vLLM's option
    ``--enable-logging-iteration-details`` and a release that reports them."""


class StatsCollector(StatLoggerBase):  # type: ignore[misc]
    """One engine's contribution. vLLM makes one of these for each data-parallel engine."""

    def __init__(self, stats: EngineStats, gauges: dict[int, tuple[int, int, float]], index: int) -> None:
        self._stats = stats
        self._gauges = gauges
        self._index = index

    def record(
        self,
        scheduler_stats: Any,
        iteration_stats: Any,
        mm_cache_stats: Any = None,
        engine_idx: int = 0,
    ) -> None:
        stats = self._stats
        stats.steps += 1
        if scheduler_stats is not None:
            self._gauges[self._index] = (
                scheduler_stats.num_running_reqs,
                scheduler_stats.num_waiting_reqs,
                scheduler_stats.kv_cache_usage,
            )
            running, waiting, usage = zip(*self._gauges.values(), strict=True)
            stats.running, stats.waiting, stats.kv_usage = sum(running), sum(waiting), max(usage)
            stats.prompt_tokens += scheduler_stats.prefix_cache_stats.queries
            stats.cached_tokens += scheduler_stats.prefix_cache_stats.hits
            details = getattr(scheduler_stats, "iteration_details", None)
            stats.encoder_items += getattr(details, "num_encoder_inputs", 0)
            stats.encoder_tokens += getattr(details, "num_encoder_output_tokens", 0)
        if iteration_stats is not None:
            stats.generated_tokens += iteration_stats.num_generation_tokens
            stats.preemptions += iteration_stats.num_preempted_reqs

    def log_engine_initialized(self) -> None:
        """Logs nothing."""

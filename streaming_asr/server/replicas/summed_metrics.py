"""The metrics of all replicas as those of one server.

What only grows, counters and histograms, is summed, with what replicas had counted that are gone: a sum that shrank
when one of them died would look like a restart of everything. Gauges keep the replica as a label.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

READY = "streaming_asr_ready"
_GROWING = ("counter", "histogram", "summary")


class _Given(Collector):
    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def sum_metrics(gone: bytes, replicas: Mapping[int, bytes], deaths: Mapping[int, int]) -> bytes:
    """The metrics of a server of several replicas, in Prometheus' exposition format.

    Args:
        gone: of replicas that have ended, as `sum_growing` returns it.
        replicas: number of each that runs -> its metrics.
        deaths: number of each replica -> how often it has ended unexpectedly.
    """
    families = _sums([gone, *replicas.values()])
    for number, text in replicas.items():
        for family in text_string_to_metric_families(text.decode()):
            if family.type in _GROWING or family.name.endswith("_created"):
                continue
            labelled = families.setdefault(family.name, Metric(family.name, family.documentation, family.type))
            for sample in family.samples:
                labelled.add_sample(sample.name, {**sample.labels, "replica": str(number)}, sample.value)
    ready = families.setdefault(READY, GaugeMetricFamily(READY, "1 while the recognizer takes work."))
    died = CounterMetricFamily("streaming_asr_replica_deaths", "Unexpected ends of a replica.", labels=["replica"])
    for number, times in deaths.items():
        died.add_metric([str(number)], times)
        if number not in replicas:
            ready.add_sample(READY, {"replica": str(number)}, 0.0)
    return _text([*families.values(), died])


def sum_growing(texts: Iterable[bytes]) -> bytes:
    """The sums of all that only grows."""
    return _text(_sums(texts).values())


def _sums(texts: Iterable[bytes]) -> dict[str, Metric]:
    sums: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
    families: dict[str, tuple[Metric, list[tuple[str, tuple[tuple[str, str], ...]]]]] = {}
    for text in texts:
        for family in text_string_to_metric_families(text.decode()):
            if family.type not in _GROWING:
                continue
            _, keys = families.setdefault(family.name, (Metric(family.name, family.documentation, family.type), []))
            for sample in family.samples:
                key = sample.name, tuple(sample.labels.items())
                if key not in sums:
                    keys.append(key)
                sums[key] = sums.get(key, 0.0) + sample.value
    for metric, keys in families.values():
        for name, labels in keys:
            metric.add_sample(name, dict(labels), sums[name, labels])
    return {name: metric for name, (metric, _) in families.items()}


def _text(families: Iterable[Metric]) -> bytes:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Given(list(families)))
    return generate_latest(registry)

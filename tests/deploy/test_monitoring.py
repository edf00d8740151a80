"""The dashboard and the alerts ask for what the server exports: each metric, label and value in them is real."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import httpx
import promql_parser
import pytest
import yaml

from streaming_asr.core.events import EndReason
from streaming_asr.core.options import SessionOptions
from streaming_asr.core.recognizer import Kind
from streaming_asr.protocols.failures import FailureKind
from streaming_asr.server.app import Application
from streaming_asr.server.live.parking import Outcome
from streaming_asr.server.options import ServerOptions
from streaming_asr.server.replicas.summed_metrics import sum_metrics
from streaming_asr.server.service import STATUSES
from tests.support.containers import DOCKER
from tests.support.fake_recognizer import FakeRecognizer
from tests.support.serving import serving
from tests.support.wire import run

FILES = DOCKER / "helm" / "streaming-asr" / "files"
ALERTS = [rule for group in yaml.safe_load((FILES / "alerts.yaml").read_text())["groups"] for rule in group["rules"]]
DASHBOARD = json.loads((FILES / "dashboard.json").read_text())
GRAFANA = {"$__rate_interval": "5m", "$job": ".*", "$instance": ".*"}
PROMETHEUS = {"job", "instance", "namespace", "pod", "service", "le", "replica"}
"""Labels that do not come from one server, or are a histogram's."""
ENGINE = re.findall(
    r"^    (\w+): (?:int|float) = 0",
    (DOCKER.parent / "streaming_asr" / "recognizers" / "vllm" / "stats.py").read_text(),
    re.MULTILINE,
)
"""What an engine of vLLM's exports besides; `streaming_asr_engine_` stands before it."""
VALUES = {
    "status": set(STATUSES),
    "outcome": {outcome.value for outcome in Outcome} | {"ok", "failed", "cancelled"},
    "code": {kind.code for kind in FailureKind},
    "kind": {kind.name.lower() for kind in Kind},
    "reason": {reason.value for reason in EndReason},
    "what": {"prompt", "cached", "generated"},
}


def queries() -> Iterator[tuple[str, str]]:
    """Where a query is, and the query as Prometheus gets it."""
    for rule in ALERTS:
        yield rule["alert"], rule["expr"]
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"]
    for annotation in DASHBOARD["annotations"]["list"]:
        yield annotation["name"], annotation["expr"]


def plain(query: str) -> str:
    for variable, value in GRAFANA.items():
        query = query.replace(variable, value)
    assert "$" not in query
    return query


def selectors(query: Any) -> list[promql_parser.VectorSelector]:
    """All of a parsed query."""
    found: list[Any] = []
    promql_parser.walk(query, found.append)
    return [node for node in found if isinstance(node, promql_parser.VectorSelector)]


@pytest.fixture(scope="module")
def exported() -> dict[str, set[str]]:
    """The series of a server, as /metrics names them, and the labels of each."""

    async def fetch() -> dict[str, set[str]]:
        application = Application(FakeRecognizer(), ServerOptions(port=0, session=SessionOptions(vad="webrtc")))
        async with serving(application) as port, httpx.AsyncClient() as client:
            text = (await client.get(f"http://127.0.0.1:{port}/metrics")).text
        labels = {
            metric._name: set(metric._labelnames) for metric in application.service.metrics.registry._collector_to_names
        }
        series: dict[str, set[str]] = {}
        for name, kind in re.findall(r"^# TYPE (\w+) (\w+)$", text, re.MULTILINE):
            own = labels.get(name.removesuffix("_total"), set())
            names = [name]
            if kind == "histogram":
                names = [f"{name}{suffix}" for suffix in ("_bucket", "_sum", "_count")]
            series |= dict.fromkeys(names, own)
        return series

    replicated = re.findall(r"^# TYPE (\w*replica\w*) counter$", sum_metrics(b"", {}, {1: 2}).decode(), re.MULTILINE)
    return (
        run(fetch())
        | {name: {"replica"} for name in replicated}
        | {f"streaming_asr_engine_{name}": set() for name in ENGINE}
    )


@pytest.mark.parametrize(("place", "query"), list(queries()))
def test_a_query_parses_and_asks_for_what_is_exported(place: str, query: str, exported: dict[str, set[str]]) -> None:
    parsed = promql_parser.parse(plain(query))
    found = selectors(parsed)
    assert found, "no metric was found in the query"
    for selector in found:
        assert selector.name in exported
        for matcher in selector.matchers.matchers:
            if matcher.name in PROMETHEUS:
                continue
            assert matcher.name in exported[selector.name]
            assert matcher.value in VALUES[matcher.name]
    # Labels that are grouped by must be there, too.
    labels = PROMETHEUS.union(*(exported[selector.name] for selector in found))
    for grouped in re.findall(r"\bby \(([^)]*)\)", query):
        assert {label.strip() for label in grouped.split(",")} <= labels


def test_alerts_say_what_is_the_matter_and_their_labels_are_there() -> None:
    assert len({rule["alert"] for rule in ALERTS}) == len(ALERTS)
    for rule in ALERTS:
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert set(rule["annotations"]) == {"summary", "description"}
        for label in re.findall(r"\$labels\.(\w+)", rule["annotations"]["description"]):
            grouped = re.findall(r"\bby \(([^)]*)\)", rule["expr"])
            assert label in PROMETHEUS
            assert all(label in group for group in grouped), f"{rule['alert']} has no label {label}"


@pytest.mark.parametrize(
    "metric",
    ["final_seconds", "refusals", "status", "memory_bytes", "parked_sessions", "load", "event_loop_lag", "decodes"],
)
def test_what_goes_wrong_raises_an_alert_and_is_on_the_dashboard(metric: str) -> None:
    assert any(f"streaming_asr_{metric}" in rule["expr"] for rule in ALERTS)
    assert any(f"streaming_asr_{metric}" in query for place, query in queries() if place not in ALERTS)


def test_panels_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= cells
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(ids) == len(set(ids))

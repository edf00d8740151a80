"""The Helm chart, rendered by Helm's own library: what comes out is valid, starts a server, and lets sessions end.

No cluster runs here. Kubernetes' own kinds are checked against its published schemas, those of KEDA and of the
Prometheus operator against models made from their definitions.
"""

from __future__ import annotations

import functools
import importlib
import itertools
import json
import re
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import yaml

from streaming_asr.server.options import ServerOptions
from streaming_asr.server.replicas.supervisor import KILL_AFTER_S
from streaming_asr.server.tracing import ENDPOINTS
from tests.deploy.test_containers import started
from tests.support.containers import DOCKER, dockerfile, kubernetes

pytestmark = pytest.mark.full

CHART = DOCKER / "helm" / "streaming-asr"
KUBERNETES = ("1.25", "1.37")
"""The oldest release that the chart takes, and the newest whose schemas are there."""
KEY = {"apiKeys": {"existingSecret": "keys"}}
CUSTOM = {
    "ScaledObject": "cloudcoil.models.keda.v1alpha1",
    "ServiceMonitor": "cloudcoil.models.prometheus_operator.v1",
    "PrometheusRule": "cloudcoil.models.prometheus_operator.v1",
}

Manifest = dict[str, Any]


@pytest.fixture(autouse=True, scope="module")
def schemas_read_once() -> Iterator[None]:
    """The definitions that all schemas share are megabytes, and the package reads them for each object."""
    from kubernetes_validate import utils

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(utils, "schema_contents", functools.cache(utils.schema_contents))
        yield


def merged(*values: Mapping[str, Any]) -> dict[str, Any]:
    """Later ones win, key by key."""
    result: dict[str, Any] = {}
    for given in values:
        for key, value in given.items():
            both = isinstance(value, dict) and isinstance(result.get(key), dict)
            result[key] = merged(result[key], value) if both else value
    return result


def render(*values: Mapping[str, Any], name: str = "asr") -> list[Manifest]:
    import helm_python

    given = merged(*values)
    with helm_python.Chart.load(str(CHART)) as chart:
        chart.validate_schema(given)
        texts = chart.render(given, name=name, namespace="speech")
    return [
        manifest
        for path, text in texts.items()
        if path.endswith(".yaml")
        for manifest in yaml.safe_load_all(text)
        if manifest
    ]


def one(manifests: list[Manifest], kind: str, name: str | None = None) -> Manifest:
    (found,) = (
        manifest for manifest in manifests if manifest["kind"] == kind and name in (None, manifest["metadata"]["name"])
    )
    return found


def pod(*values: Mapping[str, Any]) -> tuple[Manifest, Manifest]:
    """The specification of the pod, and of its container."""
    spec = one(render(*values), "Deployment")["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    return spec, container


def check(manifest: Manifest, version: str) -> None:
    import kubernetes_validate

    if module := CUSTOM.get(manifest["kind"]):
        model = getattr(importlib.import_module(module), manifest["kind"])
        dumped = model.model_validate(manifest).model_dump(by_alias=True, exclude_unset=True, mode="json")
        assert dumped == manifest, "a field is not known"
    else:
        kubernetes_validate.validate(manifest, version, strict=True)


SHARED = {"cache": {"accessMode": "ReadWriteMany"}}
CASES: dict[str, list[Mapping[str, Any]]] = {
    "ascend": [KEY],
    "300I DUO": [KEY, {"ascend": {"resource": "huawei.com/Ascend310P", "mountDriver": True}}],
    "cuda": [KEY, {"accelerator": "cuda", "runtimeClassName": "nvidia"}],
    "cpu": [KEY, {"accelerator": "cpu"}],
    "keys in values": [{"apiKeys": {"values": ["0123456789abcdef", "fedcba9876543210"]}}],
    "anonymous": [{"apiKeys": {"allowAnonymous": True}, "metrics": {"annotations": False}}],
    "hpa": [KEY, SHARED, {"autoscaling": {"hpa": {"enabled": True}}}],
    "keda": [KEY, SHARED, {"autoscaling": {"keda": {"enabled": True}}}],
    "monitoring": [
        KEY,
        {
            "metrics": {
                "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
                "rules": {"enabled": True},
                "dashboard": {"enabled": True},
            }
        },
    ],
    "several, each with its volume": [KEY, {"replicas": 3, "cache": {"type": "ephemeral", "storageClass": "fast"}}],
    "without volumes": [KEY, {"cache": {"type": "emptyDir"}, "preStopSeconds": 0, "resources": {"requests": None}}],
    "everything about scheduling": [
        KEY,
        {
            "imagePullSecrets": [{"name": "registry"}],
            "models": {"existingClaim": "weights"},
            "model": "/models/Qwen3-ASR-1.7B",
            "env": [{"name": "HF_HUB_OFFLINE", "value": "1"}],
            "podLabels": {"ring-controller.atlas": "ascend-910b"},
            "podAnnotations": {"note": "1"},
            "nodeSelector": {"accelerator": "huawei-Ascend910"},
            "tolerations": [{"key": "npu", "operator": "Exists"}],
            "affinity": {"podAntiAffinity": {}},
            "topologySpreadConstraints": [
                {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway", "labelSelector": {}}
            ],
            "priorityClassName": "high",
            "schedulerName": "volcano",
            "serviceAccount": {"name": "asr"},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "podDisruptionBudget": {"maxUnavailable": "50%"},
            "service": {"type": "LoadBalancer", "annotations": {"a": "b"}, "sessionAffinity": "ClientIP"},
        },
    ],
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_rendered_is_valid(case: str) -> None:
    manifests = render(*CASES[case])
    assert {"Deployment", "Service", "PodDisruptionBudget"} <= {manifest["kind"] for manifest in manifests}
    for manifest in manifests:
        for version in KUBERNETES:
            check(manifest, version)


def test_helms_linter_has_nothing_to_say() -> None:
    import helm_python

    report = helm_python.lint(str(CHART), KEY, strict=True)
    assert report["errors"] == []
    assert [message for message in report["messages"] if message["severity"] > 1] == []


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ([], "Clients need a key"),
        ([KEY, {"replicas": 2}], "can't share a cache that is ReadWriteOnce"),
        ([KEY, SHARED, {"autoscaling": {"hpa": {"enabled": True}, "keda": {"enabled": True}}}], "enable one of them"),
        ([KEY, {"autoscaling": {"minReplicas": 9}}], "minReplicas is more than"),
        ([KEY, {"drainSeconds": 300, "terminationGraceSeconds": 300}], "else sessions are cut off"),
        ([KEY, {"model": "/models/a"}], "set models.hostPath or models.existingClaim"),
        ([KEY, {"models": {"hostPath": "/a", "existingClaim": "b"}}], "exclude each other"),
        ([KEY, {"acelerator": "cpu"}], "acelerator"),
        ([KEY, {"accelerator": "tpu"}], "accelerator"),
        ([{"apiKeys": {"values": ["a,b"]}}], "pattern"),
        ([KEY, {"replicas": "two"}], "replicas"),
    ],
)
def test_wrong_values_are_refused_with_what_would_be_right(values: list[Mapping[str, Any]], says: str) -> None:
    import helm_python

    with pytest.raises(helm_python.HelmError, match=re.escape(says)):
        render(*values)


def test_the_schema_knows_every_value_and_its_defaults_are_valid() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    schema = json.loads((CHART / "values.schema.json").read_text())

    def compare(values: Mapping[str, Any], schema: Mapping[str, Any], path: str = "") -> None:
        known = schema.get("properties")
        if known is None:
            return
        assert set(values) | {"global"} == set(known) | {"global"}, path
        for key, value in values.items():
            if isinstance(value, dict):
                compare(value, known[key], f"{path}.{key}")

    compare(values, schema)


@pytest.mark.parametrize("accelerator", ["ascend", "cuda", "cpu"])
def test_each_image_is_started_as_it_expects(monkeypatch: pytest.MonkeyPatch, accelerator: str) -> None:
    image = dockerfile(f"Dockerfile.{accelerator}")
    spec, container = pod(KEY, {"accelerator": accelerator, "drainSeconds": 40, "options": ["--max-sessions=7"]})
    options = started([*(image.entrypoint or []), *container["args"]], monkeypatch, "0123456789abcdef")
    assert (options.host, options.port, options.max_sessions) == ("0.0.0.0", 8000, 7)
    assert (options.metrics_host, options.metrics_port) == ("0.0.0.0", 9090)
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {"http": options.port, "metrics": options.metrics_port}
    # What is in its entry point and command, and what the chart says, is the same.
    given = [argument for argument in container["args"] if not argument.startswith(("--drain", "--metrics", "--max-s"))]
    assert [word for argument in given for word in argument.split("=")] == [
        word for argument in image.command for word in argument.split("=")
    ]
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    home = image.environment.get("HOME", "/root")
    assert mounts == {"cache": f"{home}/.cache", "shm": "/dev/shm"}
    user = spec["securityContext"].get("runAsUser", 0)
    group = spec["securityContext"].get("runAsGroup", 0)
    assert image.user == ("root" if user == 0 else f"{user}:{group}")
    assert spec["securityContext"].get("runAsNonRoot", False) is (user != 0)


def test_a_session_has_time_to_end_before_the_pod_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    spec, container = pod(KEY, {"drainSeconds": 600, "preStopSeconds": 7})
    drain_s = started(container["args"], monkeypatch, "0123456789abcdef").drain_timeout_s
    assert drain_s == 600
    assert container["lifecycle"]["preStop"]["exec"]["command"] == ["sleep", "7"]
    assert spec["terminationGracePeriodSeconds"] > 7 + drain_s + KILL_AFTER_S


def test_probes_leave_time_for_the_weights_and_ask_what_the_server_answers() -> None:
    _, container = pod(KEY, {"startupSeconds": 1801})
    startup, ready, live = (container[f"{name}Probe"] for name in ("startup", "readiness", "liveness"))
    assert startup["periodSeconds"] * startup["failureThreshold"] >= 1801
    assert startup["httpGet"]["path"] == ready["httpGet"]["path"] == "/readyz"
    assert live["httpGet"]["path"] == "/healthz"
    # An engine that is started again takes minutes, and must not be the end of the server.
    assert ready["periodSeconds"] * ready["failureThreshold"] < 10 < live["periodSeconds"] * live["failureThreshold"]


@pytest.mark.parametrize(
    ("values", "device"),
    [
        ({}, {"huawei.com/Ascend910": 1}),
        ({"ascend": {"resource": "huawei.com/Ascend310P"}}, {"huawei.com/Ascend310P": 1}),
        ({"accelerator": "cuda", "devices": 2}, {"nvidia.com/gpu": 2}),
        ({"accelerator": "cpu"}, {}),
    ],
)
def test_the_device_is_asked_for_as_its_plugin_names_it(values: Mapping[str, Any], device: dict[str, int]) -> None:
    _, container = pod(KEY, values)
    for kind in ("requests", "limits"):
        asked = container["resources"][kind]
        assert {name: count for name, count in asked.items() if "/" in name} == device


def test_the_300i_duo_gets_its_shared_memory() -> None:
    for resource, expected in (("huawei.com/Ascend910", "2Gi"), ("huawei.com/Ascend310P", "10Gi")):
        spec, _ = pod(KEY, {"ascend": {"resource": resource}})
        shm = next(volume for volume in spec["volumes"] if volume["name"] == "shm")
        assert shm["emptyDir"]["sizeLimit"] == expected


def test_the_driver_is_mounted_at_the_paths_of_the_host() -> None:
    elsewhere, _ = pod(KEY, {"ascend": {"mountDriver": True, "npuSmi": "/usr/local/sbin/npu-smi", "installInfo": ""}})
    files = {volume["name"]: volume["hostPath"]["path"] for volume in elsewhere["volumes"] if "hostPath" in volume}
    assert (files["npu-smi"], files.get("install-info")) == ("/usr/local/sbin/npu-smi", None)
    spec, container = pod(KEY, {"ascend": {"mountDriver": True}})
    hosts = {volume["name"]: volume["hostPath"]["path"] for volume in spec["volumes"] if "hostPath" in volume}
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert len(hosts) == 4
    assert {name: mounts[name] for name in hosts} == hosts


def test_the_selectors_find_the_pods_and_the_metrics() -> None:
    manifests = render(KEY, {"metrics": {"serviceMonitor": {"enabled": True}}})
    labels = one(manifests, "Deployment")["spec"]["template"]["metadata"]["labels"]
    clients, metrics = (
        one(manifests, "Service", "asr-streaming-asr"),
        one(manifests, "Service", "asr-streaming-asr-metrics"),
    )
    for selector in (
        clients["spec"]["selector"],
        metrics["spec"]["selector"],
        one(manifests, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        one(manifests, "Deployment")["spec"]["selector"]["matchLabels"],
    ):
        assert selector.items() <= labels.items()
    monitored = one(manifests, "ServiceMonitor")["spec"]
    assert monitored["selector"]["matchLabels"].items() <= metrics["metadata"]["labels"].items()
    assert not monitored["selector"]["matchLabels"].items() <= clients["metadata"]["labels"].items()
    assert [port["name"] for port in metrics["spec"]["ports"]] == [end["port"] for end in monitored["endpoints"]]
    assert [port["name"] for port in clients["spec"]["ports"]] == ["http"], "clients' service has no metrics"


def test_autoscalers_follow_the_load_of_this_release() -> None:
    hpa = one(render(*CASES["hpa"]), "HorizontalPodAutoscaler")["spec"]
    (metric,) = hpa["metrics"]
    assert metric["pods"]["metric"] == {"name": "streaming_asr_load"}
    assert metric["pods"]["target"] == {"type": "AverageValue", "averageValue": "0.7"}
    keda = one(render(*CASES["keda"]), "ScaledObject")["spec"]
    (trigger,) = keda["triggers"]
    assert trigger["metadata"]["query"] == (
        'sum(avg by (pod) (streaming_asr_load{namespace="speech", service="asr-streaming-asr-metrics"}))'
    )
    assert trigger["metadata"]["threshold"] == "0.7"
    for case in ("hpa", "keda"):
        deployment = one(render(*CASES[case]), "Deployment")
        assert "replicas" not in deployment["spec"], "an upgrade would undo what the autoscaler did"


def test_keys_in_values_become_the_secret_that_is_read() -> None:
    manifests = render(*CASES["keys in values"])
    secret = one(manifests, "Secret")
    (container,) = one(manifests, "Deployment")["spec"]["template"]["spec"]["containers"]
    (variable,) = container["env"]
    assert variable["name"] == "STREAMING_ASR_API_KEYS"
    reference = variable["valueFrom"]["secretKeyRef"]
    assert secret["metadata"]["name"] == reference["name"]
    assert secret["stringData"][reference["key"]] == "0123456789abcdef,fedcba9876543210"


def test_spans_are_sent_where_the_values_say(monkeypatch: pytest.MonkeyPatch) -> None:
    _, container = pod(KEY, {"tracing": {"endpoint": "http://collector.monitoring:4318"}})
    environment = {variable["name"]: variable.get("value") for variable in container["env"]}
    assert environment["OTEL_EXPORTER_OTLP_ENDPOINT"] == "http://collector.monitoring:4318"
    assert "OTEL_EXPORTER_OTLP_ENDPOINT" in ENDPOINTS


def test_an_anonymous_server_starts_without_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    _, container = pod(*CASES["anonymous"])
    assert "env" not in container
    assert started(container["args"], monkeypatch).allow_anonymous


def test_the_plain_manifest_is_what_the_chart_renders() -> None:
    manifests = render(
        {
            "fullnameOverride": "streaming-asr",
            "apiKeys": {"existingSecret": "streaming-asr"},
            "model": "/models/Qwen3-ASR-1.7B",
            "models": {"hostPath": "/data/models"},
        }
    )
    chart, plain = one(manifests, "Deployment")["spec"], kubernetes("Deployment")["spec"]
    assert plain["template"]["spec"] == chart["template"]["spec"]
    assert plain["template"]["metadata"]["annotations"] == chart["template"]["metadata"]["annotations"]
    assert (plain["replicas"], plain["strategy"]) == (chart["replicas"], chart["strategy"])
    assert kubernetes("PersistentVolumeClaim")["spec"] == one(manifests, "PersistentVolumeClaim")["spec"]
    for kind in ("Deployment", "PersistentVolumeClaim", "Service"):
        check(kubernetes(kind), KUBERNETES[0])


def test_the_chart_has_the_version_of_the_server() -> None:
    from streaming_asr import __version__

    assert yaml.safe_load((CHART / "Chart.yaml").read_text())["version"] == __version__


def test_the_default_grace_fits_the_servers_own_default() -> None:
    spec, _ = pod(KEY)
    assert spec["terminationGracePeriodSeconds"] > ServerOptions().drain_timeout_s


def _commands() -> list[str]:
    """Helm's commands in the guide."""
    text = re.sub(r"\\\n\s*", "", (DOCKER.parent / "docs" / "kubernetes.md").read_text())
    return re.findall(r"^    (helm .*)$", text, re.MULTILINE)


@pytest.mark.parametrize("command", _commands())
def test_a_command_of_the_guide_renders(command: str) -> None:
    import helm_python

    helm, action, release, chart, *options = shlex.split(command)
    assert (helm, action in ("install", "upgrade"), release) == ("helm", True, "asr")
    assert DOCKER.parent / chart == CHART
    values: dict[str, Any] = dict(KEY) if "--reuse-values" in options else {}
    for option, value in itertools.pairwise(options):
        assert option in ("--set", "--reuse-values") or "=" in option
        if option == "--set":
            values = merged(values, helm_python.parse_set_string(value))
    for manifest in render(values):
        assert manifest["kind"]

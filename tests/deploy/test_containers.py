"""What the containers start is what the server understands, and they spoil nothing of their host and of their base."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from streaming_asr import cli
from streaming_asr.cli import main
from streaming_asr.recognizers.vllm import factory, versions
from streaming_asr.server import serve
from streaming_asr.server.options import ServerOptions
from tests.support.containers import DOCKER, compose, dockerfile, kubernetes


def started(command: Sequence[str], monkeypatch: pytest.MonkeyPatch, key: str | None = None) -> ServerOptions:
    """The options of the server that a command starts."""
    options: list[ServerOptions] = []

    async def fake(recognizer: object, given: ServerOptions) -> None:
        options.append(given)

    monkeypatch.setattr(serve, "serve", fake)
    # The folders of models are in the container.
    monkeypatch.setattr(factory, "_check_name", lambda model, engine: None)
    monkeypatch.delenv("STREAMING_ASR_API_KEYS", raising=False)
    if key is not None:
        monkeypatch.setenv("STREAMING_ASR_API_KEYS", key)
    assert command[0] == "streaming-asr"
    assert main(command[1:]) == 0
    return options[0]


@pytest.mark.parametrize("key", [None, "0123456789abcdef"])
def test_compose_starts_a_server_with_or_without_a_key(monkeypatch: pytest.MonkeyPatch, key: str | None) -> None:
    options = started(compose()["command"], monkeypatch, key)
    assert (options.host, options.port) == ("0.0.0.0", 8000)
    assert options.api_keys == (() if key is None else (key,))
    assert compose()["ports"] == ["127.0.0.1:8000:8000"], "without a key only this machine reaches it"


def test_compose_takes_a_model_and_more_options_from_its_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    command = compose(environment={"MODEL": "/models/a", "OPTIONS": "--max-sessions 5 --served-model-name qwen3-asr"})[
        "command"
    ]
    assert started(command, monkeypatch).max_sessions == 5
    assert command[2] == "/models/a"
    assert command[-2:] == ["--served-model-name", "qwen3-asr"]


def test_the_box_has_a_replica_for_each_of_its_npus(monkeypatch: pytest.MonkeyPatch) -> None:
    box = compose("compose.ascend-box.yaml")
    devices = [device for device in compose()["devices"] if "davinci0" in device] + box["devices"]
    assert devices == [f"/dev/davinci{number}" for number in range(8)]
    options: list[ServerOptions] = []

    async def fake(_: object, given: ServerOptions) -> int:
        options.append(given)
        return 0

    monkeypatch.setattr(cli, "_serve_by_replicas", fake)
    assert main(box["command"][1:]) == 0
    assert options[0].replicas == len(devices)
    without = [word for word in box["command"] if word not in ("--replicas", "8")]
    assert without == compose()["command"], "it differs by the replicas alone"


@pytest.mark.parametrize("name", ["Dockerfile.ascend", "Dockerfile.cuda", "Dockerfile.cpu"])
def test_the_command_of_each_image_starts_a_server_that_needs_only_a_key(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    image = dockerfile(name)
    assert started([*(image.entrypoint or []), *image.command], monkeypatch, "0123456789abcdef").host == "0.0.0.0"


def test_kubernetes_starts_a_server_with_its_key(monkeypatch: pytest.MonkeyPatch) -> None:
    pod = kubernetes("Deployment")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    options = started(container["args"], monkeypatch, "0123456789abcdef")
    assert (options.metrics_host, options.metrics_port) == ("0.0.0.0", 9090)
    assert options.drain_timeout_s < pod["terminationGracePeriodSeconds"]
    assert "command" not in container, "the image's entry point sets up CANN"
    claims = [volume["persistentVolumeClaim"] for volume in pod["volumes"] if "persistentVolumeClaim" in volume]
    assert claims == [{"claimName": kubernetes("PersistentVolumeClaim")["metadata"]["name"]}]


def test_the_ascend_image_keeps_its_bases_entry_point_and_threads() -> None:
    image = dockerfile("Dockerfile.ascend")
    assert image.base == f"quay.io/ascend/vllm-ascend:{versions.ASCEND_TAG}"
    assert image.entrypoint is None
    assert not {"OMP_NUM_THREADS", "LD_LIBRARY_PATH", "LD_PRELOAD", "PATH"} & set(image.environment)


def test_what_is_compiled_and_fetched_lasts() -> None:
    service = compose()
    caches = [mount for mount in service["volumes"] if mount["type"] == "volume"]
    assert [(mount["source"], mount["target"]) for mount in caches] == [("cache", "/root/.cache")]
    assert service["named_volumes"] == ["cache"]
    assert dockerfile("Dockerfile.ascend").environment["TRITON_CACHE_DIR"].startswith("/root/.cache/")
    mounts = kubernetes("Deployment")["spec"]["template"]["spec"]["containers"][0]["volumeMounts"]
    assert {"name": "cache", "mountPath": "/root/.cache"} in mounts


def test_no_folder_is_created_on_the_host() -> None:
    binds = [mount for mount in compose()["volumes"] if mount["type"] == "bind"]
    assert len(binds) == 6
    for mount in binds:
        assert mount["bind"] == {"create_host_path": False}, mount
        assert mount["read_only"], mount
        # The driver's are on every machine with an NPU; ours comes with the checkout.
        source = Path(mount["source"])
        assert source.parts[:2] in {("/", "usr"), ("/", "etc")} or (DOCKER / source / "README.md").exists()


def test_compose_passes_on_keys_hubs_and_devices() -> None:
    service = compose()
    assert {
        "STREAMING_ASR_API_KEYS",
        "VLLM_USE_MODELSCOPE",
        "HF_ENDPOINT",
        "HF_TOKEN",
        "HF_HUB_OFFLINE",
        "ASCEND_RT_VISIBLE_DEVICES",
    } <= set(service["environment"])
    assert service["init"] is True
    assert service["shm_size"] == "10g"
    assert service["devices"][0] == "/dev/davinci0"
    assert compose(environment={"NPU": "3"})["devices"][0] == "/dev/davinci3"
    stop = int(service["stop_grace_period"].removesuffix("s"))
    assert ServerOptions().drain_timeout_s < stop


def test_weights_are_not_part_of_the_image() -> None:
    assert "docker/models" in (DOCKER.parent / ".dockerignore").read_text().split()

"""The files under `docker/`, read as Docker, Compose and Kubernetes read them."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "docker"

_VARIABLE = re.compile(r"\$\{(\w+)(?::-([^}]*))?\}")


def compose(name: str = "compose.ascend.yaml", environment: Mapping[str, str] | None = None) -> dict[str, Any]:
    """A Compose file's one service, with its variables replaced. Commands are split into words."""
    given = environment or {}
    text = _VARIABLE.sub(lambda found: given.get(found[1]) or found[2] or "", (DOCKER / name).read_text())
    loaded = yaml.safe_load(text)
    (service,) = loaded["services"].values()
    service["command"] = shlex.split(service["command"])
    service["named_volumes"] = list(loaded.get("volumes", {}))
    return dict(service)


@dataclass(frozen=True, slots=True)
class Dockerfile:
    """The instructions that say how its image starts."""

    base: str
    command: list[str]
    entrypoint: list[str] | None = None
    user: str = "root"
    environment: dict[str, str] = field(default_factory=dict)


def dockerfile(name: str) -> Dockerfile:
    """One of the Dockerfiles; its ARGs have their defaults."""
    lines = re.sub(r"\\\n", " ", (DOCKER / name).read_text()).splitlines()
    instructions = [line.split(None, 1) for line in lines if line.strip() and not line.startswith("#")]
    arguments = {found[1]: found[2] for found in re.finditer(r"^ARG (\w+)=(.*)$", "\n".join(lines), re.MULTILINE)}
    last = {word: rest for word, rest in instructions}
    return Dockerfile(
        base=re.sub(r"\$\{(\w+)\}", lambda found: arguments[found[1]], last["FROM"]),
        command=json.loads(last["CMD"]),
        entrypoint=json.loads(last["ENTRYPOINT"]) if "ENTRYPOINT" in last else None,
        user=last.get("USER", "root"),
        environment=dict(word.split("=", 1) for word in shlex.split(last["ENV"])),
    )


def kubernetes(kind: str) -> dict[str, Any]:
    """The object of a kind in the manifest."""
    documents = yaml.safe_load_all((DOCKER / "kubernetes.yaml").read_text())
    return next(document for document in documents if document["kind"] == kind)

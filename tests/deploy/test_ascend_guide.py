"""What the guide for Ascend says to type can be typed, and the variables that it names are read."""

from __future__ import annotations

import importlib.util
import itertools
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from streaming_asr import cli

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "ascend.md").read_text()
COMPOSE = "".join((ROOT / "docker" / name).read_text() for name in ("compose.ascend.yaml", "compose.ascend-box.yaml"))


def commands() -> list[str]:
    """The indented lines of the guide, those that are continued joined; also of its lists."""
    lines = [line for line in GUIDE.splitlines() if line.startswith("    ")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [line.strip() for line in re.sub(r"\n\s+\"content\"", ' "content"', joined).splitlines()]


@pytest.mark.parametrize("line", commands())
def test_a_command_of_the_guide_can_be_typed(line: str) -> None:
    assert subprocess.run(["bash", "-n", "-c", line], capture_output=True).returncode == 0
    words = shlex.split(line)
    while re.fullmatch(r"[A-Z_]+=\S*", words[0]):
        assert re.search(rf"\b{words[0].split('=')[0]}\b", COMPOSE) or words[0] == "VLLM_TARGET_DEVICE=empty"
        del words[0]
    for option, path in itertools.pairwise(words):
        if option == "-f" and path.startswith("docker/"):
            assert (ROOT / path).is_file()
    match words:
        case ["streaming-asr", *arguments]:
            cli._parser().parse_known_args(arguments)
        case ["python", "-m", module, *_]:
            assert importlib.util.find_spec(module) is not None
        case ["make", target]:
            assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
        case ["docker", "compose", *_] | ["docker", "save" | "load", *_] | ["curl", *_] | ["pip", "install", *_]:
            pass
        case ["git", "clone", "--depth", "1", "--branch", _, "https://github.com/vllm-project/vllm"]:
            pass
        case _:
            pytest.fail(f"not a command that is known here: {line}")


def test_compose_reads_every_variable_of_the_guides_table() -> None:
    table = GUIDE[GUIDE.index("| variable | |\n") : GUIDE.index("Nothing is created on the host")]
    names = re.findall(r"`([A-Z_]+)(?:=[^`]*)?`", "\n".join(row.split("|")[1] for row in table.splitlines() if row))
    assert len(names) > 12
    for name in names:
        assert re.search(rf"\$\{{{name}\b|^      - {name}$", COMPOSE, re.MULTILINE), name


def test_commands_within_sentences_name_files_that_are_there() -> None:
    for path in re.findall(r"`(?:[^`]*\s)?((?:docker|tests|docs)/[\w./-]+)[^`]*`", GUIDE):
        assert (ROOT / path).exists() or path == "docker/.env", path

"""The documentation as text: its lines are short, its links lead somewhere, and its commands exist."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from streaming_asr.cli import main

ROOT = Path(__file__).parents[1]
COLUMNS = 120
PATTERNS = ("*.md", "docs/**/*.md", "streaming_asr/**/*.md", "benchmarks/*.md", "clients/*.md", "tests/*/README.md")
PAGES = sorted(path.relative_to(ROOT).as_posix() for pattern in PATTERNS for path in ROOT.glob(pattern))
VLLM_OPTIONS = {
    *("--tensor-parallel-size", "--max-model-len", "--gpu-memory-utilization", "--enforce-eager", "--dtype"),
    *("--additional-config", "--compilation-config"),
}
"""Options of vLLM's engine that the pages use; `make check` has no vLLM to ask."""
FLAG = re.compile(r"(?<![\w-])--[a-z][a-z-]*")


def _anchors(page: Path) -> Iterator[str]:
    """The names that GitHub gives to a page's headings."""
    for heading in re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE):
        yield re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES)
def test_no_line_must_be_scrolled(page: str) -> None:
    lines = (ROOT / page).read_text(encoding="utf-8").splitlines()
    long = [number for number, line in enumerate(lines, 1) if len(line) > COLUMNS]
    assert not long, f"lines of more than {COLUMNS} columns"


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    text = re.sub(r"^    .*$|`[^`\n]*`", "", (ROOT / page).read_text(encoding="utf-8"), flags=re.MULTILINE)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in target or target.startswith("mailto:"):
            continue
        path, _, anchor = target.partition("#")
        linked = (ROOT / page).parent / path if path else ROOT / page
        assert linked.exists(), target
        if anchor and linked.suffix == ".md":
            assert anchor in _anchors(linked), target


def _commands(page: str) -> Iterator[str]:
    """What the page has as code: inline, and each line of a block with its continuation."""
    text = re.sub(r"\\\n\s*", "", (ROOT / page).read_text(encoding="utf-8"))
    yield from re.findall(r"(?<!`)`([^`\n]+)`", text)
    yield from (line.split(" #")[0].strip() for line in re.findall(r"^    .+$", text, re.MULTILINE))


def _flags_of(command: str, capsys: pytest.CaptureFixture[str]) -> set[str]:
    with pytest.raises(SystemExit):
        main([command, "--help"])
    return set(FLAG.findall(capsys.readouterr().out))


def _sources_of(module: str) -> str:
    """The source of a command and of what it can take its options from."""
    top, *rest = module.split(".")
    folder = ROOT.joinpath(top, *rest)
    files = [*folder.glob("*.py")] if folder.is_dir() else [folder.with_suffix(".py")]
    files += [*(ROOT / "clients").glob("*.py")] if top == "clients" else [*(ROOT / "benchmarks/common").glob("*.py")]
    return "".join(file.read_text(encoding="utf-8") for file in files)


@pytest.mark.parametrize("page", PAGES)
def test_modules_that_are_to_be_run_exist_and_have_the_options(page: str) -> None:
    for command in _commands(page):
        for module, arguments in re.findall(r"python -m ([\w.]+)([^|;&]*)", command):
            if module.split(".")[0] not in ("streaming_asr", "clients", "benchmarks", "tests"):
                continue
            path = ROOT.joinpath(*module.split("."))
            assert path.with_suffix(".py").exists() or (path / "__main__.py").exists(), module
            sources = _sources_of(module)
            # What follows are options of the server that a benchmark starts.
            own = arguments.partition(" -- ")[0]
            unknown = [flag for flag in FLAG.findall(own) if f'"{flag}"' not in sources]
            # Options of pip, which `setup_cpu` passes on.
            assert not unknown or module == "streaming_asr.setup_cpu", command


@pytest.mark.parametrize("page", PAGES)
def test_commands_of_streaming_asr_exist_and_have_the_options(page: str, capsys: pytest.CaptureFixture[str]) -> None:
    known = {command: _flags_of(command, capsys) for command in ("serve", "transcribe", "doctor")}
    for code in _commands(page):
        for command, arguments in re.findall(r"(?:^|/)streaming-asr ([a-z]+)([^|;&]*)", code):
            assert command in known, code
            assert set(FLAG.findall(arguments)) <= known[command] | VLLM_OPTIONS, code


def test_options_that_operators_read_of_exist(capsys: pytest.CaptureFixture[str]) -> None:
    flags = {flag for code in _commands("docs/operations.md") for flag in FLAG.findall(code)}
    assert flags <= _flags_of("serve", capsys)

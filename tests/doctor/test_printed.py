"""What the doctor prints."""

from __future__ import annotations

import json

import pytest

from streaming_asr.doctor import main, what_to_install
from streaming_asr.doctor.accelerators import START_CONTAINER
from streaming_asr.doctor.checks import is_of
from tests.support.fake_machine import CANN, LOCAL, FakeMachine, ascend_machine, cuda_machine


def test_json_report_holds_every_check(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--json"], ascend_machine()) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["start"] == "streaming-asr serve Qwen/Qwen3-ASR-1.7B"
    ascend = report["uses"][0]
    assert ascend["standing"] == "ready"
    assert {"name": "CANN", "state": "ok", "detail": f"9.1.0 in {CANN}", "fix": None} in ascend["needs"]


def test_commands_in_the_table_are_whole_and_literal(capsys: pytest.CaptureFixture[str]) -> None:
    main([], FakeMachine({}))
    assert "pip install 'streaming-asr[cpu]'\n" in _unpadded(capsys.readouterr().out), "square brackets are no markup"


def _unpadded(table: str) -> str:
    return "\n".join(line.rstrip() for line in table.splitlines())


def test_what_to_install_names_each_hardware_and_marks_the_one_here() -> None:
    message = what_to_install("Qwen/Qwen3-ASR-1.7B", cuda_machine(LOCAL))
    assert message.startswith("Qwen/Qwen3-ASR-1.7B runs under vLLM, which is not installed.")
    for part in (
        f"MODEL=Qwen/Qwen3-ASR-1.7B {START_CONTAINER}",
        "streaming-asr[cuda]",
        "streaming-asr[cpu]",
        "NVIDIA GPU (here: 2 x NVIDIA L20",
    ):
        assert part in message


def test_what_to_install_does_not_send_whisper_to_ascend() -> None:
    assert "Ascend" not in what_to_install("openai/whisper-large-v3", FakeMachine(LOCAL))


def test_versions_are_compared_by_their_parts() -> None:
    assert is_of("0.23.0+empty", "0.23")
    assert is_of("2.10.0.post4", "2.10.0")
    assert not is_of("0.230.1", "0.23")

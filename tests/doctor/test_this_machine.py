"""The doctor on the machine the tests run on."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import pytest

from streaming_asr.doctor import machine as machine_module
from streaming_asr.doctor import main
from streaming_asr.doctor.machine import Machine


@pytest.mark.full
def test_this_machine_runs_the_embedded_recognizer(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert next(use for use in report["uses"] if use["name"] == "Whisper in this process")["standing"] == "ready"
    assert report["machine"][1]["detail"].split()[0].isdigit()


def test_command_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine_module, "COMMAND_TIMEOUT_S", 0.2)
    began = time.monotonic()
    ran = Machine().run(sys.executable, "-c", "import time; time.sleep(60)")
    assert ran is not None
    assert ran.timed_out
    assert time.monotonic() - began < 30


def test_absent_things_are_none_not_errors(tmp_path: Path) -> None:
    machine = Machine()
    assert machine.run("no-such-command-anywhere") is None
    assert machine.version("no-such-distribution") is None
    assert machine.package_file("no_such_package", "x") is None
    assert machine.read(tmp_path / "none") is None
    assert machine.glob(f"{tmp_path}/*/none") == []


def test_library_that_ends_its_process_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "unfit.py").write_text("import os, signal; os.kill(os.getpid(), signal.SIGILL)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert Machine().import_error("unfit") == "ended by signal 4"
    assert "no_such_module" in (Machine().import_error("no_such_module") or "")

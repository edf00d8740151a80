"""What a child may use, how it ends, and that nothing of it stays."""

from __future__ import annotations

import asyncio
import os
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from streaming_asr.core.events import SessionWarning
from streaming_asr.engine.media import decoders as decoders_module
from streaming_asr.engine.media.decoders import Decoders, MediaRefused, MediaTooLong, Recording
from streaming_asr.engine.media.limits import MAX_FILES, OOM_SCORE
from tests.support.media_files import RATE, clip, wav

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="these limits are Linux's")


@pytest.fixture
def hour(tmp_path: Path) -> Path:
    """An hour of silence, more than a pipe takes."""
    path = tmp_path / "hour.wav"
    path.write_bytes(wav(np.zeros(3600 * 1_000, np.float32), rate=1_000))
    return path


def _pid(recording: Recording) -> int:
    return recording.pid


async def _first(recording: Recording) -> None:
    async for _ in recording.read():
        return


async def _all(recording: Recording) -> int:
    samples = 0
    async for item in recording.read():
        samples += 0 if isinstance(item, SessionWarning) else len(item)
    return samples


def _wait_until(fulfilled: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not fulfilled():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_the_limits_hold_before_a_recording_is_opened(hour: Path) -> None:
    async def scenario() -> None:
        decoders = Decoders(86_400.0, background=True)
        with hour.open("rb") as file:
            async with decoders.open(file.fileno()) as recording:
                await _first(recording)
                child = psutil.Process(_pid(recording))
                assert child.rlimit(psutil.RLIMIT_NOFILE) == (MAX_FILES, MAX_FILES)
                assert child.rlimit(psutil.RLIMIT_FSIZE) == (0, 0)
                assert child.rlimit(psutil.RLIMIT_CORE) == (0, 0)
                assert child.rlimit(psutil.RLIMIT_CPU)[0] < 200
                assert child.rlimit(psutil.RLIMIT_AS)[0] < 2 * 2**30
                assert int(Path(f"/proc/{child.pid}/oom_score_adj").read_text()) == OOM_SCORE
                assert child.nice() > psutil.Process().nice()
                assert "NoNewPrivs:\t1" in Path(f"/proc/{child.pid}/status").read_text()
                assert child.num_fds() <= 6
                assert not {"HOME", "STREAMING_ASR_API_KEYS"} & child.environ().keys()

    asyncio.run(scenario())


@pytest.mark.parametrize(("limit", "size"), [("MEMORY_BYTES", 2**31), ("LIVE_MEMORY_BYTES", 2**29)])
def test_memory_files_and_writing_are_bounded(tmp_path: Path, limit: str, size: int) -> None:
    script = f"""
import os
from streaming_asr.engine.media import limits
limits.limit_process(60, limits.{limit})
for name, attempt in {{
    "memory": lambda: bytearray({size}),
    "files": lambda: [os.open("/dev/null", os.O_RDONLY) for _ in range(100)],
    "writing": lambda: os.write(os.open({str(tmp_path / "new")!r}, os.O_WRONLY | os.O_CREAT), b"x"),
}}.items():
    try:
        attempt()
        print(name, "allowed")
    except (MemoryError, OSError) as error:
        if name == "files":
            os.closerange(3, 100)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_pipe_holds_back_the_child(hour: Path) -> None:
    async def scenario() -> None:
        with hour.open("rb") as file:
            async with Decoders(86_400.0).open(file.fileno()) as recording:
                await _first(recording)
                child = psutil.Process(_pid(recording))
                await asyncio.to_thread(_wait_until, lambda: child.status() == psutil.STATUS_SLEEPING)
                assert file.tell() < hour.stat().st_size / 2
                assert await _all(recording) > 3590 * RATE

    asyncio.run(asyncio.wait_for(scenario(), 60))


def test_a_recording_that_is_given_up_ends_its_child_at_once(hour: Path) -> None:
    async def scenario() -> None:
        pids: list[int] = []
        started = asyncio.Event()

        async def decode() -> None:
            with hour.open("rb") as file:
                async with Decoders(86_400.0).open(file.fileno()) as recording:
                    pids.append(_pid(recording))
                    os.kill(_pid(recording), signal.SIGSTOP)
                    started.set()
                    await _all(recording)

        task = asyncio.create_task(decode())
        await started.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert not psutil.pid_exists(pids[0])

    asyncio.run(asyncio.wait_for(scenario(), 60))


@pytest.mark.parametrize("unused", [True, False], ids=["spare", "at work"])
def test_children_end_with_their_parent(hour: Path, unused: bool) -> None:
    script = f"""
import asyncio, os
from streaming_asr.engine.media.decoders import Decoders
async def main():
    decoders = Decoders(86400.0)
    if {unused}:
        decoders.prepare()
        child = await decoders._spare
        print(child.pid, flush=True)
        await asyncio.sleep(60)
    async with decoders.open(os.open({str(hour)!r}, os.O_RDONLY)) as recording:
        async for _ in recording.read():
            print(recording.pid, flush=True)
            await asyncio.sleep(60)
asyncio.run(main())
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
        child.wait(60)


def test_a_decoder_that_hangs_is_ended(hour: Path) -> None:
    async def scenario() -> None:
        with hour.open("rb") as file:
            async with Decoders(86_400.0).open(file.fileno(), waits_s=0.5) as recording:
                os.kill(_pid(recording), signal.SIGSTOP)
                with pytest.raises(MediaRefused, match="takes too long"):
                    await _all(recording)

    asyncio.run(scenario())


def test_a_decoder_that_crashes_costs_its_recording(hour: Path) -> None:
    async def scenario() -> None:
        with hour.open("rb") as file:
            async with Decoders(86_400.0).open(file.fileno()) as recording:
                await _first(recording)
                os.kill(_pid(recording), signal.SIGSEGV)
                with pytest.raises(MediaRefused, match="its decoder failed"):
                    await _all(recording)

    asyncio.run(scenario())


def _element(name: str, content: bytes) -> bytes:
    """An element of Matroska; its name in hexadecimal."""
    return bytes.fromhex(name) + b"\x01" + len(content).to_bytes(7, "big") + content


def _matroska_of_tiny_packets(count: int) -> bytes:
    """A packet of audio, then packets of text of one byte each."""
    pcm = _element("b5", struct.pack(">f", 16_000)) + _element("9f", b"\1") + _element("6264", b"\x10")
    audio = _element("d7", b"\1") + _element("83", b"\2") + _element("86", b"A_PCM/INT/LIT") + _element("e1", pcm)
    text = _element("d7", b"\2") + _element("83", b"\x11") + _element("86", b"S_TEXT/UTF8")
    tracks = _element("1654ae6b", _element("ae", audio) + _element("ae", text))
    packets = _element("a3", b"\x81\0\0\x80" + bytes(3200)) + count * b"\xa3\x85\x82\0\0\x80x"
    cluster = _element("1f43b675", _element("e7", b"\0") + packets)
    return _element("1a45dfa3", _element("4282", b"matroska")) + _element("18538067", tracks + cluster)


@pytest.mark.full
def test_a_recording_that_takes_too_much_processor_time_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoders_module, "CPU_S", 1)
    monkeypatch.setattr(decoders_module, "CPU_S_PER_MB", 0)
    path = tmp_path / "tiny.mkv"
    path.write_bytes(_matroska_of_tiny_packets(3_000_000))

    async def scenario() -> None:
        with path.open("rb") as file:
            async with Decoders(86_400.0).open(file.fileno()) as recording:
                with pytest.raises(MediaRefused, match="takes too long"):
                    await _all(recording)

    asyncio.run(scenario())


@pytest.mark.full
def test_more_audio_than_the_size_of_a_recording_can_hold_is_refused(
    hour: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoders_module, "EXPANDED_S", 60)
    monkeypatch.setattr(decoders_module, "MIN_BITS_PER_S", 20_000)

    async def scenario() -> None:
        with hour.open("rb") as file:
            async with Decoders(86_400.0).open(file.fileno()) as recording:
                with pytest.raises(MediaTooLong, match="which no recording is"):
                    await _all(recording)

    asyncio.run(scenario())


def test_a_recording_is_handed_to_a_spare_child_that_has_loaded_its_libraries(hour: Path) -> None:
    async def scenario() -> None:
        decoders = Decoders(86_400.0)
        decoders.prepare()
        assert decoders._spare is not None
        spare = (await decoders._spare).pid
        with hour.open("rb") as file:
            async with decoders.open(file.fileno()) as recording:
                assert _pid(recording) == spare
                await _first(recording)
        assert decoders._spare is None

    asyncio.run(scenario())


def test_a_spare_child_that_was_killed_is_replaced(hour: Path) -> None:
    async def scenario() -> None:
        decoders = Decoders(86_400.0)
        decoders.prepare()
        assert decoders._spare is not None
        child = await decoders._spare
        child.kill()
        await asyncio.to_thread(child._process.wait)
        with hour.open("rb") as file:
            async with decoders.open(file.fileno()) as recording:
                await _first(recording)

    asyncio.run(scenario())


def test_a_spare_child_that_is_not_needed_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoders_module, "SPARE_S", 0.1)

    async def scenario() -> None:
        decoders = Decoders(86_400.0)
        decoders.prepare()
        assert decoders._spare is not None
        spare = psutil.Process((await decoders._spare).pid)
        await asyncio.to_thread(_wait_until, lambda: not spare.is_running())

    asyncio.run(scenario())


def test_a_child_that_nobody_waits_for_any_more_is_ended_once_it_has_started(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[bytes]] = []
    may_start = threading.Event()
    start = decoders_module._start_process

    def start_late(*arguments: Any) -> Any:
        assert may_start.wait(30)
        result = start(*arguments)
        started.append(result[0])
        return result

    monkeypatch.setattr(decoders_module, "_start_process", start_late)

    async def scenario() -> None:
        decoders = Decoders(86_400.0)
        decoders.prepare()
        await asyncio.sleep(0)
        await decoders.close()
        may_start.set()
        await asyncio.to_thread(_wait_until, lambda: bool(started) and started[0].returncode is not None)

    asyncio.run(asyncio.wait_for(scenario(), 60))


def test_the_event_loop_goes_on_while_a_child_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    may_start = threading.Event()
    start = decoders_module._start_process

    def start_late(*arguments: Any) -> Any:
        assert may_start.wait(30)
        return start(*arguments)

    monkeypatch.setattr(decoders_module, "_start_process", start_late)

    async def scenario() -> None:
        decoders = Decoders(86_400.0)
        decoders.prepare()
        await asyncio.sleep(0.01)
        may_start.set()
        assert decoders._spare is not None
        assert (await decoders._spare).pid
        await decoders.close()

    asyncio.run(asyncio.wait_for(scenario(), 60))


def test_where_descriptors_can_not_be_handed_over_a_recording_is_standard_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoders_module, "_CAN_HAND_OVER", False)
    (tmp_path / "a.wav").write_bytes(wav(clip("a")))

    async def scenario() -> None:
        decoders = Decoders(86_400.0)
        decoders.prepare()
        with (tmp_path / "a.wav").open("rb") as file:
            async with decoders.open(file.fileno()) as recording:
                assert await _all(recording) == len(clip("a"))

    asyncio.run(scenario())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_all_processes_does_not_end_a_child_that_starts(number: int, tmp_path: Path) -> None:
    """As Ctrl-C in a terminal sends it; before, it ended a child that could not ignore it yet."""
    path = tmp_path / "a.wav"
    path.write_bytes(wav(clip("a")))

    async def scenario() -> None:
        decoders = Decoders(86_400.0)
        with path.open("rb") as file:
            async with decoders.open(file.fileno()) as recording:
                os.kill(recording.pid, number)
                assert await _all(recording) > 0
        await decoders.close()
        assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == set()

    asyncio.run(asyncio.wait_for(scenario(), 60))

"""The service without its sockets: it takes work while it may, and leaves the process as it is."""

from __future__ import annotations

import asyncio
import gc
from dataclasses import replace
from pathlib import Path

import pytest
import threadpoolctl

from streaming_asr.core.annotator import Annotator
from streaming_asr.core.options import SessionOptions
from streaming_asr.core.session import Session
from streaming_asr.protocols.failures import FailureKind
from streaming_asr.server import memory
from streaming_asr.server.options import ServerOptions
from streaming_asr.server.service import Service
from streaming_asr.server.session_port import Refused
from streaming_asr.voice.silero import network
from tests.support.fake_recognizer import FakeRecognizer
from tests.support.fakes import CAPABILITIES


def _open(service: Service) -> None:
    session = service.open(SessionOptions(vad="webrtc"), lambda events: None, lambda error: None)
    service.remove(session)


def test_sessions_are_refused_before_the_start_and_while_draining() -> None:
    async def run() -> None:
        service = Service(FakeRecognizer(), ServerOptions())
        with pytest.raises(Refused) as loading:
            _open(service)
        await service.start()
        assert (service.ready, service.status) == (True, "ready")
        _open(service)
        service.drain()
        assert (service.ready, service.status) == (False, "draining")
        with pytest.raises(Refused) as draining:
            _open(service)
        await service.close()
        assert loading.value.failure.kind is FailureKind.NOT_READY
        assert draining.value.failure.kind is FailureKind.RESTARTING

    asyncio.run(run())


def test_the_engines_own_names_of_the_model_are_accepted() -> None:
    async def run() -> None:
        class Named(FakeRecognizer):
            capabilities = replace(CAPABILITIES, aliases=("qwen3-asr",))

        service = Service(Named(), ServerOptions(model_aliases=("mine",)))
        await service.start()
        assert service.models.serves("mine")
        assert service.models.serves("qwen3-asr")
        assert not service.models.serves("another")
        await service.close()

    asyncio.run(run())


def test_a_service_and_its_voice_detection_change_no_setting_of_the_process() -> None:
    async def run() -> None:
        service = Service(FakeRecognizer(), ServerOptions())
        await service.start()
        network.cache_clear()
        network()
        await service.close()

    gc.unfreeze()  # What an earlier test froze may be freed meanwhile.
    with threadpoolctl.threadpool_limits(2, user_api="blas"):
        before = gc.get_threshold(), gc.get_freeze_count(), threadpoolctl.threadpool_info()
        asyncio.run(run())
        assert (gc.get_threshold(), gc.get_freeze_count(), threadpoolctl.threadpool_info()) == before


def test_sessions_are_refused_while_the_process_has_taken_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    resident = 0
    trimmed: list[bool] = []
    monkeypatch.setattr(memory, "resident_bytes", lambda: resident)
    monkeypatch.setattr(memory, "trim", lambda: trimmed.append(True))

    def open_one(service: Service) -> Session:
        return service.open(SessionOptions(vad="webrtc"), lambda events: None, lambda error: None)

    async def run() -> None:
        nonlocal resident
        service = Service(FakeRecognizer(), ServerOptions(max_memory_mib=100))
        await service.start()
        first = open_one(service)
        resident = 101 << 20
        for _ in range(2):
            with pytest.raises(Refused, match="101 MiB of memory, and 100 MiB") as refused:
                open_one(service)
            assert refused.value.failure.kind is FailureKind.BUSY
        assert trimmed == [True], "not for each session"
        service.remove(first)
        service.remove(open_one(service))
        resident = 99 << 20
        first, second = open_one(service), open_one(service)
        service.remove(first)
        service.remove(second)
        await service.close()

    asyncio.run(run())


def test_the_memory_of_a_container_is_the_bound_where_it_is_less_than_the_machine_s(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    machine = memory.default_limit()
    assert machine is not None
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(memory, "CONTAINER_LIMITS", (str(limit), str(tmp_path / "missing")))
    limit.write_text("100000000\n")
    assert memory.default_limit() == 90_000_000
    limit.write_text("max\n")
    assert memory.default_limit() >= machine
    assert 1 << 20 < memory.resident_bytes() < 1 << 40


def test_voice_detection_needs_no_file_once_the_server_has_started(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_more(*_: object, **__: object) -> None:
        raise OSError(24, "Too many open files")

    async def run() -> None:
        network.cache_clear()
        service = Service(FakeRecognizer(), ServerOptions())
        await service.start()
        monkeypatch.setattr("numpy.load", no_more)
        session = service.open(SessionOptions(), lambda events: None, lambda error: None)
        session.receive(bytes(32_000), 0.0)
        service.remove(session)
        await service.close()

    asyncio.run(run())


def test_what_the_default_annotators_need_is_loaded_before_the_server_is_ready() -> None:
    async def scenario() -> None:
        service = Service(FakeRecognizer(), ServerOptions())
        warmed: list[bool] = []

        class Slow(Annotator):
            name = "slow"

            def warm_up(self) -> None:
                warmed.append(service.ready)

        service.make_annotators = lambda options, capabilities: [Slow()]  # type: ignore[assignment]
        await service.start()
        assert warmed == [False]
        assert service.ready
        await service.close()

    asyncio.run(scenario())

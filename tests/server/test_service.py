"""The service without its sockets: it takes work while it may, and leaves the process as it is."""

from __future__ import annotations

import asyncio
import gc

import pytest
import threadpoolctl

from streaming_asr.core.options import SessionOptions
from streaming_asr.protocols.failures import FailureKind
from streaming_asr.server.options import ServerOptions
from streaming_asr.server.service import Service
from streaming_asr.server.sessions import Refused
from streaming_asr.voice.silero import network
from tests.support.fake_recognizer import FakeRecognizer


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

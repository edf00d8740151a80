"""A whole application in this process, on a real port."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import uvicorn

from streaming_asr.server.app import Application
from streaming_asr.server.http_bounds import bounded_http
from streaming_asr.server.live.websocket import DirectWebSocket
from streaming_asr.server.serve import HARD_MESSAGE_FACTOR


@contextlib.asynccontextmanager
async def listening(config: uvicorn.Config) -> AsyncIterator[int]:
    """Run a server of uvicorn's; gives its port."""
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 - it has no event for that
        await asyncio.sleep(0.01)
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        await task


@contextlib.asynccontextmanager
async def serving(application: Application) -> AsyncIterator[int]:
    """Serve, with the recognizer started; gives the port."""
    await application.service.start()
    http = bounded_http(application.service.options.max_http_connections)
    config = uvicorn.Config(
        application.asgi,
        port=0,
        http=http,
        ws=DirectWebSocket,
        ws_max_size=application.service.options.max_message_bytes * HARD_MESSAGE_FACTOR,
        ws_per_message_deflate=False,
        lifespan="off",
        log_config=None,
    )
    try:
        async with listening(config) as port:
            yield port
    finally:
        await application.service.close()

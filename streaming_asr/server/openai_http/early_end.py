"""What ends a request before its answer: its client disconnects, or the server ends it.

Each request has a future, `request.state.end`, whose exception ends it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from starlette.requests import Request

from streaming_asr.core.events import Event

T = TypeVar("T")


class ClientGone(Exception):
    """The client has disconnected."""


@contextmanager
def watched(request: Request) -> Iterator[None]:
    """End a request when its client disconnects, within the context. Its body has been read."""
    watching = asyncio.create_task(_watch(request, request.state.end), name="watch the client of a recording")
    try:
        yield
    finally:
        watching.cancel()


async def _watch(request: Request, end: asyncio.Future[None]) -> None:
    """End a recording when its client disconnects; the request has been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
    if not end.done():
        end.set_exception(ClientGone())


async def until(end: asyncio.Future[None], events: AsyncGenerator[Event, None]) -> AsyncIterator[Event]:
    """The events, until `end` has an exception, which is raised."""
    while (event := await unless(end, _next(events))) is not None:
        yield event


async def _next(events: AsyncIterator[Event]) -> Event | None:
    async for event in events:
        return event
    return None


async def unless(end: asyncio.Future[None], work: Awaitable[T]) -> T:
    """The result of the work; if `end` has an exception first, the work is cancelled and the exception raised."""
    task: asyncio.Future[T] = asyncio.ensure_future(work)
    try:
        await asyncio.wait((task, end), return_when=asyncio.FIRST_COMPLETED)
    finally:
        if not task.done():
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
    if end.done():
        end.result()
    return task.result()

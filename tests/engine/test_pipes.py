"""Pipes of the event loop: closing one closes nothing of another thread."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading

import uvloop

from streaming_asr.engine.media.pipes import for_event_loop


def test_closing_a_pipe_closes_no_file_that_another_thread_has_opened_meanwhile() -> None:
    done, faults = threading.Event(), list[OSError]()

    def open_others() -> None:
        while not done.is_set():
            for descriptor in os.pipe():
                try:
                    os.close(descriptor)
                except OSError as error:
                    faults.append(error)

    async def script() -> None:
        for _ in range(3000):
            reading, writing = os.pipe()
            loop = asyncio.get_running_loop()
            transport, _ = await loop.connect_read_pipe(asyncio.Protocol, for_event_loop(reading, "rb"))
            try:
                os.close(writing)
            except OSError as error:
                faults.append(error)
            transport.close()
            await asyncio.sleep(0)

    threads = [threading.Thread(target=open_others, daemon=True) for _ in range(3)]
    for thread in threads:
        thread.start()
    with contextlib.ExitStack() as stack:
        stack.callback(done.set)
        uvloop.run(script())
    for thread in threads:
        thread.join()
    assert not faults

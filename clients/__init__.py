"""Clients of the native protocol, and the library they share.

    from clients.events import Final
    from clients.reconnect import open_lasting_stream

    async with open_lasting_stream("ws://localhost:8000/v1/stream", {"sample_rate": 16_000}, live=True) as stream:
        await stream.send(pcm)       # in one task, as it is captured
        async for event in stream:   # in another
            ...

`clients.stream.open_stream` is one connection; `clients.reconnect.open_lasting_stream` continues across restarts of the
server. `clients.events` has the events of both, `clients.errors` the exceptions.
"""

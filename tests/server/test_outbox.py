"""Messages to one client: an unsent partial makes room for the next, finals stay, and there is a bound."""

from __future__ import annotations

import asyncio

import pytest

from streaming_asr.protocols.base import Close, Send
from streaming_asr.server.live.outbox import Outbox, SlowReader


def _taken(outbox: Outbox) -> list[Send | Close]:
    async def take() -> list[Send | Close]:
        return [await outbox.get() for _ in range(len(outbox))]

    return asyncio.run(take())


def test_a_partial_replaces_the_unsent_one_of_its_utterance_and_goes_to_the_end() -> None:
    outbox = Outbox(10, 1000)
    first, other, final, latest = Send("1", 1), Send("2", 2), Send("a final"), Send("1 again", 1)
    for message in (first, other, final, latest):
        outbox.put(message)
    assert _taken(outbox) == [other, final, latest]


def test_a_partial_that_has_been_taken_is_not_replaced() -> None:
    async def script() -> None:
        outbox = Outbox(10, 1000)
        outbox.put(Send("1", 1))
        assert await outbox.get() == Send("1", 1)
        outbox.put(Send("1 again", 1))
        assert await outbox.get() == Send("1 again", 1)

    asyncio.run(script())


def test_a_client_that_reads_nothing_reaches_the_bound_by_finals_and_not_by_partials() -> None:
    outbox = Outbox(3, 1000)
    finals = [Send("a"), Send("b")]
    for final in finals:
        outbox.put(final)
    for number in range(100):
        outbox.put(Send(str(number), 7))
    with pytest.raises(SlowReader):
        outbox.put(Send("c"))
    assert _taken(outbox) == [*finals, Send("99", 7)]


def test_a_close_fits_in_a_full_outbox_and_nothing_follows_it() -> None:
    outbox = Outbox(1, 1000)
    outbox.put(Send("a"))
    outbox.put(Close())
    outbox.put(Send("b"))
    outbox.put(Close())
    assert _taken(outbox) == [Send("a"), Close()]


def test_a_cleared_outbox_takes_what_comes_next() -> None:
    outbox = Outbox(2, 1000)
    outbox.put(Send("a"))
    outbox.put(Send("b"))
    outbox.clear()
    outbox.put(Send("an error"))
    assert _taken(outbox) == [Send("an error")]


def test_a_reader_that_waits_gets_the_next_message() -> None:
    async def script() -> None:
        outbox = Outbox(2, 1000)
        waiting = asyncio.create_task(outbox.get())
        await asyncio.sleep(0)
        outbox.put(Send("a"))
        assert await asyncio.wait_for(waiting, 5) == Send("a")
        assert len(outbox) == 0

    asyncio.run(script())


def test_messages_are_bounded_in_bytes_too_and_those_that_were_taken_or_replaced_do_not_count() -> None:
    async def script() -> None:
        outbox = Outbox(1000, 100)
        for _ in range(10):
            outbox.put(Send("a" * 60))
            outbox.put(Send("p" * 30, 1))
            outbox.put(Send("q" * 40, 1))
            with pytest.raises(SlowReader):
                outbox.put(Send(b"b"))
            assert [await outbox.get(), await outbox.get()] == [Send("a" * 60), Send("q" * 40, 1)]

    asyncio.run(script())


def test_a_single_message_may_be_larger_than_the_bound() -> None:
    outbox = Outbox(10, 100)
    outbox.put(Send("ü" * 90))
    with pytest.raises(SlowReader):
        outbox.put(Send("a"))

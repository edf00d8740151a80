"""Turns: first come, first served, and the event loop is never kept for long."""

from __future__ import annotations

import asyncio
import logging
import time

import pytest

from streaming_asr.server.live.fair_loop import CLIENT_SHARE, SHARE_S, Account, FairLoop


def test_turns_run_in_the_order_of_requests_and_the_longest_wait_is_reported() -> None:
    waits: list[float] = []
    served: list[int] = []

    async def asking() -> None:
        fair_loop = FairLoop(waits.append)
        now = time.perf_counter()
        for number in range(5):
            fair_loop.ask(lambda number=number: served.append(number), now - (5 - number))  # type: ignore[misc]
        assert not served
        await asyncio.sleep(0)

    asyncio.run(asking())
    assert served == [0, 1, 2, 3, 4]
    assert waits == [pytest.approx(5, abs=0.5)]


def test_a_connection_that_asks_again_waits_for_the_others() -> None:
    served: list[str] = []

    async def asking() -> None:
        fair_loop = FairLoop(lambda _: None)

        def busy() -> None:
            served.append("busy")
            if served.count("busy") < 3:
                fair_loop.ask(busy, time.perf_counter())

        fair_loop.ask(busy, time.perf_counter())
        fair_loop.ask(lambda: served.append("other"), time.perf_counter())
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    asyncio.run(asking())
    assert served == ["busy", "other", "busy", "busy"]


def test_the_event_loop_runs_other_callbacks_between_many_turns() -> None:
    order: list[str] = []

    def long() -> None:
        order.append("turn")
        time.sleep(SHARE_S)

    async def asking() -> None:
        fair_loop = FairLoop(lambda _: None)
        for _ in range(3):
            fair_loop.ask(long, time.perf_counter())
        while order.count("turn") < 3:
            await asyncio.sleep(0)
            order.append("other")

    asyncio.run(asking())
    assert order[:5] == ["turn", "other", "turn", "other", "turn"]


def test_while_somebody_speaks_a_client_has_its_share_of_the_event_loop_and_no_more() -> None:
    speaking = True
    fair_loop, account = FairLoop(lambda _: None, lambda: speaking), Account()
    account.charge(10.0)
    account.charge(10.0)
    waits = 20 / CLIENT_SHARE - 20
    assert fair_loop.wait_s(account) == pytest.approx(waits, abs=1)
    assert fair_loop.wait_s(Account()) == 0
    speaking = False
    assert fair_loop.wait_s(account) == 0


def test_a_client_that_has_had_more_than_its_share_has_its_turn_later() -> None:
    served: list[str] = []

    async def asking() -> None:
        fair_loop, account, ended = FairLoop(lambda _: None, lambda: True), Account(), asyncio.Event()

        def flood() -> None:
            served.append("flood")
            account.charge(3600)
            fair_loop.ask(flood, time.perf_counter(), account)

        def other() -> None:
            served.append("other")
            if served.count("other") < 20:
                fair_loop.ask(other, time.perf_counter())
            else:
                ended.set()

        fair_loop.ask(flood, time.perf_counter(), account)
        fair_loop.ask(other, time.perf_counter())
        await ended.wait()

    asyncio.run(asking())
    assert served == ["flood"] + ["other"] * 20


def test_a_turn_is_charged_to_its_client() -> None:
    account = Account()

    async def asking() -> None:
        def turn() -> None:
            until = time.thread_time() + 0.02
            while time.thread_time() < until:
                pass

        began = time.monotonic()
        FairLoop(lambda _: None).ask(turn, time.perf_counter(), account)
        await asyncio.sleep(0)
        assert account.even_at >= began + 0.02 * (1 / CLIENT_SHARE - 1)

    asyncio.run(asking())


def test_a_turn_that_raises_is_logged_and_the_others_run(caplog: pytest.LogCaptureFixture) -> None:
    served: list[int] = []

    def broken() -> None:
        raise KeyError("a fault of one connection")

    async def asking() -> None:
        fair_loop = FairLoop(lambda _: None)
        fair_loop.ask(lambda: served.append(1), time.perf_counter())
        fair_loop.ask(broken, time.perf_counter())
        fair_loop.ask(lambda: served.append(2), time.perf_counter())
        await asyncio.sleep(0)
        fair_loop.ask(lambda: served.append(3), time.perf_counter())
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    with caplog.at_level(logging.ERROR):
        asyncio.run(asking())
    assert served == [1, 2, 3]
    assert len(caplog.records) == 1


def test_a_turn_may_ask_for_the_next_one_and_other_callbacks_run_between_them() -> None:
    order: list[str] = []

    async def asking() -> None:
        fair_loop = FairLoop(lambda _: None)

        def turn() -> None:
            order.append("turn")
            time.sleep(SHARE_S)
            if order.count("turn") < 3:
                fair_loop.ask(turn, time.perf_counter())

        asyncio.get_running_loop().set_exception_handler(lambda _, context: order.append(str(context)))
        fair_loop.ask(turn, time.perf_counter())
        for _ in range(5):
            await asyncio.sleep(0)
            order.append("other")

    asyncio.run(asking())
    assert order == ["turn", "other", "turn", "other", "turn", "other", "other", "other"]

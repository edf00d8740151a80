"""Replicas without processes: who gets a connection, when one starts again, what each gets, and sums of metrics."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from streaming_asr.core.options import OptionError
from streaming_asr.server.metrics import Metrics
from streaming_asr.server.openai_http.client_secrets import ClientSecrets
from streaming_asr.server.options import ServerOptions
from streaming_asr.server.replicas import channel, link
from streaming_asr.server.replicas.channel import MAX_QUEUED, MAX_QUEUED_SOCKETS, Channel, Message, channel_pair
from streaming_asr.server.replicas.issued_secrets import MAX_BYTES, MAX_SECRETS, IssuedSecret, IssuedSecrets
from streaming_asr.server.replicas.placement import DRAINING, MAX_ON_THE_WAY, READY, SILENT_S, Place, Placement
from streaming_asr.server.replicas.restarts import LONGEST_WAIT_S, MOST, WITHIN_S, Restarts
from streaming_asr.server.replicas.shares import share_limits, share_out
from streaming_asr.server.replicas.summed_metrics import sum_growing, sum_metrics
from tests.support.wire import run

NOW = 100.0


def place(number: int, load: int = 0, *, room: bool = True, status: str = READY, parked: int = 0) -> Place:
    return Place(number=number, load=load, room=room, status=status, parked=parked, reported_at=NOW)


def chosen(*places: Place, returned_by: tuple[int, ...] = ()) -> tuple[int, bool] | None:
    found = Placement().choose(places, returned_by, NOW)
    return None if found is None else (found[0].number, found[1])


def test_a_connection_goes_to_the_replica_with_the_fewest() -> None:
    assert chosen(place(1, 3), place(2, 1), place(3, 2)) == (2, False)
    busy = place(1)
    busy.on_the_way = 2
    assert chosen(busy, place(2, 1)) == (2, False)


def test_equal_replicas_take_turns() -> None:
    placement, places = Placement(), [place(1), place(2), place(3)]
    turns = [placement.choose(places, (), NOW) for _ in range(6)]
    assert [found[0].number for found in turns if found] == [1, 2, 3, 1, 2, 3]


def test_a_replica_that_is_full_or_not_ready_or_silent_comes_after_the_others() -> None:
    assert chosen(place(1, room=False), place(2, 5)) == (2, False)
    assert chosen(place(1, status="loading"), place(2, 5)) == (2, False)
    hanging = place(1)
    hanging.reported_at = NOW - SILENT_S - 1
    assert chosen(hanging, place(2, 5)) == (2, False)


def test_reports_may_be_old_so_one_that_said_it_is_full_is_asked_before_anybody_must_refuse() -> None:
    assert chosen(place(1, room=False), place(2, room=False), returned_by=(1,)) == (2, False)


def test_when_all_have_returned_a_connection_one_that_can_make_room_must_keep_it() -> None:
    assert chosen(place(1), place(2, 3, parked=1), returned_by=(1, 2)) == (2, True)
    assert chosen(place(1, status=DRAINING), place(2, 9), returned_by=(1, 2)) == (2, True)
    assert chosen(place(1, status=DRAINING), place(2, status="loading")) == (2, True)
    assert chosen() is None


def test_connections_are_accepted_while_the_replica_that_would_get_them_has_few_on_the_way() -> None:
    busy, other = place(1), place(2, room=False)
    assert Placement().takes_more([busy, other], NOW)
    busy.on_the_way = MAX_ON_THE_WAY
    assert not Placement().takes_more([busy, other], NOW)
    # Of those with room, others get them, whatever they have already.
    assert Placement().takes_more([busy, place(2, 99)], NOW)
    assert chosen(busy, place(2, 99)) == (2, False)
    # One that has room and hangs is not waited for.
    busy.reported_at = NOW - SILENT_S - 1
    assert Placement().takes_more([busy, other], NOW)
    assert not Placement().takes_more([], NOW)


def test_a_replica_starts_again_ever_later_and_is_given_up_when_it_dies_too_often() -> None:
    restarts = Restarts()
    assert [restarts.died(NOW + second) for second in range(MOST)] == [1, 2, 4, 8, None]
    restarts.forget()
    assert restarts.died(NOW) == 1
    rarely = Restarts()
    waits = [rarely.died(number * WITHIN_S / (MOST - 1) * 1.01) for number in range(50)]
    assert None not in waits
    assert max(wait for wait in waits if wait is not None) <= LONGEST_WAIT_S


def test_devices_are_shared_out_evenly(tmp_path: Path) -> None:
    for device in range(8):
        (tmp_path / f"davinci{device}").touch()
    (tmp_path / "davinci_manager").touch()
    shares = share_out(4, {}, range(16), tmp_path)
    visible = [share.environment["ASCEND_RT_VISIBLE_DEVICES"] for share in shares]
    assert visible == ["0,1", "2,3", "4,5", "6,7"]
    assert {share.environment["OMP_NUM_THREADS"] for share in shares} == {"4"}
    # vLLM on the device places its threads itself.
    assert {share.cores for share in shares} == {()}


def test_devices_that_are_named_are_the_ones_shared_out(tmp_path: Path) -> None:
    shares = share_out(2, {"CUDA_VISIBLE_DEVICES": "3, GPU-7"}, range(2), tmp_path)
    assert [share.environment["CUDA_VISIBLE_DEVICES"] for share in shares] == ["3", "GPU-7"]


def test_devices_that_cannot_be_divided_evenly_are_refused(tmp_path: Path) -> None:
    for device in range(3):
        (tmp_path / f"nvidia{device}").touch()
    with pytest.raises(OptionError, match="3 devices can't be divided evenly among 2 replicas; set CUDA_VISIBLE"):
        share_out(2, {}, range(2), tmp_path)
    assert [share.cores for share in share_out(2, {"CUDA_VISIBLE_DEVICES": ""}, range(2), tmp_path)] == [(0,), (1,)]


def test_without_devices_the_cores_are_shared_out_and_none_twice(tmp_path: Path) -> None:
    shares = share_out(3, {"OMP_NUM_THREADS": "1"}, [0, 4, 1, 5, 2, 6, 3], tmp_path)
    assert [share.cores for share in shares] == [(0, 4), (1, 5), (2, 6, 3)]
    assert shares[2].what == " on cores 2-3,6"
    assert all(not share.environment for share in shares)
    assert [share.cores for share in share_out(2, {}, [0], tmp_path)] == [(), ()]


def test_memory_and_disk_are_limits_of_all_replicas_and_sessions_of_each() -> None:
    options = ServerOptions(max_memory_mib=1000, max_parked_mib=100, max_kept_bytes=2**30, max_sessions=60)
    each = share_limits(options, 4)
    assert (each.max_memory_mib, each.max_parked_mib, each.max_kept_bytes, each.max_sessions) == (250, 25, 2**28, 60)
    # 0 means something else.
    few = share_limits(options.changed(max_memory_mib=2, max_parked_mib=0), 4)
    assert (few.max_memory_mib, few.max_parked_mib) == (1, 0)
    assert share_limits(ServerOptions(), 2).max_memory_mib > 0


def samples(text: bytes) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    families = text_string_to_metric_families(text.decode())
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


def counted(audio_s: float, final_s: float, sessions: int) -> bytes:
    metrics = Metrics()
    metrics.audio_seconds.inc(audio_s)
    metrics.final.observe(final_s)
    metrics.sessions.labels('of "quotes"').set(sessions)
    return metrics.text()


def test_what_only_grows_is_summed_and_gauges_keep_their_replica() -> None:
    gone = sum_growing([counted(1, 0.2, 9), counted(2, 0.2, 9)])
    text = sum_metrics(gone, {1: counted(10, 0.2, 3), 2: counted(20, 4, 4)}, {1: 0, 2: 1, 3: 2})
    found = samples(text)
    assert found["streaming_asr_audio_seconds_total", ()] == 33
    assert found["streaming_asr_final_seconds_count", ()] == 4
    assert found["streaming_asr_final_seconds_bucket", (("le", "0.2"),)] == 3
    assert found["streaming_asr_final_seconds_bucket", (("le", "+Inf"),)] == 4
    assert found["streaming_asr_final_seconds_sum", ()] == pytest.approx(4.6)
    name = "streaming_asr_sessions"
    assert found[name, (("protocol", 'of "quotes"'), ("replica", "1"))] == 3
    assert found[name, (("protocol", 'of "quotes"'), ("replica", "2"))] == 4
    assert found["streaming_asr_ready", (("replica", "3"),)] == 0
    assert found["streaming_asr_replica_deaths_total", (("replica", "3"),)] == 2
    assert not any(key.endswith("_created") for key, _ in found)
    assert text.count(b"# TYPE streaming_asr_sessions gauge") == 1


def test_a_message_carries_bytes_and_a_connection_of_any_size() -> None:
    async def script() -> None:
        received: asyncio.Queue[Message | None] = asyncio.Queue()
        ours, theirs = channel_pair()
        sender = Channel(ours, received.put_nowait, lambda: None)
        receiver = Channel(theirs, received.put_nowait, lambda: received.put_nowait(None))
        client, accepted = socket.socketpair()
        body = os.urandom(4 * 2**20)
        assert sender.send("connection", body=body, sockets=[accepted], id=7)
        accepted.close()
        message = await received.get()
        assert message is not None
        assert (message.kind, message.fields, message.body) == ("connection", {"id": 7}, body)
        (passed_on,) = message.sockets
        assert not passed_on.get_inheritable()
        with client, passed_on:
            passed_on.sendall(b"hello")
            assert client.recv(5) == b"hello"
        sender.close()
        assert await received.get() is None
        assert not receiver.send("anything")

    run(script())


def test_a_replica_that_reads_nothing_is_sent_no_more_than_a_bound_and_then_all_of_it_in_order() -> None:
    async def script() -> None:
        received: list[int] = []
        all_there = asyncio.Event()
        ours, theirs = channel_pair()
        sender = Channel(ours, lambda message: None, lambda: None)
        sent = 0
        while sender.send("number", number=sent):
            sent += 1
        assert MAX_QUEUED <= sent < 100 * MAX_QUEUED

        def receive(message: Message) -> None:
            received.append(message.fields["number"])
            if len(received) == sent:
                all_there.set()

        Channel(theirs, receive, lambda: None)
        await all_there.wait()
        assert received == list(range(sent))
        assert sender.send("number", number=sent)

    run(script())


def test_few_connections_wait_for_a_replica_that_reads_nothing_and_bytes_take_no_descriptor() -> None:
    async def script() -> None:
        ours, theirs = channel_pair()
        sender = Channel(ours, lambda message: None, lambda: None)
        waiting, _ = socket.socketpair()
        before = len(os.listdir("/proc/self/fd"))
        while sender.send("connection", sockets=[waiting]):
            pass
        assert len(os.listdir("/proc/self/fd")) == before + MAX_QUEUED_SOCKETS
        while sender.send("secrets", body=b"{}"):
            pass
        assert len(os.listdir("/proc/self/fd")) == before + MAX_QUEUED_SOCKETS
        theirs.close()

    run(script())


def test_a_message_that_the_system_can_not_send_now_is_sent_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel, "TRY_AGAIN_S", 0.01)
    send, lacking = socket.send_fds, [errno.ETOOMANYREFS, errno.ENOBUFS]

    def lacks(*arguments: Any) -> int:
        if lacking:
            raise OSError(lacking.pop(), "the system lacks something")
        return send(*arguments)

    monkeypatch.setattr(socket, "send_fds", lacks)

    async def script() -> None:
        received: asyncio.Queue[Message] = asyncio.Queue()
        ours, theirs = channel_pair()
        sender = Channel(ours, lambda message: None, lambda: None)
        Channel(theirs, received.put_nowait, lambda: None)
        assert sender.send("first", body=b"bytes")
        assert sender.send("second")
        assert [(await received.get()).kind for _ in range(2)] == ["first", "second"]

    run(script())


def test_a_short_lived_key_of_another_replica_counts_among_the_most_there_may_be() -> None:
    shared: list[tuple[bytes, float, bytes]] = []
    here = ClientSecrets(limit=1, share=lambda *entry: shared.append(entry))
    there, full = ClientSecrets(limit=1), ClientSecrets(limit=1)
    key = here.issue({"model": "m"}, 10, NOW)  # type: ignore[arg-type]
    full.issue({}, 10, NOW)  # type: ignore[arg-type]
    there.add(*shared[0], NOW)
    full.add(*shared[0], NOW)
    assert there.session_of(key, NOW + 9) == {"model": "m"}
    assert not there.lives(key, NOW + 11)
    assert not full.lives(key, NOW)


def test_keys_are_kept_for_later_replicas_up_to_a_bound_and_make_room_when_they_expire() -> None:
    secrets = IssuedSecrets()
    for number in range(MAX_SECRETS):
        secrets.add(IssuedSecret(f"{number}", NOW + number % 2, b""), NOW)
    secrets.add(IssuedSecret("one too many", NOW + 2, b""), NOW - 1)
    assert [secret.digest for secret in secrets] == [f"{number}" for number in range(MAX_SECRETS)]
    secrets.add(IssuedSecret("later", NOW + 2, b""), NOW)
    assert [secret.digest for secret in secrets] == [*(f"{number}" for number in range(1, MAX_SECRETS, 2)), "later"]


def test_what_keys_were_issued_for_is_kept_up_to_a_bound_of_its_size() -> None:
    secrets, large = IssuedSecrets(), bytes(MAX_BYTES // 2)
    secrets.add(IssuedSecret("1", NOW + 1, large), NOW)
    secrets.add(IssuedSecret("2", NOW + 9, large), NOW)
    secrets.add(IssuedSecret("one too many", NOW + 9, b"{}"), NOW)
    assert [secret.digest for secret in secrets] == ["1", "2"]
    secrets.add(IssuedSecret("3", NOW + 9, b"{}"), NOW + 2)
    assert [secret.digest for secret in secrets] == ["2", "3"]


class _Metered:
    """The server of a replica, as far as its metrics are concerned."""

    def report(self) -> link.Report:
        return link.Report(READY, 0, 0, True)

    def metrics(self) -> bytes:
        return b""

    def abandoned(self) -> None:
        pass


def test_metrics_that_the_supervisor_did_not_send_are_asked_again_and_many_who_ask_share_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(link, "METRICS_WAIT_S", 0.05)
    answers = [False, True]
    asked = []

    async def script() -> None:
        ours, theirs = channel_pair()

        def supervise(message: Message) -> None:
            if message.kind == "metrics?":
                asked.append(message)
                if answers.pop(0):
                    supervisor.send("all metrics", body=b"", sizes=[[0, 0]], deaths=[[1, 3]])

        supervisor = Channel(ours, supervise, lambda: None)
        replica = link.Link(link.Identity(1, 2, theirs.detach()))
        replica.open(_Metered())  # type: ignore[arg-type]
        with pytest.raises(asyncio.TimeoutError):
            await replica.all_metrics()
        texts = await asyncio.gather(*(replica.all_metrics() for _ in range(10)))
        assert len({*texts}) == 1
        assert b'replica_deaths_total{replica="1"} 3.0' in texts[0]
        assert len(asked) == 2
        replica.close()
        supervisor.close()

    run(script())

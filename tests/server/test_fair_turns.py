"""How the slots of recordings are shared out among clients."""

from __future__ import annotations

from collections import Counter

from streaming_asr.server.openai_http.fair_turns import (
    MAX_PAUSED,
    MAX_PAUSED_OF_FURTHER,
    TURN_S,
    FairTurns,
    Turn,
    TurnState,
)


class Clock:
    """Runs `FairTurns` and counts for how long each client has slots."""

    def __init__(self, at_once: int) -> None:
        self.turns = FairTurns(at_once)
        self.now = 0.0
        self.here: list[Turn] = []
        self.slot_s: Counter[str] = Counter()
        self._again: float | None = None

    def come(self, client: str, recordings: int = 1) -> list[Turn]:
        """Recordings of a client come one after the other."""
        came = []
        for _ in range(recordings):
            came.append(self.turns.join(client))
            self.here.append(came[-1])
            self._again = self.turns.schedule(self.now)
        return came

    def end(self, turn: Turn) -> None:
        self.turns.leave(turn)
        self.here.remove(turn)
        self._again = self.turns.schedule(self.now)

    def wait(self, seconds: float) -> None:
        until = self.now + seconds
        while self._again is not None and self._again <= until:
            self._go_on(self._again)
            self._again = self.turns.schedule(self.now)
        self._go_on(until)

    def _go_on(self, now: float) -> None:
        for client, slots in self.running.items():
            self.slot_s[client] += slots * (now - self.now)
        self.now = now

    @property
    def running(self) -> Counter[str]:
        return Counter(turn.client for turn in self.here if turn.state is TurnState.RUNNING)

    @property
    def started(self) -> Counter[str]:
        """Those whose decoders have a process."""
        return Counter(turn.client for turn in self.here if turn.state in (TurnState.RUNNING, TurnState.PAUSED))


def test_a_client_alone_has_all_slots_in_the_order_of_its_recordings() -> None:
    clock = Clock(4)
    came = clock.come("a", 8)
    clock.wait(3600)
    assert [turn.state for turn in came] == [TurnState.RUNNING] * 4 + [TurnState.WAITING] * 4
    clock.end(came[2])
    assert came[4].state is TurnState.RUNNING


def test_a_clip_starts_at_once_beside_a_client_that_has_all_slots() -> None:
    clock = Clock(4)
    long = clock.come("a", 8)
    clock.wait(1)
    (clip,) = clock.come("b")
    assert clip.state is TurnState.RUNNING
    assert [turn.state for turn in long[:4]] == [TurnState.RUNNING] * 3 + [TurnState.PAUSED]
    clock.end(clip)
    assert [turn.state for turn in long[:4]] == [TurnState.RUNNING] * 4, "what was paused goes on first"


def test_clients_have_equal_shares() -> None:
    clock = Clock(4)
    clock.come("a", 8)
    clock.come("b", 8)
    assert clock.running == {"a": 2, "b": 2}
    clock.come("c", 8)
    clock.wait(300 * TURN_S)
    shares = [clock.slot_s[client] / clock.slot_s.total() for client in "abc"]
    assert max(shares) - min(shares) < 0.02


def test_with_fewer_slots_than_clients_each_waits_for_one_turn_of_the_others() -> None:
    clock = Clock(1)
    for client in "abcd":
        clock.come(client, 2)
    clock.wait(100)
    (clip,) = clock.come("e")
    waited = 0.0
    while clip.state is TurnState.WAITING:
        clock.wait(0.1)
        waited += 0.1
    assert waited < 5 * TURN_S + 1
    clock.slot_s.clear()
    clock.wait(200 * TURN_S)
    shares = [clock.slot_s[client] / clock.slot_s.total() for client in "abcde"]
    assert max(shares) - min(shares) < 0.02


def test_clients_that_come_one_after_the_other_do_not_keep_a_paused_recording_waiting() -> None:
    clock = Clock(1)
    (long,) = clock.come("a")
    clock.wait(TURN_S)
    for number in range(100):
        clock.come(f"b{number}")
        clock.wait(TURN_S / 3)
    # A newcomer takes the slot, and the next one has to let the first recording go on.
    assert clock.slot_s["a"] > 3 * TURN_S
    assert long.state in (TurnState.RUNNING, TurnState.PAUSED)


def test_a_clip_waits_for_two_at_most_of_the_many_that_another_client_sent_before() -> None:
    clock = Clock(1)
    short = clock.come("a", 20)
    (clip,) = clock.come("b")
    clock.end(short[0])
    clock.end(short[1])
    assert clip.state is TurnState.RUNNING


def test_few_recordings_are_paused_however_many_clients_come() -> None:
    """Each of them keeps a process."""
    clock = Clock(4)
    for number in range(40):
        clock.come(f"c{number}", 5)
        clock.wait(3 * TURN_S)
        assert clock.turns.count(TurnState.PAUSED) <= MAX_PAUSED
        assert max(clock.started.values()) <= 4
    assert clock.turns.count(TurnState.PAUSED) == MAX_PAUSED
    assert clock.turns.count(TurnState.RUNNING) == 4


def test_those_that_have_recordings_started_leave_room_for_others() -> None:
    clock = Clock(4)
    for number in range(8):
        clock.come(f"c{number}", 8)
        clock.wait(20 * TURN_S)
    paused = [turn for turn in clock.here if turn.state is TurnState.PAUSED]
    assert MAX_PAUSED_OF_FURTHER <= len(paused) < MAX_PAUSED
    assert len(clock.started) == 8, "each has one at least"
    (clip,) = clock.come("z")
    clock.wait(9 * TURN_S)
    assert clip.state is not TurnState.WAITING


def test_a_recording_that_leaves_while_it_waits_or_is_paused_is_forgotten() -> None:
    clock = Clock(1)
    (first,) = clock.come("a")
    (second,) = clock.come("b")
    (third,) = clock.come("c")
    clock.end(third)
    clock.wait(TURN_S)
    assert (first.state, second.state) == (TurnState.PAUSED, TurnState.RUNNING)
    clock.end(first)
    clock.wait(10 * TURN_S)
    assert second.state is TurnState.RUNNING
    clock.end(second)
    assert not clock.turns.count(TurnState.PAUSED)

"""Which sessions wait for their clients: whose they are, and how much memory all may take."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from streaming_asr.server.live.parking import Outcome, Parking, WrongOwner


@dataclass
class FakeSession:
    size: int
    dropped: int = 0
    kept: bool = field(default=False)

    def drop(self) -> None:
        self.dropped += 1


@dataclass
class Lot:
    parking: Parking[FakeSession]
    outcomes: list[Outcome]

    def park(self, token: str, size: int = 10) -> FakeSession:
        session = FakeSession(size)
        self.parking.offer(token, "key", session)
        session.kept = self.parking.park(token)
        return session


@pytest.fixture
def lot() -> Lot:
    outcomes: list[Outcome] = []
    return Lot(Parking(100, outcomes.append), outcomes)


def test_beyond_the_memory_the_session_parked_first_is_dropped(lot: Lot) -> None:
    sessions = [lot.park(f"t{number}", 40) for number in range(4)]
    assert [session.dropped for session in sessions] == [1, 1, 0, 0]
    assert lot.parking.size == 80
    assert lot.parking.parked == sessions[2:]
    assert lot.outcomes == [Outcome.DROPPED] * 2
    assert lot.parking.find("t0", "key") is None


def test_a_session_that_is_larger_than_all_may_be_is_not_kept_and_costs_no_other_its_place(lot: Lot) -> None:
    small, large = lot.park("small"), lot.park("large", 101)
    assert (small.kept, large.kept) == (True, False)
    assert lot.parking.parked == [small]
    assert lot.parking.find("large", "key") is None


def test_a_token_is_good_for_its_own_key_only(lot: Lot) -> None:
    session = lot.park("t")
    for owner in ("", "another", "kéy"):
        with pytest.raises(WrongOwner):
            lot.parking.find("t", owner)
    assert lot.parking.find("t", "key") is session
    assert lot.parking.find("T", "key") is None
    assert lot.parking.find("\ud800", "key") is None
    assert lot.outcomes == [Outcome.REFUSED] * 3 + [Outcome.UNKNOWN] * 2


def test_a_session_that_was_claimed_is_not_parked_and_can_be_claimed_again(lot: Lot) -> None:
    session = lot.park("t")
    lot.parking.claim("t")
    assert (lot.parking.parked, lot.parking.size) == ([], 0)
    assert lot.parking.find("t", "key") is session
    lot.parking.claim("t")
    assert lot.outcomes == [Outcome.RESUMED, Outcome.TAKEN_OVER]
    assert not lot.parking.drop_first()


def test_a_session_that_is_over_is_forgotten(lot: Lot) -> None:
    lot.park("t")
    lot.parking.forget("t", Outcome.EXPIRED)
    lot.parking.forget("t", Outcome.EXPIRED)
    assert lot.parking.find("t", "key") is None
    assert (lot.parking.size, lot.outcomes) == (0, [Outcome.EXPIRED, Outcome.UNKNOWN])


def test_all_can_be_dropped(lot: Lot) -> None:
    sessions = [lot.park(f"t{number}") for number in range(3)]
    lot.parking.drop_all()
    assert [session.dropped for session in sessions] == [1, 1, 1]
    assert lot.parking.size == 0

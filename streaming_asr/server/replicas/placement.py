"""Which replica gets a connection. No event loop, no socket, no clock."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable
from dataclasses import dataclass

STARTING, READY, DRAINING = "starting", "ready", "draining"
"""Statuses of a replica, as far as placing depends on them."""
SILENT_S = 3.0
"""A replica reports every second; one that has not for longer is asked last: its event loop hangs."""
MAX_ON_THE_WAY = 32
"""Connections given to a replica that it has not received. Further ones wait to be accepted: each takes descriptors of
the supervisor, and would wait behind these."""


@dataclass(slots=True, kw_only=True)
class Place:
    """What is known of a replica that can be given connections."""

    number: int
    status: str = STARTING
    load: int = 0
    """Sessions, and connections that may open one, as it reported last."""
    parked: int = 0
    """Of these, sessions that wait for their clients, and give way to others."""
    room: bool = False
    """Whether it would accept one more session, as it reported last."""
    on_the_way: int = 0
    """Connections it was given and has not received."""
    reported_at: float = 0.0
    """When it reported last, seconds."""
    turn: int = 0
    """Of its last connection, among those of all replicas."""

    def silent(self, now: float) -> bool:
        """Whether it has not reported for long; `now` is of the clock of `reported_at`."""
        return now - self.reported_at > SILENT_S


class Placement:
    """Chooses by what the replicas have reported. That may be out of date, so a replica that turns out to be full
    returns the connection, and the next one is chosen: only when all have returned it, one is made to take it."""

    def __init__(self) -> None:
        self._turns = itertools.count(1)

    def choose(self, places: Iterable[Place], returned_by: Collection[int], now: float) -> tuple[Place, bool] | None:
        """The replica that gets a connection.

        Args:
            returned_by: numbers of the replicas that had no room for it.
            now: of any clock that never goes back, seconds.

        Returns:
            The replica, and whether it must keep the connection, even if only to refuse it; None if there is none.
        """
        places = list(places)
        ready = [place for place in places if place.status == READY and place.number not in returned_by]
        if ready:
            chosen = min(
                ready,
                key=lambda place: (
                    place.silent(now),
                    not place.room,
                    place.on_the_way >= MAX_ON_THE_WAY,
                    *_rank(place),
                ),
            )
        elif places:
            chosen = min(
                places,
                key=lambda place: (place.status != READY, place.status == DRAINING, not place.parked, *_rank(place)),
            )
        else:
            return None
        chosen.turn = next(self._turns)
        return chosen, not ready

    def takes_more(self, places: Iterable[Place], now: float) -> bool:
        """Whether a new connection should be accepted: one of the replicas that `choose` prefers has not too many on
        the way.

        Args:
            now: as of `choose`.
        """
        places = list(places)
        ready = [place for place in places if place.status == READY]
        answering = [place for place in ready if not place.silent(now)]
        with_room = [place for place in answering if place.room]
        starting = [place for place in places if place.status != DRAINING]
        preferred = with_room or answering or ready or starting or places
        return any(place.on_the_way < MAX_ON_THE_WAY for place in preferred)


def _rank(place: Place) -> tuple[int, int]:
    return place.load + place.on_the_way, place.turn

"""Connections on their way to replicas: each stays the supervisor's until a replica has received it."""

from __future__ import annotations

import socket
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from streaming_asr.server.replicas.placement import Placement
from streaming_asr.server.replicas.replica import Replica


@dataclass(slots=True)
class _OnTheWay:
    connection: socket.socket
    returned_by: list[int]
    keep: bool
    """Whether the replica must keep it."""


class Handover:
    """Gives connections to replicas. One that a replica returns, or has not received when it dies, goes to another."""

    def __init__(self, replicas: Sequence[Replica]) -> None:
        self._replicas = replicas
        self._placement = Placement()
        self._given: dict[Replica, int] = defaultdict(int)
        """Connections given to the process of each."""
        self._on_the_way: dict[Replica, dict[int, _OnTheWay]] = defaultdict(dict)
        """Those of them that it has not received, numbered."""

    @property
    def takes_more(self) -> bool:
        """Whether a new connection should be accepted; see `Placement.takes_more`."""
        places = (each.place for each in self._replicas if each.channel)
        return self._placement.takes_more(places, time.monotonic())

    def give(self, connection: socket.socket, returned_by: Sequence[int] = ()) -> None:
        """Give a connection to a replica, or close it if there is none.

        Args:
            returned_by: numbers of the replicas that had no room for it.
        """
        stuck: set[int] = set()
        while True:
            replicas = {each.number: each for each in self._replicas if each.channel and each.number not in stuck}
            places = (each.place for each in replicas.values())
            chosen = self._placement.choose(places, returned_by, time.monotonic())
            if chosen is None:
                connection.close()
                return
            place, keep = chosen
            replica = replicas[place.number]
            number = self._given[replica] + 1
            if replica.send("connection", sockets=[connection], id=number, keep=keep):
                self._given[replica] = number
                self._on_the_way[replica][number] = _OnTheWay(connection, list(returned_by), keep)
                self._count(replica)
                return
            stuck.add(place.number)

    def received(self, replica: Replica, count: int) -> None:
        """The process of a replica has received this many connections since it was started."""
        on_the_way = self._on_the_way[replica]
        for number in [number for number in on_the_way if number <= count]:
            on_the_way.pop(number).connection.close()
        self._count(replica)

    def returned(self, replica: Replica, number: int) -> None:
        """A replica has no room for a connection."""
        given = self._on_the_way[replica].pop(number, None)
        self._count(replica)
        if given is None:
            return
        if given.keep:
            # It can't even refuse it: it may open no more files.
            given.connection.close()
        else:
            self.give(given.connection, [*given.returned_by, replica.number])

    def take_back(self, replica: Replica) -> None:
        """The process of a replica is gone: others get what it has not received. Call it once its channel is closed."""
        on_the_way = self._on_the_way.pop(replica, {})
        self._given.pop(replica, None)
        for each in on_the_way.values():
            self.give(each.connection, each.returned_by)

    def _count(self, replica: Replica) -> None:
        replica.place.on_the_way = len(self._on_the_way[replica])

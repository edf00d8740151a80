"""The process that listens, starts the replicas, gives them connections, and starts again those that die.

It loads no recognizer and no web framework, and sees no byte of a client. It ends with its replicas, and they end when
it is gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import time
from collections.abc import Callable, Sequence

from streaming_asr.server.listening import METRICS_FLAGS, address, bind
from streaming_asr.server.options import ServerOptions
from streaming_asr.server.replicas.acceptor import Acceptor
from streaming_asr.server.replicas.channel import Channel, Message, channel_pair
from streaming_asr.server.replicas.handover import Handover
from streaming_asr.server.replicas.issued_secrets import IssuedSecret, IssuedSecrets, pack
from streaming_asr.server.replicas.link import Identity
from streaming_asr.server.replicas.metrics_collection import MetricsCollection
from streaming_asr.server.replicas.placement import DRAINING, READY, STARTING, Place
from streaming_asr.server.replicas.process_group import describe_status, group_gone
from streaming_asr.server.replicas.replica import Replica, State
from streaming_asr.server.replicas.restarts import MOST, WITHIN_S
from streaming_asr.server.replicas.shares import Share

logger = logging.getLogger(__name__)

KILL_AFTER_S = 30.0
"""A replica that is asked to end, and has not this long after `drain_timeout_s`, is killed."""
HANGS_S = 60.0
"""A replica that has been ready, and has reported nothing for this long, is killed."""
FAILED = 1


class Supervisor:
    """Runs the replicas until a signal, or until none of them can go on.

    Args:
        options: of the server as a whole.
        command: starts a replica, which finds in its environment what it is.
        shares: of the machine, one for each replica.
    """

    def __init__(self, options: ServerOptions, command: Sequence[str], shares: Sequence[Share]) -> None:
        self._options = options
        self._command = command
        self._replicas = [Replica(share, Place(number=number)) for number, share in enumerate(shares, start=1)]
        self._handover = Handover(self._replicas)
        self._acceptor = Acceptor(lambda: self._handover.takes_more, self._accepted)
        self._signals = 0
        self._stopping = False
        self._failed: int | None = None
        """Exit status of the first replica, if it ended before it was ready."""
        self._any_was_ready = False
        self._watching: set[asyncio.Event] = set()
        """Set whenever a replica's state changes, or the server stops."""
        self._rolling: asyncio.Task[None] | None = None
        self._had_terminal = _has_terminal()
        self._metrics = MetricsCollection(self._replicas)
        self._secrets = IssuedSecrets()
        self._statuses: dict[str, str] = {}
        """As the replicas know them."""

    async def run(self) -> int:
        """Serve until the end; returns the exit status.

        Raises:
            AddressTaken: the port is in use, or the host is not an address of this machine.
        """
        self._listen()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._signalled, number)
        loop.add_signal_handler(signal.SIGHUP, self._hung_up)
        watching = asyncio.create_task(self._watch(), name="watch for replicas that hang")
        keepers = [asyncio.create_task(self._keep(replica)) for replica in self._replicas]
        try:
            await asyncio.gather(*keepers)
        finally:
            watching.cancel()
            for keeper in keepers:
                keeper.cancel()
            for replica in self._replicas:
                replica.kill()
            self._acceptor.close()
        if self._failed is not None:
            return self._failed
        if not self._stopping:
            logger.critical("No replica is left; the lines above say why each ended")
            return FAILED
        logger.info("All replicas have stopped")
        return 0

    # Processes

    async def _keep(self, replica: Replica) -> None:
        """Run one replica until the server stops, or no replica is left."""
        if replica is not self._replicas[0]:
            # The first one fetches weights and compiles kernels for all, and finds what is wrong with the options.
            await self._until(lambda: self._any_was_ready)
        while not self._stopping:
            self._go(replica, State.STARTING)
            status = await self._run(replica)
            if self._stopping:
                return
            if replica.state is State.ENDING:
                self._go(replica, State.WAITING)
            elif not self._any_was_ready:
                # Of an exit status it has written why.
                level = logging.INFO if status > 0 else logging.CRITICAL
                logger.log(level, "The first replica ended %s before it was ready", describe_status(status))
                self._failed = max(FAILED, status)
                self._stop()
            elif not await self._start_again(replica, status):
                return

    async def _start_again(self, replica: Replica, status: int) -> bool:
        """Wait until a replica that has died may be started again; returns whether it may."""
        replica.deaths += 1
        replica.wanted = False
        wait_s = replica.restarts.died(time.monotonic())
        if wait_s is not None:
            again = f"it starts again in {wait_s:g} s"
            logger.error(
                "Replica %d ended %s, and its sessions with it; %s", replica.number, describe_status(status), again
            )
            self._go(replica, State.WAITING)
        else:
            often = f"for the {MOST}th time within {WITHIN_S / 60:g} minutes"
            again = "it is given up, until SIGHUP starts it again"
            logger.critical("Replica %d ended %s, %s; %s", replica.number, describe_status(status), often, again)
            self._go(replica, State.GIVEN_UP)
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._until(lambda: replica.wanted or self._none_left), wait_s)
        if self._none_left:
            return False
        if replica.state is State.GIVEN_UP:
            self._go(replica, State.WAITING)
        return True

    async def _run(self, replica: Replica) -> int:
        """Run a process of a replica; returns its exit status."""
        ours, theirs = channel_pair()
        with theirs:
            identity = Identity(replica.number, len(self._replicas), theirs.fileno(), replica.share.cores)
            replica.process = process = await asyncio.create_subprocess_exec(
                *self._command,
                env={**os.environ, **replica.share.environment, **identity.to_environment()},
                pass_fds=[theirs.fileno()],
                # Of a process group of its own: Ctrl-C reaches the supervisor alone, which passes it on once.
                start_new_session=True,
            )
        logger.info("Replica %d is process %d%s", replica.number, process.pid, replica.share.what)
        replica.place = Place(number=replica.number, reported_at=time.monotonic())
        replica.channel = Channel(ours, lambda message: self._take(replica, message), lambda: self._lost(replica))
        # In one message: more than a thousand would not all be sent before it reads the first.
        _send_secrets(replica, list(self._secrets))
        self._statuses = {}
        self._show_statuses()
        self._acceptor.start()
        if self._stopping:
            self._ask_to_end(replica)
        status = await process.wait()
        # Its engine, and decoders of recordings.
        replica.kill()
        if not self._stopping:
            await group_gone(process.pid)
        while replica.channel is not None and replica.channel.read():
            pass
        self._lost(replica)
        return status

    async def _watch(self) -> None:
        """Kill replicas that hang: nobody else would notice, since whoever asks for the health reaches others."""
        while True:
            await asyncio.sleep(HANGS_S / 10)
            now = time.monotonic()
            for replica in self._reading:
                silent_s = now - replica.place.reported_at
                if replica.state is State.RUNNING and silent_s > HANGS_S:
                    logger.error("Replica %d has not answered for %.0f s; it is killed", replica.number, silent_s)
                    replica.kill()

    def _lost(self, replica: Replica) -> None:
        """The process of a replica has ended, or is about to."""
        if replica.channel is None:
            return
        replica.channel.close()
        replica.channel = None
        self._metrics.ended(replica)
        self._show_statuses()
        self._handover.take_back(replica)
        self._acceptor.start()

    def _ask_to_end(self, replica: Replica) -> None:
        process = replica.process
        if process is None or replica.state not in (State.STARTING, State.RUNNING):
            return
        reads = replica.place.status != STARTING
        self._go(replica, State.ENDING)
        replica.place.status = DRAINING
        # Not by a signal: where all processes get one, as of systemd, a second would end it at once.
        if not (reads and replica.send("drain")):
            _send_signal(process, signal.SIGTERM)

        def kill() -> None:
            if replica.process is process and process.returncode is None:
                logger.error("Replica %d does not end; it is killed", replica.number)
                replica.kill()

        asyncio.get_running_loop().call_later(self._options.drain_timeout_s + KILL_AFTER_S, kill)

    @property
    def _none_left(self) -> bool:
        return all(replica.state is State.GIVEN_UP for replica in self._replicas)

    def _go(self, replica: Replica, state: State) -> None:
        replica.go(state)
        self._changed()
        self._show_statuses()

    def _changed(self) -> None:
        for watching in self._watching:
            watching.set()

    async def _until(self, condition: Callable[[], bool]) -> None:
        """Wait until a condition on the replicas' states holds, or the server stops."""
        changed = asyncio.Event()
        self._watching.add(changed)
        try:
            while not (self._stopping or condition()):
                changed.clear()
                await changed.wait()
        finally:
            self._watching.discard(changed)

    # Signals

    def _signalled(self, number: signal.Signals) -> None:
        self._signals += 1
        if self._signals == 1:
            logger.info("%s: all replicas let their sessions finish", signal.Signals(number).name)
            self._stop()
            return
        logger.warning("%s again: exiting at once", signal.Signals(number).name)
        for replica in self._replicas:
            if not (self._signals == 2 and replica.send("exit")):
                replica.kill()

    def _stop(self) -> None:
        self._stopping = True
        for replica in self._replicas:
            self._ask_to_end(replica)
        self._changed()

    def _hung_up(self) -> None:
        if self._had_terminal and not _has_terminal():
            self._signalled(signal.SIGHUP)
        elif self._rolling is not None and not self._rolling.done():
            logger.warning("SIGHUP: the replicas are already being replaced")
        else:
            self._rolling = asyncio.create_task(self._roll(), name="replace the replicas")

    async def _roll(self) -> None:
        """Replace one replica after the other by a new process."""
        logger.info("SIGHUP: replacing the replicas one after the other")
        for replica in self._replicas:
            before, deaths = replica.process, replica.deaths
            replica.restarts.forget()
            replica.wanted = True
            self._changed()
            self._ask_to_end(replica)
            await self._until(lambda: _replaced(replica, before, deaths))  # noqa: B023 - awaited here
            if self._stopping:
                return
            if replica.deaths > deaths:
                logger.error("Replica %d did not start again; the others stay as they are", replica.number)
                return
        logger.info("All replicas have been replaced")

    # Connections

    def _listen(self) -> None:
        options = self._options
        bound = bind(options.host, options.port, "--port or --host")
        self._acceptor.add("connection", bound)
        metrics = None
        if options.metrics_port is not None:
            metrics = bind(options.metrics_host, options.metrics_port, METRICS_FLAGS)
            self._acceptor.add("metrics connection", metrics)
        shown = address(bound, tls=options.certificate is not None)
        logger.info("Listening on %s, with %d replicas", shown, len(self._replicas))
        if metrics is not None:
            logger.info("Metrics on %s/metrics", address(metrics, tls=False).partition(" ")[0])

    def _accepted(self, kind: str, connection: socket.socket) -> None:
        # What a replica sent before this client connected, such as its key, goes before it.
        for replica in self._reading:
            if replica.channel is not None:
                replica.channel.read()
        if kind == "connection":
            self._handover.give(connection)
            return
        now = time.monotonic()
        # One that hangs would not answer.
        by_health = sorted(self._reading, key=lambda replica: (replica.place.silent(now), replica.status != READY))
        with connection:
            any(replica.send(kind, sockets=[connection]) for replica in by_health)

    @property
    def _reading(self) -> list[Replica]:
        return [replica for replica in self._replicas if replica.channel is not None]

    # What replicas send

    def _take(self, replica: Replica, message: Message) -> None:
        fields = message.fields
        if message.kind == "report":
            self._reported(replica, message)
        elif message.kind == "returned":
            self._handover.returned(replica, fields["id"])
            self._acceptor.start()
        elif message.kind == "claim":
            self._pass_on(message)
        elif message.kind == "secret":
            self._share_secret(replica, message)
        elif message.kind == "metrics?":
            self._metrics.ask(replica)
        elif message.kind == "metrics":
            self._metrics.reported(replica, message.body)

    def _reported(self, replica: Replica, message: Message) -> None:
        fields, place = message.fields, replica.place
        self._handover.received(replica, fields["received"])
        place.load, place.parked, place.room = fields["load"], fields["parked"], fields["room"]
        place.reported_at = time.monotonic()
        if replica.state is not State.ENDING:
            place.status = fields["status"]
        if place.status == READY and replica.state is State.STARTING:
            self._any_was_ready = True
            self._go(replica, State.RUNNING)
        self._acceptor.start()
        self._show_statuses()

    def _pass_on(self, message: Message) -> None:
        """A client has connected to one replica, and its session is another's."""
        for connection in message.sockets:
            for replica in self._reading:
                if replica.number == message.fields["to"]:
                    replica.send("claim", body=message.body, sockets=[connection], client=message.fields["client"])
            connection.close()

    def _share_secret(self, issuer: Replica, message: Message) -> None:
        secret = IssuedSecret(message.fields["digest"], message.fields["expires"], message.body)
        self._secrets.add(secret, time.monotonic())
        for replica in self._reading:
            if replica is not issuer:
                _send_secrets(replica, [secret])

    def _show_statuses(self) -> None:
        statuses = {str(replica.number): replica.status for replica in self._replicas}
        if statuses != self._statuses:
            self._statuses = statuses
            for replica in self._reading:
                replica.send("statuses", statuses=statuses)


def _replaced(replica: Replica, before: asyncio.subprocess.Process | None, deaths: int) -> bool:
    """Whether a new process runs, or has died."""
    return replica.deaths > deaths or (replica.process is not before and replica.state is State.RUNNING)


def _send_signal(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(number)


def _send_secrets(replica: Replica, secrets: Sequence[IssuedSecret]) -> None:
    if secrets:
        replica.send("secrets", body=pack(secrets))


def _has_terminal() -> bool:
    """Whether there is a terminal from which this process was started."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True

"""What all connections share: one recognizer, its scheduler, the sessions, and whether work is taken at all."""

from __future__ import annotations

import asyncio
import itertools
import logging
import secrets
import time

from streaming_asr.protocols.base import RESTART, TRY_LATER, Failure
from streaming_asr.recognizers.base import Recognizer
from streaming_asr.runner import Listener, Runner
from streaming_asr.scheduler import Busy, Limits, Scheduler
from streaming_asr.server.metrics import Metrics
from streaming_asr.server.options import ServerOptions
from streaming_asr.session import Session, detector_for
from streaming_asr.settings import OptionError, SessionOptions

logger = logging.getLogger(__name__)


class Refused(Exception):
    """A session is not let in."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


class Service:
    """The server without its sockets.

    Args:
        recognizer: not started yet.
    """

    def __init__(self, recognizer: Recognizer, options: ServerOptions) -> None:
        self.recognizer = recognizer
        self.options = options
        self.metrics = Metrics()
        self.draining = False
        self._runner: Runner | None = None
        self._numbers = itertools.count(1)
        self._instance = secrets.token_hex(3)
        self._watch: asyncio.Task[None] | None = None

    @property
    def ready(self) -> bool:
        return self._runner is not None and not self.draining

    async def start(self) -> None:
        """Load the recognizer and take work.

        Raises:
            RecognizerUnavailable: it can't run here.
            OptionError: a default for sessions can't be met here.
        """
        detector_for(self.options.session)
        self._watch = asyncio.create_task(self.metrics.watch_loop(), name="watch the event loop")
        began = time.monotonic()
        await self.recognizer.start()
        can = self.recognizer.capabilities
        Session("check", self.options.session, can)
        limits = Limits(self.options.max_sessions, self.options.final_objective_s)
        self._runner = Runner(self.recognizer, Scheduler(can.concurrency, limits), self.metrics)
        self.metrics.ready.set(1)
        took = time.monotonic() - began
        logger.info("Ready: %s with %s on %s (loaded in %.1f s)", can.name, can.model, can.device, took)

    def open(self, options: SessionOptions, listener: Listener) -> Session:
        """Let a session in.

        Raises:
            Refused: it can't come now, or not with these options.
        """
        if self.draining:
            raise Refused(Failure("restarting", "The server is shutting down; connect again shortly.", RESTART))
        if self._runner is None:
            raise Refused(Failure("not_ready", "The recognizer is loading; try again shortly.", TRY_LATER))
        key = f"{self._instance}-{next(self._numbers)}"
        try:
            session = Session(key, options, self.recognizer.capabilities)
            self._runner.add(session, listener)
        except OptionError as error:
            raise Refused(Failure("bad_option", str(error))) from None
        except Busy as error:
            raise Refused(Failure("busy", f"The server is busy: {error}.", TRY_LATER)) from None
        return session

    def update(self, session: Session) -> None:
        """Call after anything was given to a session."""
        if self._runner is not None:
            self._runner.update(session)

    def remove(self, session: Session) -> None:
        """A session is over."""
        if self._runner is not None:
            self._runner.remove(session)

    async def close(self) -> None:
        """Stop working and free everything."""
        self.metrics.ready.set(0)
        if self._watch is not None:
            self._watch.cancel()
        if self._runner is not None:
            await self._runner.close()
        await self.recognizer.close()

"""A protocol's translator in conversation, without a socket."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from streaming_asr.core import events
from streaming_asr.protocols.base import Command, Configure, Open, Opened, Send, Translator
from tests.support.fakes import CAPABILITIES


def sent_messages(commands: Sequence[Command]) -> list[dict[str, Any]]:
    """The JSON messages among the commands."""
    return [json.loads(command.message) for command in commands if isinstance(command, Send)]


def types_of(messages: Sequence[dict[str, Any]]) -> list[str]:
    return [message["type"] for message in messages]


class Dialogue:
    """A translator whose session is opened at once, and configured as the client asks."""

    def __init__(self, translator: Translator) -> None:
        self.translator = translator
        self.first = translator.connected()
        (opening,) = [command for command in self.first if isinstance(command, Open)]
        self.options = opening.options
        self.greeting = sent_messages(translator.opened(Opened("s1", self.options, CAPABILITIES)))

    def send(self, kind: str, **fields: Any) -> list[Command]:
        return self.receive(json.dumps({"type": kind, **fields}))

    def receive(self, message: str | bytes) -> list[Command]:
        """Pass a message to the translator; a `Configure` is carried out as a session would."""
        commands: list[Command] = []
        for command in self.translator.received(message):
            commands.append(command)
            if isinstance(command, Configure):
                self.options = self.options.changed(**command.changes)
                commands += self.translator.configured(self.options)
        return commands

    def report(self, *reported: events.Event) -> list[dict[str, Any]]:
        """Pass events of the session to the translator; returns the messages to the client."""
        return sent_messages(self.translator.on_events(reported))

"""What a client has asked for and is not done yet: messages, and the commands that its translator makes of them.
Sans-IO.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from streaming_asr.protocols.base import Audio, Close, Command, Send, Translator
from streaming_asr.protocols.failures import Failure
from streaming_asr.server.live.limits import ConversationLimits


class CommandQueue:
    """The messages and commands of one conversation, in order. A message is translated once all commands of those
    before it are done. It is false without commands.
    """

    def __init__(self, translator: Translator, limits: ConversationLimits) -> None:
        self._translator = translator
        self._limits = limits
        self._messages: deque[str | bytes] = deque()
        self._commands: deque[Command] = deque()

    def __bool__(self) -> bool:
        return bool(self._commands)

    @property
    def has_messages(self) -> bool:
        """Whether messages wait to be translated."""
        return bool(self._messages)

    @property
    def audio_bytes(self) -> int:
        """Of the audio that waits, as the client sent it."""
        return sum(len(command.data) for command in self._commands if isinstance(command, Audio))

    def receive(self, messages: Iterable[str | bytes]) -> None:
        """The client sent messages."""
        self._messages.extend(messages)

    def add(self, commands: Iterable[Command]) -> None:
        """Have commands carried out after all others."""
        self._commands.extend(commands)

    def put_first(self, *commands: Command) -> None:
        """Have commands carried out before all others, in this order."""
        self._commands.extendleft(reversed(commands))

    def take(self) -> Command:
        """The next command."""
        return self._commands.popleft()

    def translate(self) -> Failure | None:
        """Translate the next message; audio of several in a row becomes one command.

        Returns:
            Why the message is refused, if it is.
        """
        most = self._limits.max_message_bytes
        message = self._messages.popleft()
        if len(message) > most:
            return self._limits.message_too_big(len(message))
        commands = self._translator.received(message)
        if self._messages and not isinstance(message, str):
            commands = self._join_audio(commands, most)
        self._commands.extend(commands)
        return None

    def _join_audio(self, commands: list[Command], most: int) -> list[Command]:
        audio: list[bytes | memoryview] = []
        while len(commands) == 1 and isinstance(commands[0], Audio):
            audio.append(commands[0].data)
            following = self._messages[0] if self._messages else None
            if not isinstance(following, bytes) or len(following) > most:
                return [Audio(b"".join(audio))]
            commands = self._translator.received(self._messages.popleft())
        # A control in a binary frame ends the run.
        return [Audio(b"".join(audio)), *commands] if audio else commands

    def drop_messages(self) -> None:
        """Forget the messages that have not been translated."""
        self._messages.clear()

    def drop_requests(self) -> None:
        """Keep only what the client is sent: the answers that wait behind audio or a command."""
        self._messages.clear()
        self._commands = deque(command for command in self._commands if isinstance(command, Send | Close))

    def take_all(self) -> list[Command]:
        """All commands; there is then nothing left to do."""
        commands = list(self._commands)
        self.clear()
        return commands

    def clear(self) -> None:
        """Forget everything."""
        self._messages.clear()
        self._commands.clear()

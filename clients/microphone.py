"""Live audio from a microphone, through sounddevice (PortAudio)."""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

WANTED_RATE = 16_000
"""Hz; the rate of the recognizers."""
MIN_RATE, MAX_RATE = 8_000, 48_000
BLOCK_MS = 50
QUEUE_BLOCKS = 200
"""10 s; if the program reads later than that, audio is lost."""
SILENT_S = 5.0
"""If no block comes for this long, the device is gone."""


class MicrophoneError(Exception):
    """No microphone can be used. The message is for the user."""


@dataclass(frozen=True)
class InputDevice:
    index: int
    name: str
    api: str
    """The system's sound interface to which it belongs."""
    channels: int
    rate: int
    """Its default, Hz."""
    default: bool


def load_sounddevice() -> Any:
    """The `sounddevice` module.

    Raises:
        MicrophoneError: it, or the PortAudio library beneath it, is not installed.
    """
    try:
        import sounddevice
    except ImportError:
        raise MicrophoneError("Listening needs sounddevice: pip install 'streaming-asr[mic]'") from None
    except OSError as error:
        problem = f"sounddevice finds no PortAudio library ({error})."
        hint = "brew install portaudio" if sys.platform == "darwin" else "apt-get install libportaudio2"
        raise MicrophoneError(f"{problem} Install it: {hint}") from None
    return sounddevice


def input_devices() -> list[InputDevice]:
    """The microphones of this machine.

    Raises:
        MicrophoneError: they can't be listed.
    """
    sounddevice = load_sounddevice()
    try:
        devices, apis = sounddevice.query_devices(), sounddevice.query_hostapis()
        default = sounddevice.default.device[0]
    except sounddevice.PortAudioError as error:
        raise MicrophoneError(f"The sound devices can't be listed: {error}") from None
    return [
        InputDevice(
            index,
            device["name"],
            apis[device["hostapi"]]["name"],
            device["max_input_channels"],
            int(device["default_samplerate"]),
            index == default,
        )
        for index, device in enumerate(devices)
        if device["max_input_channels"] > 0
    ]


class Microphone:
    """A microphone, checked but not yet open. Once it is started, iterate over it for 16-bit PCM.

    Args:
        device: index or part of a name; None is the system's default.

    Raises:
        MicrophoneError: there is none, or none that gives usable audio.
    """

    def __init__(self, device: int | str | None = None) -> None:
        self._sounddevice = load_sounddevice()
        found = self._find(device)
        self.name: str = found["name"]
        self.rate, self.channels = self._settings(device, found)
        self._device = device
        self._stream: Any = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._blocks: deque[bytes] = deque()
        self._filled = asyncio.Event()
        self._closed = False
        self.overflows = 0
        """How many times audio was lost because this machine was too busy."""

    def start(self) -> None:
        """Open the device, in a running event loop.

        Raises:
            MicrophoneError: it can't be opened.
        """
        self._loop = asyncio.get_running_loop()
        try:
            self._stream = self._sounddevice.RawInputStream(
                samplerate=self.rate,
                channels=self.channels,
                dtype="int16",
                device=self._device,
                blocksize=self.rate * BLOCK_MS // 1000,
                callback=self._on_block,
                finished_callback=self._wake,
            )
            self._stream.start()
        except self._sounddevice.PortAudioError as error:
            raise MicrophoneError(f"{self.name} can't be opened: {error}") from None

    def close(self) -> None:
        """Close the device; audio captured before can still be read."""
        self._closed = True
        self._filled.set()
        if self._stream is not None:
            stream, self._stream = self._stream, None
            stream.close(ignore_errors=True)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        while not self._blocks:
            if self._closed:
                raise StopAsyncIteration
            self._filled.clear()
            try:
                await asyncio.wait_for(self._filled.wait(), SILENT_S)
            except asyncio.TimeoutError:
                raise MicrophoneError(f"{self.name} gives no audio any more; was it unplugged?") from None
        return self._blocks.popleft()

    def _on_block(self, data: Any, frames: int, time: Any, status: Any) -> None:
        """Called by PortAudio, in its own thread."""
        if status and status.input_overflow:
            self.overflows += 1
        if len(self._blocks) >= QUEUE_BLOCKS:
            self.overflows += 1
            return
        self._blocks.append(bytes(data))
        self._wake()

    def _wake(self) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._filled.set)

    def _find(self, device: int | str | None) -> dict[str, Any]:
        try:
            found: dict[str, Any] = self._sounddevice.query_devices(device, "input")
        except (ValueError, self._sounddevice.PortAudioError) as error:
            if not input_devices():
                raise MicrophoneError(
                    "No microphone was found. Plug one in, or see what --list-devices shows."
                ) from None
            if device is None:
                raise MicrophoneError(
                    "No microphone is the default; choose one of --list-devices by --device."
                ) from None
            raise MicrophoneError(f"No microphone fits {device!r} ({error}); see --list-devices.") from None
        return found

    def _settings(self, device: int | str | None, found: dict[str, Any]) -> tuple[int, int]:
        """Rate and channels of the audio: those of the recognizers if the device can, else the device's own."""
        own = min(max(int(found["default_samplerate"]), MIN_RATE), MAX_RATE)
        most = min(2, int(found["max_input_channels"]))
        tried = [(rate, channels) for channels in range(1, most + 1) for rate in dict.fromkeys((WANTED_RATE, own))]
        for rate, channels in tried:
            if self._supports(device, rate, channels):
                return rate, channels
        shown = ", ".join(f"{rate} Hz with {channels} channels" for rate, channels in tried)
        raise MicrophoneError(f"{self.name} gives 16-bit audio at none of: {shown}.")

    def _supports(self, device: int | str | None, rate: int, channels: int) -> bool:
        try:
            self._sounddevice.check_input_settings(device=device, channels=channels, dtype="int16", samplerate=rate)
        except (ValueError, self._sounddevice.PortAudioError):
            return False
        return True

"""Stands for the `sounddevice` module on machines without sound: its microphone records a file.

By hand: ``python -m tests.support.fake_sounddevice SPEECH.wav`` is ``python -m clients.mic`` with that microphone.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import soundfile
import soxr

Device = dict[str, Any]


def microphone(name: str = "Fake microphone", rate: float = 48_000.0, channels: int = 2) -> Device:
    return {"name": name, "hostapi": 0, "max_input_channels": channels, "default_samplerate": rate}


def loudspeaker() -> Device:
    return {"name": "Fake loudspeaker", "hostapi": 0, "max_input_channels": 0, "default_samplerate": 44_100.0}


@dataclass
class FakeSounddevice:
    """The parts of the module that the client uses.

    A stream gives the blocks of `records` by a thread at real time, then `after`: silence for ever, or nothing.
    """

    records: Path | None = None
    devices: list[Device] = field(default_factory=lambda: [loudspeaker(), microphone()])
    settings: set[tuple[int, int]] = field(default_factory=lambda: {(16_000, 1)})
    """(rate, channels) that the microphone gives."""
    default_input: int = 1
    silence_after: bool = True
    overflows: bool = False
    refuses_to_open: bool = False
    streams: list[FakeInputStream] = field(default_factory=list)

    class PortAudioError(Exception):
        pass

    @property
    def default(self) -> Any:
        return SimpleNamespace(device=(self.default_input, -1))

    def query_hostapis(self) -> list[dict[str, Any]]:
        return [{"name": "Fake sound"}]

    def query_devices(self, device: int | str | None = None, kind: str | None = None) -> Any:
        if kind is None:
            return self.devices
        if device is None:
            device = self.default_input
        if isinstance(device, str):
            fitting = [each for each in self.devices if device.lower() in each["name"].lower()]
            if len(fitting) != 1:
                raise ValueError(f"{'Multiple' if fitting else 'No'} input device matching {device!r}")
            return fitting[0]
        if not 0 <= device < len(self.devices):
            raise self.PortAudioError(f"Error querying device {device}")
        if not self.devices[device]["max_input_channels"]:
            raise ValueError("Not an input device")
        return self.devices[device]

    def check_input_settings(self, *, device: Any, channels: int, dtype: str, samplerate: int) -> None:
        if (samplerate, channels) not in self.settings:
            raise self.PortAudioError("Invalid sample rate [PaErrorCode -9997]")

    def RawInputStream(self, **arguments: Any) -> FakeInputStream:
        if self.refuses_to_open:
            raise self.PortAudioError("Device unavailable [PaErrorCode -9985]")
        stream = FakeInputStream(self, **arguments)
        self.streams.append(stream)
        return stream


class FakeInputStream:
    def __init__(
        self,
        sound: FakeSounddevice,
        *,
        samplerate: int,
        channels: int,
        dtype: str,
        device: Any,
        blocksize: int,
        callback: Callable[..., None],
        finished_callback: Callable[[], None],
    ) -> None:
        assert dtype == "int16"
        self.closed = False
        self._sound = sound
        self._rate, self._channels, self._block = samplerate, channels, blocksize
        self._callback = callback
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self, ignore_errors: bool = True) -> None:
        self.closed = True
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _run(self) -> None:
        began = time.monotonic()
        for index, block in enumerate(self._blocks(), 1):
            time.sleep(max(0.0, began + index * self._block / self._rate - time.monotonic()))
            if self.closed:
                return
            with suppress(RuntimeError):  # The event loop is gone.
                self._callback(block, self._block, None, SimpleNamespace(input_overflow=self._sound.overflows))

    def _blocks(self) -> Iterator[bytes]:
        size = self._block * self._channels
        if self._sound.records is not None:
            samples, rate = soundfile.read(self._sound.records, dtype="float32", always_2d=True)
            mono = soxr.resample(samples.mean(axis=1), rate, self._rate)
            pcm = np.repeat((mono.clip(-1, 1) * 32767).astype(np.int16), self._channels)
            for start in range(0, len(pcm) - size, size):
                yield pcm[start : start + size].tobytes()
        while self._sound.silence_after:
            yield bytes(size * 2)


if __name__ == "__main__":
    sys.modules["sounddevice"] = FakeSounddevice(records=Path(sys.argv[1]))  # type: ignore[assignment]
    from clients.mic import main

    sys.exit(main(sys.argv[2:]))

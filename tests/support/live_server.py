"""A real `streaming-asr serve` in a process of its own, on a real port."""

from __future__ import annotations

import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

STARTS_WITHIN_S = 120.0
ENDS_WITHIN_S = 60.0


class LiveServer:
    """A server process; use as a context manager.

    Args:
        arguments: of `serve`, besides the model and the port.
        model: None for the default one.
        port: 0 takes a free one, which `restart` keeps.
        module: is run; its `serve` is started.
    """

    def __init__(
        self,
        *arguments: str,
        model: str | None = "tiny.en",
        port: int = 0,
        environment: dict[str, str] | None = None,
        module: str = "streaming_asr",
    ) -> None:
        self._arguments = arguments if model is None else (model, *arguments)
        self._environment = {**os.environ, "PYTHONUNBUFFERED": "1", **(environment or {})}
        self._module = module
        self.port = port
        self.log: list[str] = []
        self.process: subprocess.Popen[str] | None = None

    @property
    def tls(self) -> bool:
        return "--certificate" in self._arguments

    @property
    def http_url(self) -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"{'wss' if self.tls else 'ws'}://127.0.0.1:{self.port}/v1/stream"

    @property
    def _key(self) -> dict[str, str]:
        """The header with its key, if it has one."""
        if "--api-key" not in self._arguments:
            return {}
        return {"Authorization": f"Bearer {self._arguments[self._arguments.index('--api-key') + 1]}"}

    def start(self, *, wait_ready: bool = True) -> LiveServer:
        command = [sys.executable, "-m", self._module, "serve", *self._arguments, "--port", str(self.port)]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=self._environment)
        self._lines: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=self._read_log, args=(self.process, self._lines), daemon=True).start()
        self.port = int(self.wait_for(r"Listening on \w+://[^ ]*:(\d+) ").group(1))
        if wait_ready:
            self.wait_for(r"Ready: ")
        return self

    def wait_for(self, pattern: str, within_s: float = STARTS_WITHIN_S) -> re.Match[str]:
        """The next line of the log that matches."""
        deadline = time.monotonic() + within_s
        while (left := deadline - time.monotonic()) > 0:
            try:
                line = self._lines.get(timeout=left)
            except queue.Empty:
                break
            if line is None:
                raise AssertionError("the server ended:\n" + "".join(self.log[-30:]))
            if match := re.search(pattern, line):
                return match
        raise AssertionError(f"no line with {pattern!r} within {within_s} s:\n" + "".join(self.log[-30:]))

    def get(self, path: str) -> tuple[int, str]:
        """Status and body of a GET."""
        try:
            request = urllib.request.Request(self.http_url + path, headers=self._key)
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def metric(self, name: str) -> float:
        """The value of a metric, its labels included in `name`; 0 where it has none yet."""
        _, text = self.get("/metrics")
        found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
        return float(found.group(1)) if found else 0.0

    def wait_for_audio(self, seconds: float, within_s: float = STARTS_WITHIN_S) -> None:
        """Until it has received this much more."""
        name = "streaming_asr_audio_seconds_total"
        goal = self.metric(name) + seconds
        deadline = time.monotonic() + within_s
        while self.metric(name) < goal:
            assert time.monotonic() < deadline, "no audio came"
            time.sleep(0.05)

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def wait(self, within_s: float = ENDS_WITHIN_S) -> int:
        """The exit status, once it has ended."""
        assert self.process is not None
        return self.process.wait(within_s)

    def kill(self) -> None:
        """End it as a crash would."""
        self.signal(signal.SIGKILL)
        self.wait()

    def restart(self) -> None:
        """Start again on the same port; call `kill` or `stop` before."""
        self.start()

    def stop(self) -> int:
        if self.process is None:
            return 0
        if self.process.poll() is None:
            self.signal(signal.SIGTERM)
        try:
            return self.wait()
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise

    def _read_log(self, process: subprocess.Popen[str], lines: queue.Queue[str | None]) -> None:
        """Its own lines, so that the end of a process is not taken for that of the one started after it."""
        assert process.stderr is not None
        for line in process.stderr:
            self.log.append(line)
            lines.put(line)
        lines.put(None)

    def __enter__(self) -> LiveServer:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

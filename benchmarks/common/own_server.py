"""A server of this project as a child process, for benchmarks that need its process."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.request import urlopen

STARTS_WITHIN_S = 300.0
ENDS_WITHIN_S = 30.0
_POLL_S = 0.1


class ServerFailed(Exception):
    """The server did not start. The message has the end of its log."""


class OwnServer:
    """`streaming-asr serve` on a free port of this machine; use as a context manager.

    Args:
        arguments: of `serve`, besides the port; with a certificate, `SSL_CERT_FILE` has to name what signed it.
        environment: variables of the process, all of them; None inherits them.
    """

    def __init__(self, arguments: Sequence[str] = (), environment: Mapping[str, str] | None = None) -> None:
        self._log = tempfile.NamedTemporaryFile(prefix="streaming-asr-", suffix=".log")  # noqa: SIM115
        command = [sys.executable, "-m", "streaming_asr", "serve", "--port", "0", *arguments]
        self.process = subprocess.Popen(command, stderr=self._log, env=environment)
        self._tls = "--certificate" in arguments
        self.port = 0

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def url(self) -> str:
        return f"{'wss' if self._tls else 'ws'}://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        """What it has logged."""
        return Path(self._log.name).read_text(encoding="utf-8", errors="replace")

    def wait_ready(self) -> None:
        """Wait until it takes sessions, in all its replicas.

        Raises:
            ServerFailed: it ended, or took too long.
        """
        deadline = time.monotonic() + STARTS_WITHIN_S
        while time.monotonic() < deadline and self.process.poll() is None:
            if not self.port and (match := re.search(r"Listening on \S+?:(\d+) ", self.log)):
                self.port = int(match.group(1))
            if self.port and self._is_ready():
                return
            time.sleep(_POLL_S)
        raise ServerFailed(f"the server did not start:\n{self.log[-2000:]}")

    def stop(self) -> int:
        """End it as an operator would; returns its exit status."""
        self.process.terminate()
        try:
            return self.process.wait(ENDS_WITHIN_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()

    def _is_ready(self) -> bool:
        try:
            scheme = "https" if self._tls else "http"
            with urlopen(f"{scheme}://127.0.0.1:{self.port}/readyz", timeout=5) as answer:
                statuses = json.load(answer).get("replicas", {}).values()
                return answer.status == 200 and all(status == "ready" for status in statuses)
        except OSError:
            return False

    def __enter__(self) -> OwnServer:
        try:
            self.wait_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._log.close()

"""A server that speaks OpenAI's HTTP interface and answers by a script: real HTTP on a real port, no recognition."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Callable, Sequence
from typing import Any

Script = Callable[[int], tuple[int, Any]]
"""From the number of the request, from 0, to status and body; bodies that are not text are sent as JSON."""

HELD_S = 20.0


class FakeOpenAIServer:
    """Use as a context manager.

    Args:
        script: may call `hold` to answer only once the test is over.
        models: names that it offers.
    """

    def __init__(self, script: Script, models: Sequence[str] = ("fake-asr",)) -> None:
        self.asked: list[tuple[str, bytes, dict[str, str]]] = []
        """(path, body, headers) of each recording that came."""
        self.holding = threading.Event()
        """Set once an answer is held back."""
        self._over = threading.Event()
        self._script = script
        self._models = models
        self._lock = threading.Lock()
        fake = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._answer(200, {"data": [{"id": name} for name in fake._models]})

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                with fake._lock:
                    number = len(fake.asked)
                    fake.asked.append((self.path, body, dict(self.headers)))
                self._answer(*fake._script(number))

            def _answer(self, status: int, body: Any) -> None:
                content = body.encode() if isinstance(body, str) else json.dumps(body).encode()
                try:
                    self.send_response(status)
                    self.send_header("Content-Length", str(len(content)))
                    self.end_headers()
                    self.wfile.write(content)
                except OSError:
                    pass  # The client gave up.

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def hold(self) -> None:
        """Keep a client waiting until the end of the test."""
        self.holding.set()
        self._over.wait(HELD_S)

    def __enter__(self) -> FakeOpenAIServer:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._server.shutdown()
        self._server.server_close()

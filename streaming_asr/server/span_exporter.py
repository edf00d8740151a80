"""The exporter of spans: it ends with the server, and says rarely that spans can't be sent.

Imports OpenTelemetry.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from contextvars import ContextVar

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

logger = logging.getLogger(__name__)

COMPLAINT_S = 60.0
"""Least time between two warnings that spans can't be sent."""


class EndingExporter(SpanExporter):
    """OpenTelemetry's exporter, which `end` ends at once: it tries nothing again, and logs nothing from then on.

    Args:
        endpoint: the whole address; None for that of the environment.
    """

    def __init__(self, endpoint: str | None) -> None:
        _complain_rarely()
        self._exporter = OTLPSpanExporter(endpoint=endpoint)
        self.ended = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        if self.ended:
            return SpanExportResult.FAILURE
        token = _exporting.set(self)
        try:
            return self._exporter.export(spans)
        finally:
            _exporting.reset(token)

    def end(self) -> None:
        """Any thread may call it. A request that is under way is not cut off, but nobody waits for it."""
        if not self.ended:
            self.ended = True
            self._exporter.shutdown()  # type: ignore[no-untyped-call]

    def shutdown(self) -> None:
        self.end()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._exporter.force_flush(timeout_millis)


_exporting: ContextVar[EndingExporter] = ContextVar("exporting")
"""The exporter that is at work in this thread."""


class _Complaints(logging.Handler):
    """Passes on one of the SDK's warnings in `COMPLAINT_S`: it has one or more for each batch that can't be sent."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._last = -COMPLAINT_S

    def emit(self, record: logging.LogRecord) -> None:
        exporter = _exporting.get(None)
        if exporter is not None and exporter.ended:
            return
        now = time.monotonic()
        if now - self._last >= COMPLAINT_S:
            self._last = now
            logger.warning("Spans can't be sent, and may be dropped: %s", record.getMessage())


def _complain_rarely() -> None:
    sdk = logging.getLogger("opentelemetry")
    if not any(isinstance(handler, _Complaints) for handler in sdk.handlers):
        sdk.addHandler(_Complaints())
    sdk.propagate = False

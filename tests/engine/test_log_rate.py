"""The log grows no faster than a bound, whatever clients do."""

from __future__ import annotations

import logging

from streaming_asr.engine import log_rate
from streaming_asr.engine.log_rate import MAX_KINDS, PER_MINUTE, LogRate


class Log:
    """A log with a clock that stands still."""

    def __init__(self) -> None:
        self.now = 100.0
        self.lines: list[str] = []
        self.rate = LogRate(lambda: self.now)

    def write(self, message: str, *arguments: object) -> None:
        record = logging.LogRecord("server", logging.WARNING, "", 0, message, arguments, None)
        if self.rate.filter(record):
            self.lines.append(record.getMessage())


def test_too_many_lines_of_a_kind_are_left_out_and_counted() -> None:
    log = Log()
    for number in range(PER_MINUTE + 7):
        log.write("A request of %s is wrong", number)
    log.write("Another kind")
    assert log.lines[-2:] == [f"A request of {PER_MINUTE - 1} is wrong", "Another kind"]
    assert len(log.lines) == PER_MINUTE + 1
    log.now += 60
    log.write("A request of %s is wrong", "x")
    log.write("A request of %s is wrong", "y")
    assert log.lines[-2:] == ["A request of x is wrong (7 more like it were left out)", "A request of y is wrong"]


def test_the_kinds_that_are_remembered_are_bounded() -> None:
    log = Log()
    for number in range(MAX_KINDS + 50):
        log.write(f"kind {number}")
    assert len(log.rate._kinds) == MAX_KINDS
    assert log_rate.MAX_KINDS == MAX_KINDS


def test_a_message_with_a_percent_sign_and_no_arguments_is_written_as_it_is() -> None:
    log = Log()
    for _ in range(PER_MINUTE + 1):
        log.write("100 % of it")
    log.now += 60
    log.write("100 % of it")
    assert log.lines[-1] == "100 % of it (1 more like it were left out)"

"""The command line of `python -m benchmarks.load`."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from benchmarks.common.arguments import assignment, positive, seconds
from benchmarks.common.protocols.registry import PROTOCOLS, Target
from benchmarks.common.speech import add_sets_option, add_speech_option
from benchmarks.load.crowd import Plan
from benchmarks.load.speaking import Manner

API_KEY_VARIABLE = "STREAMING_ASR_API_KEY"
DEFAULT_URL = "ws://localhost:8000"
SEARCH_DURATION_S = 60.0
"""Of each run of a search, if none is given."""


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="python -m benchmarks.load",
        description="Streams speech to a server as many people at once would, and measures what each of them sees.",
    )
    server = made.add_argument_group("server")
    server.add_argument("--url", default=DEFAULT_URL, help="where it is (default: %(default)s)")
    server.add_argument("--protocol", choices=tuple(PROTOCOLS), default="native", help="default: %(default)s")
    server.add_argument("--model", default="", help="where the protocol names one")
    server.add_argument(
        "--api-key", default=os.environ.get(API_KEY_VARIABLE, ""), metavar="KEY", help=f"default: ${API_KEY_VARIABLE}"
    )
    server.add_argument(
        "--query",
        action="append",
        default=[],
        type=assignment,
        metavar="NAME=VALUE",
        help="more for the query of the address, such as endpoint_ms=300; may be repeated",
    )
    server.add_argument("--server-pid", type=int, metavar="PID", help="sample CPU and memory of this process")
    server.add_argument("--metrics-url", metavar="URL", help="default: /metrics of the same address, if it is ours")

    speech = made.add_argument_group("speech")
    add_speech_option(made)
    add_sets_option(made)
    speech.add_argument("--clips", type=positive, metavar="N", help="that many, spread over each set; default all")
    speech.add_argument("--language", metavar="CODE", help="only clips of this language")
    speech.add_argument("--detect", action="store_true", help="do not force the clip's language")
    speech.add_argument("--chunk-ms", type=positive, default=50, metavar="MS", help="default: %(default)s")
    speech.add_argument(
        "--trailing", type=seconds, default=1.0, metavar="S", help="silence after each clip (default: %(default)s)"
    )
    speech.add_argument(
        "--finalize",
        nargs="?",
        const="end",
        choices=("end", "pipecat"),
        help="ask for the final at the end of each clip, or as Pipecat does, 0.2 s after Silero's ends of speech, and"
        " measure from there (alone: end)",
    )

    speech.add_argument(
        "--no-word-times", action="store_true", help="do not find out first when each word of the clips is spoken"
    )

    load = made.add_argument_group("load")
    load.add_argument("--streams", type=positive, default=1, metavar="N", help="at once (default: %(default)s)")
    load.add_argument(
        "--duration", type=seconds, metavar="S", help="speak clip after clip for S seconds; default: each once"
    )
    load.add_argument(
        "--ramp", type=seconds, metavar="S", help="streams begin over S seconds; default: a clip's length"
    )
    load.add_argument("--seed", type=int, default=0, help="of order and stagger (default: %(default)s)")
    load.add_argument(
        "--patience", type=seconds, default=30.0, metavar="S", help="wait S seconds for the end (default: %(default)s)"
    )
    load.add_argument("--search", action="store_true", help="find the most streams within the objective")
    load.add_argument(
        "--objective-s",
        type=seconds,
        default=2.0,
        metavar="S",
        help="p95 of TTFS for --search (default: %(default)s)",
    )
    load.add_argument("--max-streams", type=positive, default=1024, metavar="N", help="of --search; default: 1024")

    output = made.add_argument_group("output")
    output.add_argument("--name", default="", help="of the server, for the report; default: the protocol's")
    output.add_argument("--json", type=Path, metavar="FILE", help="everything, for programs")
    output.add_argument("--html", type=Path, metavar="FILE", help="a report that opens in a browser, offline")
    output.add_argument("--png", type=Path, metavar="FILE", help="its plots")
    output.add_argument("--logs", type=Path, metavar="FILE", help="every packet with its time, as JSON lines")
    output.add_argument("--quiet", action="store_true", help="no progress")
    return made


def target(options: argparse.Namespace) -> Target:
    return Target(options.url, options.model, options.api_key, dict(options.query))


def plan(options: argparse.Namespace, streams: int) -> Plan:
    manner = Manner(options.finalize is not None, not options.detect, options.patience)
    duration_s = SEARCH_DURATION_S if options.search and options.duration is None else options.duration
    return Plan(streams, duration_s, options.ramp, options.seed, manner)


def configuration(options: argparse.Namespace) -> dict[str, Any]:
    """All options, for the record; without the key."""
    record = {name: str(value) if isinstance(value, Path) else value for name, value in vars(options).items()}
    return record | {"api_key": bool(options.api_key), "query": dict(options.query)}

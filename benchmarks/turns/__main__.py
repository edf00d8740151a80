"""How well ends of turns are decided, by the measure of LiveKit's eot-bench.

    python -m benchmarks.turns --speech DIR --set conversation
    python -m benchmarks.turns --data eot-bench-data/en --session endpoint_ms=300 --session endpoint_ms=800
    python -m benchmarks.turns --data eot-bench-data/en --judge turn --session profile=agent
    python -m benchmarks.turns --data eot-bench-data/en --url ws://localhost:8000 --protocol deepgram

`--data` takes any data set in eot-bench's published schema (`id`, `language`, `audio`, `silence_spans`), as Parquet or
as JSON Lines with paths of audio files. `--speech` and `--set` make turns from speech: talk with its speakers' turns
has real ends, read speech has not (docs/benchmarks.md says what each can show).
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.accuracy.in_process import InProcess
from benchmarks.accuracy.sources import SourceUnavailable, opened
from benchmarks.accuracy.working import finished
from benchmarks.common.arguments import assignment, positive, session_setting
from benchmarks.common.interruption import INTERRUPTED
from benchmarks.common.protocols.registry import PROTOCOLS, BadTarget, Target, make_adapter
from benchmarks.common.setting import setting
from benchmarks.common.speech import NoSpeech, add_speech_option, clips, evenly_spaced
from benchmarks.turns.decided import Decisions, names_of
from benchmarks.turns.judged import Judgements, ask
from benchmarks.turns.made import rows_of
from benchmarks.turns.report import show, swept
from benchmarks.turns.rows import Row, read_rows
from benchmarks.turns.served import play
from benchmarks.turns.simulated import simulate
from benchmarks.turns.sweep import Scored
from streaming_asr.core.options import OptionError, SessionOptions
from streaming_asr.core.turn import TurnDetector
from streaming_asr.engine.process import limit_blas_threads
from streaming_asr.recognizers.choose import factory_for
from streaming_asr.turns.detectors import TURN_DETECTORS, make_turn_detector

API_KEY_VARIABLE = "STREAMING_ASR_API_KEY"
DEFAULT_SETS = ("conversation",)
DECODE_S = 0.1
FAILED = 1
Setting = tuple[tuple[str, Any], ...]


def main(argv: Sequence[str] | None = None) -> int:
    """Run; returns the exit status."""
    limit_blas_threads()
    options = _parser().parse_args(argv)
    try:
        if options.json:
            options.json.parent.mkdir(parents=True, exist_ok=True)
            options.json.open("a").close()
        return _measure(options, _rows(options))
    except (NoSpeech, SourceUnavailable, BadTarget, OSError) as error:
        print(f"benchmarks.turns: {error}", file=sys.stderr)
        return FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.turns",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    turns = parser.add_argument_group("turns")
    turns.add_argument("--data", type=Path, metavar="PATH", help="file or folder in eot-bench's schema")
    add_speech_option(parser)
    turns.add_argument(
        "--set",
        action="append",
        dest="sets",
        metavar="NAME",
        help=f"of --speech; may be repeated (default: {', '.join(DEFAULT_SETS)})",
    )
    turns.add_argument("--clips", type=positive, metavar="N", help="that many clips or rows, spread over each set")
    turns.add_argument("--language", metavar="CODE", help="only turns of this language")
    own = parser.add_argument_group("sessions in this process, on a simulated clock")
    own.add_argument(
        "--session",
        action="append",
        default=[],
        type=_session,
        metavar="NAME=VALUE,...",
        help="options of docs/protocol.md, such as endpoint_ms=800; may be repeated to compare",
    )
    own.add_argument(
        "--judge",
        action="append",
        default=[],
        choices=tuple(name for name in TURN_DETECTORS if name != "silence"),
        metavar="NAME",
        help="turn detector (a value of `endpointing`) to ask at each silence, without a session; may be repeated",
    )
    own.add_argument("--model", help="as of `streaming-asr serve`; default: the embedded Whisper")
    own.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"), help="faster-whisper's device")
    own.add_argument("--compute-type", help="CTranslate2's arithmetic")
    own.add_argument("--workers", type=positive, metavar="N", help="decodes that faster-whisper runs at once")
    server = parser.add_argument_group("or a server, at the pace of speech")
    server.add_argument("--url", help="such as ws://localhost:8000")
    server.add_argument("--protocol", choices=tuple(PROTOCOLS), default="native", help="default: %(default)s")
    server.add_argument("--server-model", default="", metavar="NAME", help="where the protocol names one")
    server.add_argument("--api-key", default=os.environ.get(API_KEY_VARIABLE, ""), help=f"default: ${API_KEY_VARIABLE}")
    server.add_argument(
        "--query",
        action="append",
        default=[],
        type=assignment,
        metavar="NAME=VALUE",
        help="more for the query of the address, such as endpointing=300; may be repeated",
    )
    server.add_argument("--streams", type=positive, default=1, metavar="N", help="at once (default: %(default)s)")
    server.add_argument("--chunk-ms", type=positive, default=50, metavar="MS", help="default: %(default)s")
    server.add_argument("--detect", action="store_true", help="do not force the language")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything there, configuration included")
    return parser


def _session(text: str) -> Setting:
    return tuple(session_setting(part) for part in text.split(","))


def _rows(options: argparse.Namespace) -> dict[str, list[Row]]:
    """The turns of each set.

    Raises:
        NoSpeech: there are none.
    """
    found: dict[str, list[Row]] = {}
    if options.data is not None:
        rows = [row for row in read_rows(options.data) if options.language in (None, row.language)]
        found[options.data.name] = evenly_spaced(rows, options.clips)
    for name in options.sets or (DEFAULT_SETS if options.data is None else ()):
        of_set = [clip for clip in clips(options.speech, name) if options.language in (None, clip.language)]
        found[name] = rows_of(evenly_spaced(of_set, options.clips))
    if empty := [name for name, rows in found.items() if not rows]:
        raise NoSpeech(
            f"the set {empty[0]!r} has no turn" + f" of language {options.language!r}" * bool(options.language)
        )
    return found


def _measure(options: argparse.Namespace, sets: dict[str, list[Row]]) -> int:
    decided: dict[str, list[Decisions]] = {name: [] for name in sets}
    judged: dict[str, list[Judgements]] = {name: [] for name in sets}

    async def run() -> None:
        if options.url:
            await _play(options, sets, decided)
        if options.session or options.judge:
            await _simulate(options, sets, decided, judged)

    whole = finished(run)
    console = Console()
    results = []
    complete = True
    for name, rows in sets.items():
        silences = [Scored(silence) for row in rows for silence in row.silences]
        done = [one for one in decided[name] if one.played or one.left_out]
        by_score = [system for one in judged[name] for system in one.systems()]
        systems = swept(silences, [*by_score, *((one.name, one.scored()) for one in done)])
        left_out = [
            *(why for one in judged[name] for why in one.left_out),
            *(why for one in done for why in one.left_out),
        ]
        show(name, silences, systems, done, left_out, console)
        complete = complete and not left_out
        results.append(
            {
                "set": name,
                "turns": len(rows),
                "swept": [system.as_json() for system in systems],
                "judged": [one.as_json() for one in judged[name]],
                "decided": [one.as_json() for one in done],
            }
        )
    if options.json:
        report = {"interrupted": not whole, "configuration": _configuration(options), "setting": setting()}
        options.json.write_text(json.dumps({**report, "sets": results}, indent=1, ensure_ascii=False), encoding="utf-8")
    if not whole:
        print("Stopped; this is what was done until then.", file=sys.stderr)
        return INTERRUPTED
    return 0 if complete else FAILED


async def _play(options: argparse.Namespace, sets: dict[str, list[Row]], decided: dict[str, list[Decisions]]) -> None:
    target = Target(options.url, options.server_model, options.api_key, dict(options.query))
    adapter = make_adapter(options.protocol, target)
    for name, rows in sets.items():
        decided[name].append(Decisions(f"{options.protocol}: {names_of(options.query)}"))
        await play(
            adapter,
            rows,
            decided[name][-1],
            at_once=options.streams,
            chunk_ms=options.chunk_ms,
            send_language=not options.detect,
        )


async def _simulate(
    options: argparse.Namespace,
    sets: dict[str, list[Row]],
    decided: dict[str, list[Decisions]],
    judged: dict[str, list[Judgements]],
) -> None:
    own = InProcess(factory_for(options.model).create(options), {"partials": False}, DECODE_S)
    detectors = [(detector, name) for name in options.judge if (detector := _detector(name)) is not None]
    async with opened(own):
        sources = [(names_of(given), own.with_options({"partials": False, **dict(given)})) for given in options.session]
        for name, rows in sets.items():
            for named, source in sources:
                decided[name].append(Decisions(named))
                await simulate(source, rows, decided[name][-1])
            for detector, named in detectors:
                judged[name].append(Judgements(named))
                await ask(detector, own, rows, judged[name][-1])


def _detector(name: str) -> TurnDetector | None:
    try:
        return make_turn_detector(SessionOptions(endpointing=name))
    except OptionError as error:
        raise SourceUnavailable(str(error)) from None


def _configuration(options: argparse.Namespace) -> dict[str, Any]:
    plain = {name: value for name, value in vars(options).items() if name != "api_key"}
    return {name: str(value) if isinstance(value, Path) else value for name, value in plain.items()}


if __name__ == "__main__":
    raise SystemExit(main())

"""How right the text is.

    python -m benchmarks.accuracy --speech DIR --set librispeech --clips 60 --html report.html
    python -m benchmarks.accuracy hallucination --speech DIR
    python -m benchmarks.accuracy long --speech DIR
    python -m benchmarks.accuracy guide --speech LibriSpeech/test-clean --set . --url http://localhost:8000

Without a command: compare.
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

from benchmarks.accuracy.compare import Comparison
from benchmarks.accuracy.compare_page import page
from benchmarks.accuracy.compare_report import show
from benchmarks.accuracy.guide import Guide, Samples
from benchmarks.accuracy.hallucination import Hallucinations
from benchmarks.accuracy.long_session import LongSessions
from benchmarks.accuracy.openai_server import OpenAIServer, Request, RequestFailed
from benchmarks.accuracy.options import (
    DECODE_MS,
    add_report,
    add_source,
    add_speech,
    chosen,
    configuration,
    sources,
)
from benchmarks.accuracy.sources import SourceUnavailable, opened
from benchmarks.accuracy.working import finished
from benchmarks.common.arguments import positive
from benchmarks.common.interruption import INTERRUPTED
from benchmarks.common.setting import setting
from benchmarks.common.speech import Clip, NoSpeech, evenly_spaced
from streaming_asr.engine.process import limit_blas_threads

COMMANDS = ("compare", "hallucination", "long", "guide")
FAILED = 1


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status."""
    limit_blas_threads()
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] not in (*COMMANDS, "-h", "--help"):
        arguments = ["compare", *arguments]
    parser = _parser()
    options, engine = parser.parse_known_args(arguments)
    options.engine = engine
    if engine and not getattr(options, "model", None):
        parser.error(f"unrecognized arguments: {' '.join(engine)}")
    run = {"compare": _compare, "hallucination": _hallucination, "long": _long, "guide": _guide}[options.command]
    try:
        for file in (options.json, getattr(options, "html", None)):
            _check_writable(file)
        return run(options)
    except (NoSpeech, SourceUnavailable, RequestFailed, OSError) as error:
        print(f"benchmarks.accuracy: {error}", file=sys.stderr)
        return FAILED


def _parser() -> argparse.ArgumentParser:
    doc = (__doc__ or "").strip()
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.accuracy", description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar=" | ".join(COMMANDS))

    compare = commands.add_parser("compare", help="whole files, finals and partials side by side", allow_abbrev=False)
    add_speech(compare, "librivox")
    add_source(compare, decode_ms=DECODE_MS)
    compare.add_argument(
        "--against-whole",
        action="store_true",
        help="the reference is the model's text of the whole file: for clips without one, what the cuts change",
    )
    compare.add_argument("--errors", type=int, default=10, metavar="N", help="clips to show errors of (default 10)")
    compare.add_argument("--html", type=Path, metavar="FILE", help="write a page with all errors there")
    add_report(compare)

    hallucination = commands.add_parser("hallucination", help="words in recordings without speech", allow_abbrev=False)
    add_speech(hallucination, "nonspeech")
    add_source(hallucination, decode_ms=DECODE_MS)
    add_report(hallucination)

    long = commands.add_parser("long", help="long recordings in one session", allow_abbrev=False)
    add_speech(long, "long_form")
    add_source(long, decode_ms=None)
    add_report(long)

    guide = commands.add_parser("guide", help="the Qwen3-ASR deployment guide's two tables", allow_abbrev=False)
    add_speech(guide, ".")
    _add_guide_options(guide)
    add_report(guide)
    return parser


def _add_guide_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("server")
    group.add_argument("--url", default="http://localhost:8000", help="default: %(default)s")
    group.add_argument("--model", help="default: the first that the server offers")
    group.add_argument("--api-key", default=os.environ.get("OPENAI_API_KEY"), help="default: $OPENAI_API_KEY")
    group.add_argument(
        "--request",
        type=Request,
        choices=list(Request),
        default=Request.TRANSCRIPTIONS,
        metavar="|".join(request.value for request in Request),
        help="how audio is sent: as a file, or inside a chat (default: transcriptions)",
    )
    group.add_argument("--samples", type=positive, default=500, metavar="N", help="for accuracy (default 500)")
    group.add_argument(
        "--throughput-samples", type=int, default=100, metavar="N", help="for throughput (default 100; 0 leaves it out)"
    )
    group.add_argument("--concurrency", type=positive, default=1, metavar="N", help="requests at once (default 1)")
    group.add_argument("--timeout-s", type=float, default=120.0, metavar="S", help="for each (default 120)")
    group.add_argument("--send-language", action="store_true", help="name the clip's language in each request")


def _compare(options: argparse.Namespace) -> int:
    sets, (streams, files) = chosen(options), sources(options)
    comparison = Comparison()

    async def run() -> None:
        async with opened(streams, files):
            await comparison.run(streams, files, sets, detect=options.detect, against_whole=options.against_whole)

    whole = finished(run)
    console = Console()
    show(comparison, console, errors=options.errors)
    report = _report(options, comparison.as_json(), whole)
    if options.html:
        about = {name: report[name] for name in ("command", "configuration", "setting", "interrupted")}
        options.html.write_text(page(comparison, about), encoding="utf-8")
    return _status(whole, bad=not comparison.done)


def _hallucination(options: argparse.Namespace) -> int:
    noises, (streams, files) = _all(chosen(options)), sources(options)
    found = Hallucinations()

    async def run() -> None:
        async with opened(streams, files):
            await found.run(streams, files, noises)

    whole = finished(run)
    found.show(Console())
    _report(options, found.as_json(), whole)
    return _status(whole, bad=not found.done)


def _long(options: argparse.Namespace) -> int:
    recordings, (streams, files) = _all(chosen(options)), sources(options)
    sessions = LongSessions()

    async def run() -> None:
        async with opened(streams, files):
            await sessions.run(streams, files, recordings, detect=options.detect)

    whole = finished(run)
    sessions.show(Console())
    _report(options, sessions.as_json(), whole)
    return _status(whole, bad=bool(sessions.left_out) or not sessions.done)


def _guide(options: argparse.Namespace) -> int:
    clips = [clip for clip in _all(chosen(options)) if clip.text]
    for_accuracy, for_throughput = (
        evenly_spaced(clips, options.samples),
        evenly_spaced(clips, options.throughput_samples),
    )
    guide = Guide(Samples(len(for_accuracy)), Samples(len(for_throughput)))

    async def run() -> None:
        server = OpenAIServer(options.url, model=options.model, api_key=options.api_key, timeout_s=options.timeout_s)
        await guide.run(
            server,
            for_accuracy,
            for_throughput,
            options.request,
            at_once=options.concurrency,
            send_language=options.send_language,
        )

    whole = finished(run)
    guide.show(Console())
    _report(options, guide.as_json(), whole)
    return _status(whole, bad=bool(guide.accuracy.failures or guide.throughput.failures))


def _all(sets: dict[str, list[Clip]]) -> list[Clip]:
    return [clip for of_set in sets.values() for clip in of_set]


def _status(whole: bool, *, bad: bool) -> int:
    if not whole:
        print("Stopped; this is what was done until then.", file=sys.stderr)
        return INTERRUPTED
    return FAILED if bad else 0


def _report(options: argparse.Namespace, results: dict[str, Any], whole: bool) -> dict[str, Any]:
    """Everything, which is also written where it was asked for."""
    report = {
        "command": options.command,
        "interrupted": not whole,
        "configuration": configuration(options),
        "setting": setting(),
        **results,
    }
    if options.json:
        options.json.write_text(json.dumps(report, indent=1, ensure_ascii=False), encoding="utf-8")
    return report


def _check_writable(file: Path | None) -> None:
    """Check that a file can be written: better before an hour's run than after.

    Raises:
        OSError: it can't.
    """
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.open("a").close()


if __name__ == "__main__":
    raise SystemExit(main())

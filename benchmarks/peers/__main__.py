"""`python -m benchmarks.peers`: other servers and this one, with the same speech, weights and machine, in turns."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.common.arguments import positive
from benchmarks.common.interruption import INTERRUPTED, heed_sigterm
from benchmarks.common.setting import setting
from benchmarks.common.speech import OWN, Clip, NoSpeech, add_speech_option, clips
from benchmarks.common.word_times import timed_words
from benchmarks.load.utterances import cut
from benchmarks.peers.environments import python_of, versions_in
from benchmarks.peers.measure import Course, Standing, measure
from benchmarks.peers.peer import Peer, PeerUnavailable, Place
from benchmarks.peers.registry import PEERS
from benchmarks.peers.report import as_html, as_json, as_png
from benchmarks.peers.table import as_markdown, as_table, remarks
from streaming_asr.core.recognizer import SAMPLE_RATE, RecognizerUnavailable
from streaming_asr.recognizers.whisper.weights import find_weights

CACHE = Path(__file__).parent.parent.parent / ".peers"
"""Git ignores it."""


def main(argv: Sequence[str] | None = None) -> int:
    made = parser()
    options = made.parse_args(argv)
    heed_sigterm()
    try:
        weights = find_weights("tiny.en")
        course = _course(options)
        return asyncio.run(_compare(options, weights, course))
    except (NoSpeech, RecognizerUnavailable, OSError) as error:
        made.exit(2, f"{error}\n")
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return INTERRUPTED


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="python -m benchmarks.peers",
        description="Measures other speech servers beside this one: same speech, same weights, same machine, in turns.",
    )
    add_speech_option(made)
    made.add_argument("--set", default="librivox", help="name of the set (default: the clips of the tests)")
    made.add_argument("--clips", type=int, metavar="N", help="that many, spread over the set; default all")
    made.add_argument("--peers", type=_names, default=tuple(PEERS), metavar="A,B", help=f"of {', '.join(PEERS)}")
    made.add_argument("--streams", type=_numbers, default=(1,), metavar="N,M", help="at once (default 1)")
    made.add_argument("--rounds", type=positive, default=3, metavar="N", help="of turns; the clips are shared out")
    made.add_argument("--trailing", type=float, default=2.0, metavar="S", help="silence after a clip (default 2)")
    made.add_argument("--chunk-ms", type=positive, default=100, metavar="MS", help="default 100")
    made.add_argument(
        "--patience", type=float, default=30.0, metavar="S", help="wait S seconds for the end; default 30"
    )
    made.add_argument("--search", action="store_true", help="find the most streams within the objective too")
    made.add_argument("--objective-s", type=float, default=2.0, metavar="S", help="p95 of TTFS; default 2")
    made.add_argument("--max-streams", type=positive, default=64, metavar="N", help="of --search; default 64")
    made.add_argument("--cache", type=Path, default=CACHE, metavar="DIR", help="environments (default: .peers)")
    made.add_argument(
        "--pip-option",
        action="append",
        default=[],
        metavar="OPTION",
        help="for the installations, such as --pip-option=--find-links=DIR; may be repeated",
    )
    made.add_argument("--json", type=Path, metavar="FILE", help="everything, for programs")
    made.add_argument("--html", type=Path, metavar="FILE", help="a report that opens in a browser, offline")
    made.add_argument("--png", type=Path, metavar="FILE", help="its plot")
    made.add_argument("--markdown", type=Path, metavar="FILE", help="its table")
    made.add_argument("--quiet", action="store_true", help="no progress")
    return made


async def _compare(options: argparse.Namespace, weights: Path, course: Course) -> int:
    console = Console()
    logs = options.cache / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    standings = [_installed(PEERS[name], options, weights, console) for name in options.peers]
    try:
        await measure(standings, course, logs, console, None if options.quiet else Console(stderr=True))
    finally:
        # What there is when Ctrl-C ends it is reported too.
        _tell(options, standings, console)
    good = all(standing.results and not standing.unavailable for standing in standings)
    return 0 if good else 1


def _installed(peer: Peer, options: argparse.Namespace, weights: Path, console: Console) -> Standing:
    folder = (options.cache / (peer.environment or peer.name)).resolve()
    speech = OWN / "librivox" / f"{clips(OWN, 'librivox')[0].id}.wav"
    place = Place(Path(sys.executable), folder, 0, weights, speech)
    standing = Standing(peer, place)
    try:
        console.print(f"{peer.title}: {' '.join(peer.packages) or 'as it is here'}", markup=False)
        python = python_of(peer, options.cache.resolve(), options.pip_option)
        standing.place = place = Place(python, folder, 0, weights, speech)
        if peer.prepare is not None:
            peer.prepare(place)
        standing.versions = versions_in(python)
    except PeerUnavailable as reason:
        standing.unavailable = str(reason)
        console.print(f"{peer.title}: {reason}", markup=False)
    return standing


def _course(options: argparse.Namespace) -> Course:
    found = [clip for clip in clips(options.speech, options.set) if clip.language == "en"]
    if not found:
        raise NoSpeech(f"the set {options.set!r} has no clip in English, which is what the common weights know")
    step = max(1, len(found) // (options.clips or len(found)))
    chosen = found[::step][: options.clips]
    words = timed_words(chosen)

    def ready(some: Sequence[Clip]) -> Any:
        return cut(some, rate=SAMPLE_RATE, chunk_ms=options.chunk_ms, trailing_s=options.trailing, words=words)

    return Course(
        speech=ready(chosen),
        warm_up=ready([min(clips(OWN, "librivox"), key=lambda clip: clip.duration_s or 0.0)]),
        streams=options.streams,
        rounds=min(options.rounds, len(chosen)),
        search=options.search,
        objective_s=options.objective_s,
        max_streams=options.max_streams,
        patience_s=options.patience,
    )


def _tell(options: argparse.Namespace, standings: Sequence[Standing], console: Console) -> None:
    console.print(as_table(standings))
    for remark in remarks(standings):
        console.print(remark, markup=False, highlight=False)
    configuration = {name: _plain(value) for name, value in vars(options).items()}
    result = as_json(configuration, setting() | {"load_average": os.getloadavg()}, standings)
    png = as_png(standings) if options.png or options.html else b""
    if options.json:
        options.json.write_text(json.dumps(result, ensure_ascii=False, indent=1), encoding="utf-8")
    if options.png:
        options.png.write_bytes(png)
    if options.html:
        options.html.write_text(as_html(result, standings, png), encoding="utf-8")
    if options.markdown:
        options.markdown.write_text(as_markdown(standings) + "\n", encoding="utf-8")


def _plain(value: object) -> object:
    return str(value) if isinstance(value, Path) else value


def _names(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    unknown = [name for name in names if name not in PEERS]
    if unknown or not names:
        raise argparse.ArgumentTypeError(f"{text!r} names no peer; there are {', '.join(PEERS)}")
    return names


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(positive(part) for part in text.split(","))


if __name__ == "__main__":
    sys.exit(main())

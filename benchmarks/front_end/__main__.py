"""Everything but the recognizer: how many sessions at 1x one core holds, and what a second of audio costs there.

    python -m benchmarks.front_end
    python -m benchmarks.front_end --sessions 1000 1000 1000 --seconds 60

A null recognizer answers every decode with fixed words. The server has one core to itself, the clients another;
sessions are added until the server is late, loses audio or loses somebody. Naming a number again measures the same
sessions when they are older.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from rich.console import Console

from benchmarks.common.arguments import positive, seconds
from benchmarks.common.interruption import INTERRUPTED, heed_sigterm
from benchmarks.common.speech import NoSpeech, add_speech_option, clips
from benchmarks.front_end.crowding import Crowding, measure_crowding
from benchmarks.front_end.material import Material, speech_loop, wire_material
from benchmarks.front_end.process import ChildFailed
from benchmarks.front_end.stages import Minute, Stages, measure_length, measure_stages
from benchmarks.front_end.tables import crowding_table, minutes_table, stages_table, steps_table
from benchmarks.front_end.trial import Farewell, Setting, Step, Trial
from streaming_asr.core.options import OptionError, SessionOptions
from streaming_asr.engine.process import limit_blas_threads
from streaming_asr.voice.detectors import DETECTORS

SEARCH = (100, 250, 500, 750, 1000, 1250, 1500, 1750, 2000, 2500, 3000, 4000, 5000)
"""Sessions, from few to more than hold."""
TOGETHER = (1, 30)
"""Sessions whose questions to Silero are answered together when the stages are timed: one alone, and about as many as
ask a full server at once."""
CROWDED = (100, 400, 1600)
"""Sessions that ask one recognizer for more and more."""
LOOP_S = 120.0
"""Length of what the sessions play."""
_PACKAGES = ("numpy", "soxr", "uvicorn", "uvloop", "websockets", "webrtcvad-wheels", "msgspec")


@dataclass
class Results:
    """All that was measured, as far as it got."""

    stages: list[Stages] = field(default_factory=list)
    minutes: list[Minute] = field(default_factory=list)
    crowding: list[Crowding] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    farewell: Farewell | None = None


def main(argv: Sequence[str] | None = None) -> int:
    limit_blas_threads()
    parser = _parser()
    options = parser.parse_args(argv)
    heed_sigterm()
    cores = _cores(parser, options)
    try:
        session = SessionOptions(vad=options.vad, sample_rate=options.sample_rate)
        material = _material(options)
    except (NoSpeech, OptionError) as error:
        parser.exit(1, f"{error}\n")
    results = Results()
    console = Console(width=None if sys.stdout.isatty() else 160)
    status = 0
    try:
        _measure(options, cores, session, material, results, console)
    except KeyboardInterrupt:
        console.print("Interrupted; what was measured so far stands.")
        status = INTERRUPTED
    except ChildFailed as error:
        print(f"{error}", file=sys.stderr)
        status = 1
    if options.json:
        result = {"configuration": _configuration(options, material), **asdict(results)}
        options.json.write_text(json.dumps(result, indent=1) + "\n")
    return status


def _measure(
    options: argparse.Namespace,
    cores: tuple[int, int],
    session: SessionOptions,
    material: Material,
    results: Results,
    console: Console,
) -> None:
    progress = Console(stderr=True)
    if options.only != "sessions":
        with progress.status("Timing the stages"):
            results.stages = [measure_stages(material, session, together) for together in TOGETHER]
        console.print(stages_table(results.stages))
        with progress.status("Timing one long session") as status:
            for minute in measure_length(material, session, options.minutes):
                results.minutes.append(minute)
                status.update(f"Timing one long session: minute {minute.number} of {options.minutes}")
        console.print(minutes_table(results.minutes))
        with progress.status("Timing the scheduler"):
            results.crowding = [measure_crowding(material, sessions) for sessions in CROWDED]
        console.print(crowding_table(results.crowding))
    if options.only == "stages":
        return
    setting = Setting(
        query=f"vad={options.vad}",
        seconds=options.seconds,
        slots=options.slots,
        decode_s=options.decode_ms / 1000,
        server_core=cores[0],
        crowd_core=cores[1],
    )
    with progress.status("Starting the server") as status, Trial(setting, material) as trial:
        try:
            searching = options.sessions is None
            for step in trial.steps(options.sessions or SEARCH, status.update, until_lost=searching):
                results.steps.append(step)
                progress.print(
                    f"{step.sessions} sessions: {step.verdict}, {step.cpu_ms:.2f} ms of CPU for a second of audio, "
                    f"lag p99 {step.lag_ms.p99:.1f} ms, processed within {step.wait_ms:g} ms",
                    soft_wrap=True,
                )
            status.update("Letting the sessions end")
            results.farewell = trial.farewell()
        finally:
            console.print(steps_table(results.steps, results.stages[-1] if results.stages else None))
    end = results.farewell
    console.print(f"{end.done} of {end.sessions} sessions ended as they should, within {end.took_s:.1f} s")
    held = max((step.sessions for step in results.steps if step.holds), default=0)
    kept_up = max((step.sessions for step in results.steps if step.keeps_up), default=0)
    late = f"; it kept up with {kept_up}, but processed their audio late" if kept_up > held else ""
    console.print(f"Most sessions that held on one core: {held}{late}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.front_end",
        description=(__doc__ or "").split("\n\n", 1)[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add_speech_option(parser)
    parser.add_argument("--set", default="librivox", help="name of the set of speech")
    parser.add_argument("--speech-share", type=_share, default=0.5, metavar="0..1", help="of the time that clips fill")
    parser.add_argument("--sample-rate", type=int, default=16_000, metavar="HZ", help="of the wire's audio")
    parser.add_argument(
        "--chunk-ms", type=int, default=100, choices=(20, 40, 50, 100, 200), help="audio in a message; 20 is telephony"
    )
    parser.add_argument("--vad", default=SessionOptions().vad, choices=tuple(DETECTORS))
    parser.add_argument(
        "--sessions", type=positive, nargs="+", metavar="N", help=f"numbers to measure; None: {SEARCH} while they hold"
    )
    parser.add_argument("--seconds", type=_window, default=10.0, help="measured at each number")
    parser.add_argument(
        "--minutes", type=positive, default=60, help="length of the long session, timed without sockets"
    )
    parser.add_argument("--decode-ms", type=float, default=0.0, help="that the null recognizer makes each decode wait")
    parser.add_argument("--slots", type=positive, default=64, help="decodes that it does at once")
    parser.add_argument("--cores", type=int, nargs=2, metavar=("SERVER", "CLIENTS"), help="default: the first two")
    parser.add_argument("--only", choices=("stages", "sessions"), help="leave out the other half")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    return parser


def _cores(parser: argparse.ArgumentParser, options: argparse.Namespace) -> tuple[int, int]:
    if not hasattr(os, "sched_setaffinity"):
        parser.exit(1, "this needs Linux: nowhere else can a process be kept on one core\n")
    ours = sorted(os.sched_getaffinity(0))
    server, clients = options.cores or (ours * 2)[:2]
    for core in (server, clients):
        if core not in ours:
            parser.exit(1, f"this machine has no core {core}; it has {', '.join(map(str, ours))}\n")
    if server == clients and options.only != "stages":
        parser.exit(1, "two cores are needed: clients on the server's own core would take what it is measured by\n")
    return server, clients


def _material(options: argparse.Namespace) -> Material:
    recordings = [audio for clip in clips(options.speech, options.set) if len(audio := clip.audio())]
    if not recordings:
        raise NoSpeech(f"the set {options.set} has no clip with audio")
    return wire_material(speech_loop(recordings, options.speech_share, LOOP_S), options.sample_rate, options.chunk_ms)


def _configuration(options: argparse.Namespace, material: Material) -> dict[str, object]:
    """What must be known to repeat the run."""
    given = {name: str(value) if isinstance(value, Path) else value for name, value in vars(options).items()}
    return {
        **given,
        "material_s": material.seconds,
        "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in ("streaming-asr", *_PACKAGES)},
    }


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _window(text: str) -> float:
    value = seconds(text)
    if not 0.5 <= value <= 3600:
        raise argparse.ArgumentTypeError(f"{value:g} is out of range; 0.5 to 3600 s")
    return value


def _share(text: str) -> float:
    value = float(text)
    if not 0.05 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{value:g} is out of range; 0.05 to 1")
    return value


if __name__ == "__main__":
    raise SystemExit(main())

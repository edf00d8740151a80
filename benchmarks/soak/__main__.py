"""`python -m benchmarks.soak`: a server under changing use for a long time, and whether what it takes grows.

Some people speak all the time, in sessions of real speech over three protocols; others connect, say something and
leave in every way that there is; others send recordings. Memory, descriptors, tasks and the event loop's lag are
recorded throughout. The status is 0 if they stayed flat, nothing was left behind and every session got its end.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import psutil
from rich.console import Console
from rich.table import Table

from benchmarks.accuracy.served import wav
from benchmarks.common.arguments import positive, seconds
from benchmarks.common.interruption import INTERRUPTED, heed_sigterm
from benchmarks.common.leaving import leave
from benchmarks.common.own_server import OwnServer, ServerFailed
from benchmarks.common.protocols.registry import Target, make_adapter
from benchmarks.common.session_log import Outcome
from benchmarks.common.setting import setting
from benchmarks.common.speech import NoSpeech, add_sets_option, add_speech_option, clips_of
from benchmarks.common.stats import spread
from benchmarks.load.crowd import Crowd, Plan, Run
from benchmarks.load.figures import by_set, figures
from benchmarks.load.server_side import metrics_url
from benchmarks.load.utterances import Utterance, cut
from benchmarks.soak.judging import Sample, as_json, complaints, quarters
from benchmarks.soak.watching import ServerGone, Watcher

PROTOCOLS = ("native", "openai", "deepgram")
SETTLED_S = 75.0
"""After the last client has left; a session waits for a lost client for 60 s."""
_MIN_SAMPLES = 8


@dataclass
class Visits:
    """What the clients beside the speakers came to."""

    left: Counter[str] = field(default_factory=Counter)
    """Sessions by the way in which they were left."""
    recordings: Counter[str] = field(default_factory=Counter)
    """By HTTP status."""
    failures: Counter[str] = field(default_factory=Counter)
    """Clients that got no answer at all, by why."""


def main(argv: Sequence[str] | None = None) -> int:
    parser = _parser()
    options = parser.parse_args(argv)
    heed_sigterm()
    if (options.url is None) != (options.server_pid is None):
        parser.error("--url and --server-pid belong together; without them a server is started")
    try:
        speech = clips_of(options.speech, options.sets)
        spoken = {rate: cut(speech, rate=rate, chunk_ms=50, trailing_s=1.0) for rate in (16_000, 24_000)}
        if not spoken[16_000]:
            raise NoSpeech("no clip is left to speak")
        with ExitStack() as stack:
            if options.url is None:
                server = stack.enter_context(OwnServer(options.serve))
                options.url, options.server_pid = server.url, server.pid
            return asyncio.run(_soak(options, spoken))
    except (NoSpeech, ServerFailed, psutil.Error, OSError) as error:
        parser.exit(2, f"{error}\n")
    except KeyboardInterrupt:
        return INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=(__doc__ or "").partition("\n\n")[2])
    made.add_argument("--minutes", type=positive, default=60, metavar="N", help="default: %(default)s")
    made.add_argument(
        "--streams", type=positive, default=3, metavar="N", help="people who speak (default: %(default)s)"
    )
    made.add_argument(
        "--leavers", type=seconds, default=2.0, metavar="N", help="short sessions a second (default: %(default)g)"
    )
    made.add_argument(
        "--recordings", type=seconds, default=4.0, metavar="N", help="recordings a minute (default: %(default)g)"
    )
    made.add_argument(
        "--every", type=seconds, default=10.0, metavar="S", help="seconds between samples (default: %(default)g)"
    )
    add_speech_option(made)
    add_sets_option(made)
    made.add_argument("--seed", type=int, default=0, metavar="N")
    made.add_argument("--url", help="of a server that runs; without it, one is started")
    made.add_argument("--server-pid", type=positive, metavar="PID", help="of that server")
    made.add_argument("--json", type=Path, metavar="FILE", help="write all samples and figures")
    made.add_argument("serve", nargs="*", help="after --: options of the server that is started")
    return made


async def _soak(options: argparse.Namespace, spoken: dict[int, list[Utterance]]) -> int:
    console = Console()
    watcher = Watcher(options.server_pid, metrics_url(options.url))
    # A first session loads what is loaded only once.
    await _speak(options, spoken, duration_s=0.0)
    await asyncio.sleep(1)
    before = await watcher.sample()
    visits = Visits()
    during: list[Sample] = []
    gone = ""
    duration_s = options.minutes * 60
    beside = [
        asyncio.create_task(_leavers(options, spoken, visits), name="leavers"),
        asyncio.create_task(_recordings(options, spoken, visits), name="recordings"),
    ]
    watching = asyncio.create_task(_watch(watcher, options.every, during, console), name="watch")
    speaking = asyncio.create_task(_speak(options, spoken, duration_s), name="speak")
    runs: list[Run] = []
    try:
        await asyncio.wait((watching, speaking), return_when=asyncio.FIRST_COMPLETED)
        if speaking.done():
            runs = speaking.result()
        else:
            watching.result()
    except ServerGone as error:
        gone = str(error)
    finally:
        for task in (*beside, watching, speaking):
            task.cancel()
        await asyncio.gather(*beside, watching, speaking, return_exceptions=True)
    wrong = [gone] if gone else []
    if not gone:
        await asyncio.sleep(SETTLED_S)
        after = await watcher.sample()
        if len(during) >= _MIN_SAMPLES:
            wrong += complaints(before, during, after)
        _show(console, before, during, after)
        wrong += _unfinished(console, runs, visits)
    if options.json:
        result: dict[str, Any] = {
            **setting(),
            "minutes": options.minutes,
            "streams": options.streams,
            "samples": as_json(during),
            "left": visits.left,
            "recordings": visits.recordings,
            "failures": visits.failures,
            "wrong": wrong,
        }
        options.json.write_text(json.dumps(result), encoding="utf-8")
    for line in wrong:
        console.print(f"[red]{line}[/red]")
    if not wrong:
        console.print("[green]Memory, descriptors, tasks and lag stayed flat, and nothing was left behind.[/green]")
    return int(bool(wrong))


async def _speak(options: argparse.Namespace, spoken: dict[int, list[Utterance]], duration_s: float) -> list[Run]:
    """Have people speak over each protocol in turn, all at once."""
    crowds = []
    for number, protocol in enumerate(PROTOCOLS):
        streams = len(range(number, options.streams, len(PROTOCOLS)))
        if streams:
            adapter = make_adapter(protocol, Target(options.url))
            plan = Plan(streams, duration_s, seed=options.seed + number)
            crowds.append(Crowd(adapter, spoken[adapter.sample_rate], plan))
    return list(await asyncio.gather(*(crowd.speak() for crowd in crowds)))


async def _watch(watcher: Watcher, every_s: float, samples: list[Sample], console: Console) -> None:
    """Sample until cancelled.

    Raises:
        ServerGone: it ended.
    """
    shown = time.monotonic()
    while True:
        await asyncio.sleep(every_s)
        sample = await watcher.sample()
        samples.append(sample)
        if time.monotonic() - shown >= 60:
            shown = time.monotonic()
            console.print(
                f"{sample.at_s / 60:.0f} min: {sample.resident_mib:.0f} MiB, {sample.descriptors} descriptors, "
                f"{sample.tasks} tasks, {sample.sessions} sessions"
            )


async def _leavers(options: argparse.Namespace, spoken: dict[int, list[Utterance]], visits: Visits) -> None:
    """Short sessions that are left in any way, until cancelled."""
    if not options.leavers:
        return
    chance = random.Random(options.seed)
    pcm = [b"".join(chunk.pcm for chunk in utterance.speech)[:96_000] for utterance in spoken[16_000]]
    address = urlsplit(options.url)
    open_now: set[asyncio.Task[None]] = set()

    async def one(seed: int) -> None:
        own = random.Random(seed)
        try:
            visits.left[await leave(address.hostname or "", address.port or 80, own.choice(pcm), own)] += 1
        except (OSError, asyncio.TimeoutError) as error:
            visits.failures[repr(error)] += 1

    try:
        while True:
            await asyncio.sleep(chance.expovariate(options.leavers))
            task = asyncio.create_task(one(chance.randrange(2**32)))
            open_now.add(task)
            task.add_done_callback(open_now.discard)
    finally:
        await asyncio.gather(*open_now, return_exceptions=True)


async def _recordings(options: argparse.Namespace, spoken: dict[int, list[Utterance]], visits: Visits) -> None:
    """Recordings one after the other, until cancelled; some are cut off, and some are no recordings."""
    if not options.recordings:
        return
    chance = random.Random(options.seed)
    files = [wav(utterance.clip.audio()) for utterance in spoken[16_000]]
    url = f"{options.url.replace('ws', 'http', 1)}/v1/audio/transcriptions"
    async with httpx.AsyncClient(timeout=60) as client:
        while True:
            await asyncio.sleep(chance.expovariate(options.recordings / 60))
            file = chance.choice(files)
            file = chance.choice((file, file, file[: len(file) // 2], bytes(len(file)), chance.randbytes(5000)))
            try:
                answer = await client.post(url, files={"file": file}, data={"model": "whisper-1"})
                visits.recordings[str(answer.status_code)] += 1
            except httpx.HTTPError as error:
                visits.failures[repr(error)] += 1


def _show(console: Console, before: Sample, during: Sequence[Sample], after: Sample) -> None:
    table = Table()
    for head in ("", "MiB", "descriptors", "tasks", "lag p99, s"):
        table.add_column(head, justify="right" if head else "left")
    table.add_row("before", f"{before.resident_mib:.0f}", f"{before.descriptors}", f"{before.tasks}", "")
    for number, quarter in enumerate(quarters(during) if during else (), 1):
        table.add_row(
            f"quarter {number}",
            f"{quarter.resident_mib:.0f}",
            f"{quarter.descriptors:g}",
            f"{quarter.tasks:g}",
            f"{quarter.lag_p99_s:g}",
        )
    if during:
        table.add_row("most", f"{max(sample.resident_mib for sample in during):.0f}")
    table.add_row("after", f"{after.resident_mib:.0f}", f"{after.descriptors}", f"{after.tasks}", "")
    console.print(table)


def _unfinished(console: Console, runs: Sequence[Run], visits: Visits) -> list[str]:
    """Show what the clients came to; returns what is wrong with it."""
    takes = [take for run in runs for take in run.measured()]
    outcomes = Counter(take.log.outcome for take in takes)
    console.print(f"{outcomes[Outcome.DONE]} of {len(takes)} sessions of speech got their end.")
    of_sets = by_set(takes)
    for name, of_set in of_sets.items():
        kind = f"{name}, {len(of_set)} sessions, " if len(of_sets) > 1 else ""
        for figure in figures(of_set):
            found = spread(figure.values)
            if found["n"]:
                times = ", ".join(f"{head} {found[head]:.2f} s" for head in ("p50", "p95", "max"))
                console.print(f"{kind}{figure.name}: {times}", highlight=False)
    ways = ", ".join(f"{way} {count}" for way, count in sorted(visits.left.items()))
    console.print(f"{visits.left.total()} sessions were left: {ways}")
    console.print(
        "Recordings: " + (", ".join(f"HTTP {code} {n}" for code, n in sorted(visits.recordings.items())) or "0")
    )
    wrong = [f"a session of speech: {take.log.reason}" for take in takes if take.log.outcome is not Outcome.DONE][:10]
    wrong += [f"{count} clients got no answer: {why}" for why, count in visits.failures.items()]
    wrong += [
        f"{count} recordings got HTTP {code}" for code, count in visits.recordings.items() if code.startswith("5")
    ]
    return wrong


if __name__ == "__main__":
    with suppress(BrokenPipeError):
        sys.exit(main())

"""`python -m benchmarks.load`: stream speech to a server as many people at once would, and measure what they see."""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console

from benchmarks.common.adapters import Adapter, SessionRefused
from benchmarks.common.interruption import INTERRUPTED, heed_sigterm
from benchmarks.common.protocols.registry import BadTarget, make_adapter
from benchmarks.common.setting import setting
from benchmarks.common.speech import Clip, NoSpeech, clips_of
from benchmarks.common.word_times import timed_words
from benchmarks.load import options as given
from benchmarks.load.packets import write_packets
from benchmarks.load.results import as_json, held
from benchmarks.load.search import Search
from benchmarks.load.server_side import metrics_url
from benchmarks.load.tables import shown
from benchmarks.load.trial import Trial, Trials
from benchmarks.load.utterances import Utterance, cut

SETTLE_S = 2.0
"""Between the runs of a search, for what an overloaded server has still to do."""
RECOVERY_S = 60.0
"""How long it may go on refusing sessions because of the run before."""


def main(argv: Sequence[str] | None = None) -> int:
    parser = given.parser()
    options = parser.parse_args(argv)
    heed_sigterm()
    try:
        adapter = make_adapter(options.protocol, given.target(options))
        if options.finalize == "pipecat" and not adapter.can_finalize:
            parser.error(
                f"--finalize pipecat: a session of the protocol {options.protocol} ends with its first finalize"
            )
        chosen = _chosen(options)
        words = {} if options.no_word_times else timed_words(chosen, None if options.quiet else Console(stderr=True))
        utterances = cut(
            chosen,
            rate=adapter.sample_rate,
            chunk_ms=options.chunk_ms,
            trailing_s=options.trailing,
            words=words,
            with_stops=options.finalize == "pipecat",
        )
        if not utterances:
            raise NoSpeech("no clip is left to speak")
        if options.duration is None and not options.search and options.streams > len(utterances):
            parser.error(f"{options.streams} streams can't share {len(utterances)} clips: say with --duration how long")
        return _run_loop(lambda: _measure(options, adapter, utterances))
    except (NoSpeech, BadTarget) as error:
        parser.exit(2, f"{error}\n")
    except SessionRefused as refused:
        parser.exit(1, f"The server takes no session: {refused}\n")
    except psutil.Error as error:
        parser.exit(2, f"--server-pid: {error}\n")
    except OSError as error:
        parser.exit(2, f"{error}\n")


def _chosen(options: argparse.Namespace) -> list[Clip]:
    found: dict[str, list[Clip]] = {}
    for clip in clips_of(options.speech, options.sets):
        if options.language in (None, clip.language):
            found.setdefault(clip.of_set, []).append(clip)
    chosen = []
    for of_set in found.values():
        step = max(1, len(of_set) // (options.clips or len(of_set)))
        chosen += of_set[::step][: options.clips]
    return chosen


def _run_loop(make: Callable[[], Any]) -> int:
    try:
        import uvloop
    except ImportError:
        status: int = asyncio.run(make())
        return status
    status = uvloop.run(make())
    return status


async def _measure(options: argparse.Namespace, adapter: Adapter, utterances: Sequence[Utterance]) -> int:
    for file in (options.json, options.html, options.png, options.logs):
        _check_writable(file)
    console = Console()
    progress = None if options.quiet else Console(stderr=True)
    trials = Trials(
        adapter,
        utterances,
        metrics_url=options.metrics_url or metrics_url(options.url),
        key=options.api_key,
        server_pid=options.server_pid,
        console=progress,
    )
    await _try_server(adapter)
    _stop_on_interrupt(trials)
    started = datetime.now(timezone.utc).isoformat(timespec="seconds")
    search = Search(options.streams, max(options.max_streams, options.streams)) if options.search else None
    if search is None:
        done = [await _one(options, options.streams, trials, console)]
    else:
        done = await _search(options, adapter, trials, search, console)
    result = as_json(given.configuration(options), setting(), started, done, search)
    if options.json:
        options.json.write_text(json.dumps(result, ensure_ascii=False), encoding="utf-8")
    if options.html or options.png:
        _report(options, result)
    if options.logs:
        write_packets(options.logs, ((trial.run.plan.streams, trial.run.takes) for trial in done))
    if trials.stopped:
        return INTERRUPTED
    return _status(done, search)


def _report(options: argparse.Namespace, result: dict[str, Any]) -> None:
    from benchmarks.report.page import written
    from benchmarks.report.plots import overview
    from benchmarks.report.runs import document

    documents = [document(result, options.name or options.protocol)]
    if options.html:
        options.html.write_text(written(documents), encoding="utf-8")
    if options.png:
        overview(documents, options.png)


async def _one(options: argparse.Namespace, streams: int, trials: Trials, console: Console) -> Trial:
    trial = await trials.run(given.plan(options, streams))
    console.print(shown(trial, options.objective_s))
    return trial


async def _search(
    options: argparse.Namespace, adapter: Adapter, trials: Trials, search: Search, console: Console
) -> list[Trial]:
    done: list[Trial] = []
    while (streams := search.next()) is not None:
        if done:
            await _settled(adapter)
        trial = await _one(options, streams, trials, console)
        done.append(trial)
        if trials.stopped:
            break
        if trial.invalid_because:
            console.print("The search ends here: more streams than this machine can generate mean nothing.")
            break
        search.found(streams, held=held(trial, options.objective_s))
    more = "at least " if search.missed is None else ""
    console.print(f"[bold]Streams at objective (p95 within {options.objective_s:g} s): {more}{search.held}[/bold]")
    return done


def _status(done: Sequence[Trial], search: Search | None) -> int:
    """0 if the figures can be trusted and, unless failures were looked for, no session failed."""
    if any(trial.invalid_because for trial in done):
        return 1
    failed = any(take.log.outcome.value != "done" for trial in done for take in trial.run.takes if take.ended)
    return int(failed and search is None)


async def _try_server(adapter: Adapter) -> None:
    """Open a session and close it.

    Raises:
        SessionRefused: the server refuses even one session.
    """
    async with adapter.session(""):
        pass


async def _settled(adapter: Adapter) -> None:
    """Return when the server takes sessions again, however busy the last run has left it, or when it should have."""
    deadline = time.perf_counter() + RECOVERY_S
    await asyncio.sleep(SETTLE_S)
    while time.perf_counter() < deadline:
        with suppress(SessionRefused):
            await _try_server(adapter)
            return
        await asyncio.sleep(SETTLE_S)


def _stop_on_interrupt(trials: Trials) -> None:
    """The first Ctrl-C ends the run and reports; a second one ends the program."""
    loop = asyncio.get_running_loop()

    def stop() -> None:
        loop.remove_signal_handler(signal.SIGINT)
        trials.stop()

    # Without such handlers, as on Windows, Ctrl-C ends the program at once.
    with suppress(NotImplementedError):
        loop.add_signal_handler(signal.SIGINT, stop)


def _check_writable(file: Path | None) -> None:
    """An hour's run should not find out at its end.

    Raises:
        OSError: it can't be written.
    """
    if file is not None:
        file.open("a", encoding="utf-8").close()


if __name__ == "__main__":
    sys.exit(main())

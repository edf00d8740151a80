"""`python -m benchmarks.hostile`: live streams beside one hostile client of each kind at a time.

Eight people speak at the pace of speech; what they wait for their finals is compared with runs in which nobody
disturbs them, at the beginning, in between and at the end. The hostile client is a process of its own with low
priority: what is measured is what it does to the server, not that it needs a processor.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil
import trustme
from rich.console import Console
from rich.table import Table

from benchmarks.common.adapters import SessionRefused
from benchmarks.common.arguments import positive, seconds
from benchmarks.common.interruption import INTERRUPTED, heed_sigterm
from benchmarks.common.own_server import OwnServer, ServerFailed
from benchmarks.common.protocols.registry import Target, make_adapter
from benchmarks.common.setting import setting
from benchmarks.common.speech import NoSpeech, add_sets_option, add_speech_option, clips_of
from benchmarks.common.stats import percentiles
from benchmarks.hostile.clients import ATTACKS, TLS_ATTACKS, attack_alone
from benchmarks.load.crowd import Plan
from benchmarks.load.figures import FINAL, by_set, figures
from benchmarks.load.server_side import metrics_url
from benchmarks.load.trial import Trials
from benchmarks.load.utterances import Utterance, cut

UNDISTURBED = "nobody"
EVERY = 6
"""Attacks between two undisturbed runs."""
MOST = 1.2
"""Share of the undisturbed p95 up to which an attack is harmless."""
SETTLE_S = 3.0


@dataclass(frozen=True, slots=True)
class Row:
    """One run."""

    attacker: str
    done: int
    sessions: int
    of_sets: dict[str, tuple[float, ...]]
    """Times from the end of speech to the last final, of the sessions of each set."""
    resident_mib: float | None
    """The most that the server's process and its children took."""
    lag_p99_s: float | None
    cores: float | None
    """Processor time of the server per second."""

    @property
    def ttfs_s(self) -> tuple[float, ...]:
        """Of all sessions."""
        return tuple(value for values in self.of_sets.values() for value in values)


def main(argv: Sequence[str] | None = None) -> int:
    parser = _parser()
    options = parser.parse_args(argv)
    heed_sigterm()
    try:
        utterances = cut(clips_of(options.speech, options.sets), rate=16_000, chunk_ms=50, trailing_s=1.0)
        if not utterances:
            raise NoSpeech("no clip is left to speak")
        with ExitStack() as stack:
            certificate = stack.enter_context(_certificate()) if options.tls else ()
            server = stack.enter_context(OwnServer([*options.serve, *certificate]))
            rows = asyncio.run(_measure(options, server, utterances))
            alive = server.process.poll() is None
    except (NoSpeech, ServerFailed, SessionRefused, psutil.Error, OSError) as error:
        parser.exit(2, f"{error}\n")
    except KeyboardInterrupt:
        return INTERRUPTED
    return _report(options, rows, alive=alive)


def _parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="python -m benchmarks.hostile", description=(__doc__ or "").partition("\n\n")[2]
    )
    made.add_argument("--streams", type=positive, default=8, metavar="N", help="who speak (default: %(default)s)")
    made.add_argument("--duration", type=seconds, default=60.0, metavar="S", help="of a run (default: %(default)g)")
    made.add_argument(
        "--only",
        action="append",
        choices=(*ATTACKS, *TLS_ATTACKS),
        metavar="NAME",
        help="an attack; may be repeated",
    )
    made.add_argument("--tls", action="store_true", help="all clients speak TLS, with a certificate made for the run")
    add_speech_option(made)
    add_sets_option(made)
    made.add_argument("--json", type=Path, metavar="FILE", help="write all figures")
    made.add_argument("serve", nargs="*", help="after --: options of the server that is started")
    return made


def _order(chosen: Sequence[str]) -> Iterator[str]:
    for number, name in enumerate(chosen):
        if number % EVERY == 0:
            yield UNDISTURBED
        yield name
    yield UNDISTURBED


async def _measure(options: argparse.Namespace, server: OwnServer, utterances: Sequence[Utterance]) -> list[Row]:
    adapter = make_adapter("native", Target(server.url))
    pcm = b"".join(chunk.pcm for utterance in utterances for chunk in utterance.speech)
    console = Console(stderr=True)
    rows: list[Row] = []
    for name in _order(options.only or (*ATTACKS, *(TLS_ATTACKS if options.tls else ()))):
        trials = Trials(adapter, utterances, metrics_url=metrics_url(server.url), server_pid=server.pid)
        with _attacking(name, server.url, pcm):
            trial = await trials.run(Plan(options.streams, options.duration))
        takes = trial.run.measured()
        of_sets = {
            kind: next(figure.values for figure in figures(of_set) if figure.name == FINAL)
            for kind, of_set in by_set(takes).items()
        }
        process, metrics = trial.process or {}, trial.server or {}
        row = Row(
            name,
            sum(take.log.outcome.value == "done" for take in takes),
            len(takes),
            of_sets,
            process.get("rss_mib_max"),
            metrics.get("event_loop_lag_s", {}).get("p99"),
            process.get("cores_mean"),
        )
        rows.append(row)
        console.print(f"{name}: {row.done} of {row.sessions} sessions, p95 {_p95(row.ttfs_s):.2f} s", highlight=False)
        for reason, count in Counter(take.log.reason for take in takes if take.log.reason).most_common(3):
            console.print(f"    {count} x {reason}", highlight=False)
        if server.process.poll() is not None:
            break
        await asyncio.sleep(SETTLE_S)
    return rows


@contextmanager
def _certificate() -> Iterator[Sequence[str]]:
    """Options of a server with a certificate that this process and its children trust."""
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    with TemporaryDirectory() as folder:
        trusted, chain, key = (Path(folder, name) for name in ("authority.pem", "cert.pem", "key.pem"))
        authority.cert_pem.write_to_path(trusted)
        issued.cert_chain_pems[0].write_to_path(chain)
        issued.private_key_pem.write_to_path(key)
        os.environ["SSL_CERT_FILE"] = str(trusted)
        yield "--certificate", str(chain), "--private-key", str(key)


@contextmanager
def _attacking(name: str, url: str, pcm: bytes) -> Iterator[None]:
    if name == UNDISTURBED:
        yield
        return
    process = multiprocessing.get_context("spawn").Process(target=attack_alone, args=(name, url, pcm), daemon=True)
    process.start()
    try:
        yield
    finally:
        process.kill()
        process.join()


def _p95(values: Sequence[float]) -> float:
    return (percentiles(values, 95) or (float("nan"),))[0]


def _report(options: argparse.Namespace, rows: Sequence[Row], *, alive: bool) -> int:
    calm = [value for row in rows if row.attacker == UNDISTURBED for value in row.ttfs_s]
    base = _p95(calm)
    console = Console()
    table = Table()
    for head in ("who disturbs", "sessions", "TTFS p50", "p95", "share", "MiB", "lag p99", "cores"):
        table.add_column(head, justify="left" if head.startswith("who") else "right")
    harmed: Counter[str] = Counter()
    for row in rows:
        p50, p95 = percentiles(row.ttfs_s, 50, 95) or (float("nan"), float("nan"))
        if not p95 <= MOST * base or row.done < row.sessions:
            harmed[row.attacker] += 1
        table.add_row(
            row.attacker,
            f"{row.done}/{row.sessions}",
            f"{p50:.2f}",
            f"{p95:.2f}",
            f"{p95 / base:.2f}",
            f"{row.resident_mib:.0f}" if row.resident_mib else "",
            f"{row.lag_p99_s:g}" if row.lag_p99_s is not None else "",
            f"{row.cores:.2f}" if row.cores is not None else "",
        )
    console.print(table)
    if len(names := sorted({name for row in rows for name in row.of_sets})) > 1:
        console.print(_of_sets(rows, names))
    if not alive:
        console.print("[red]The server ended.[/red]")
    if options.json:
        found: dict[str, Any] = {
            **setting(),
            "undisturbed_p95_s": base,
            "runs": [
                {"attacker": row.attacker, "done": row.done, "sessions": row.sessions, "ttfs_s": row.of_sets}
                for row in rows
            ],
        }
        options.json.write_text(json.dumps(found), encoding="utf-8")
    harmed.pop(UNDISTURBED, None)
    if harmed:
        console.print(
            f"[red]Above {MOST:g} of the undisturbed, or with sessions that failed: {', '.join(harmed)}[/red]"
        )
    return int(bool(harmed) or not alive)


def _of_sets(rows: Sequence[Row], names: Sequence[str]) -> Table:
    """The p95 of each kind of speech: of so few sessions that it decides nothing."""
    table = Table(title="TTFS p95 (sessions), by set")
    table.add_column("who disturbs")
    for name in names:
        table.add_column(name, justify="right")
    for row in rows:
        each = (row.of_sets.get(name, ()) for name in names)
        table.add_row(row.attacker, *(f"{_p95(values):.2f} ({len(values)})" for values in each))
    return table


if __name__ == "__main__":
    sys.exit(main())

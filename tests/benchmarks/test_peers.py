"""The comparison with other servers: descriptions, servers that misbehave, and the table. No peer is installed here."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
import soundfile
from rich.console import Console

from benchmarks.common.protocols.registry import PROTOCOLS, Target, make_adapter
from benchmarks.common.session_log import Outcome, SessionLog, Shown
from benchmarks.common.speech import Clip
from benchmarks.load import pacing
from benchmarks.load.speaking import Take
from benchmarks.load.utterances import cut
from benchmarks.peers import __main__ as command
from benchmarks.peers import measure as peers_measure
from benchmarks.peers import server
from benchmarks.peers.environments import python_of
from benchmarks.peers.figures import FINAL, FIRST, WORDS, Result
from benchmarks.peers.measure import Course, Standing, measure
from benchmarks.peers.peer import Peer, PeerUnavailable, Place
from benchmarks.peers.registry import PEERS
from benchmarks.peers.report import as_html, as_json, as_png
from benchmarks.peers.server import free_port, running
from benchmarks.peers.table import HEADS, as_markdown, remarks, rows

pytestmark = pytest.mark.full

ROOT = Path(__file__).parents[2]
FAKE = (sys.executable, "-m", "tests.support.fake_sink", "--port")
FROM_HERE = {"PYTHONPATH": str(ROOT)}


def _place(folder: Path) -> Place:
    return Place(Path(sys.executable), folder, 0, folder / "weights", folder / "speech.wav")


def _peer(name: str, *arguments: str) -> Peer:
    return Peer(
        name,
        name.title(),
        "native",
        lambda place: [argument.replace("PORT", str(place.port)) for argument in arguments],
        "none",
        "a fake",
        variables=FROM_HERE,
    )


def _clip(folder: Path, name: str, seconds: float = 0.7) -> Clip:
    samples = np.random.default_rng(1).normal(0, 0.1, round(seconds * 16_000))
    soundfile.write(folder / f"{name}.wav", samples, 16_000)
    return Clip(name, folder / f"{name}.wav", "en", "Good day.", words=(("Good", 0.0, 0.2), ("day.", 0.2, 0.3)))


def _course(folder: Path, clips: int = 2) -> Course:
    speech = cut([_clip(folder, f"clip{n}") for n in range(clips)], rate=16_000, chunk_ms=100, trailing_s=0.0)
    return Course(speech, speech[:1], rounds=2, ready_within_s=30.0)


def _result(folder: Path, *shown: Shown, outcome: Outcome = Outcome.DONE) -> Result:
    (utterance,) = cut([_clip(folder, "said", 2.0)], rate=16_000, chunk_ms=100, trailing_s=0.0)
    log = SessionLog("said", shown=list(shown), outcome=outcome, reason="full" * (outcome is not Outcome.DONE))
    return Result(1, [Take(log, 0, utterance, 0.0, ended=True)], cpu_s=1.0, audio_s=2.0)


def test_each_peer_is_described_whole() -> None:
    for name, peer in PEERS.items():
        assert peer.name == name
        assert peer.protocol in PROTOCOLS
        assert peer.title
        assert peer.settings
        assert peer.why
        assert all("==" in package for package in peer.packages)
        assert bool(peer.environment) == bool(peer.packages)
        command = [str(part) for part in peer.command(replace(_place(Path("somewhere")), port=4321))]
        assert "4321" in command
        assert any("somewhere" in part for part in command), "it is pointed at the weights"
    shared: dict[str, set[tuple[tuple[str, ...], ...]]] = {}
    for peer in PEERS.values():
        shared.setdefault(peer.environment, set()).add((peer.packages, peer.requirements))
    assert all(len(wanted) == 1 for wanted in shared.values()), "peers that share an environment need the same packages"


def test_what_cannot_be_installed_is_reported(tmp_path: Path) -> None:
    broken = replace(_peer("broken"), environment="broken", packages=("nothing==1",))
    with pytest.raises(PeerUnavailable, match=r"installing Broken failed:\n"):
        python_of(broken, tmp_path, ("--no-index",))
    assert not (tmp_path / "broken" / "installed").exists()


def test_two_rounds_with_a_server_that_works_and_three_that_do_not(tmp_path: Path) -> None:
    """The others go on; the last lines of the broken ones are reported; nothing is left running."""
    mute = "import sys, time; print('listening to nobody', flush=True); time.sleep(600)"
    dies = "import sys; print('no such weights'); sys.exit(3)"
    peers = [
        _peer("dying", sys.executable, "-c", dies),
        _peer("good", *FAKE, "PORT"),
        _peer("mute", sys.executable, "-c", mute),
        _peer("missing", str(tmp_path / "no-such-program")),
    ]
    before = set(psutil.Process().children(recursive=True))
    standings = [Standing(peer, replace(_place(tmp_path), folder=tmp_path / peer.name)) for peer in peers]
    course = replace(_course(tmp_path), ready_within_s=8.0)
    asyncio.run(measure(standings, course, tmp_path, Console(quiet=True)))
    dying, good, silent, missing = standings
    assert dying.unavailable == "it ended with status 3:\nno such weights"
    assert "took no session within 8 s" in silent.unavailable
    assert silent.unavailable.endswith("listening to nobody")
    assert "can't be started" in missing.unavailable
    assert not good.unavailable
    assert [take.log.clip for take in good.results[1].takes] == ["clip0", "clip1"]
    assert good.results[1].audio_s == pytest.approx(1.4)
    assert set(psutil.Process().children(recursive=True)) <= before
    assert [row[0] for row in rows(standings)] == ["Dying", "Good", "Mute", "Missing"]


def test_the_most_streams_are_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pacing, "LAG_P99_S", 10.0)
    monkeypatch.setattr(pacing, "LAG_WORST_S", 30.0)
    monkeypatch.setattr(peers_measure, "SETTLE_S", 0.0)
    standing = Standing(_peer("good", *FAKE, "PORT"), replace(_place(tmp_path), folder=tmp_path / "good"))
    course = replace(_course(tmp_path), rounds=1, search=True, search_s=0.1, objective_s=20.0, max_streams=2)
    asyncio.run(measure([standing], course, tmp_path, Console(quiet=True)))
    assert standing.search is not None
    assert standing.search.tried == [(1, True), (2, True)]
    assert next(rows([standing]))[-1] == "at least 2"


def test_a_server_is_ended_with_its_children(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also a server that ignores Ctrl-C, and whatever happens meanwhile."""
    monkeypatch.setattr(server, "ENDS_WITHIN_S", 0.5)
    port = free_port()
    stubborn = (
        "import signal, subprocess, sys; signal.signal(signal.SIGINT, signal.SIG_IGN); "
        f"subprocess.run([sys.executable, '-m', 'tests.support.fake_sink', '--port', '{port}'])"
    )
    adapter = make_adapter("native", Target(f"ws://127.0.0.1:{port}"))
    seen: list[psutil.Process] = []

    async def interrupted() -> None:
        log = tmp_path / "log"
        async with running(
            (sys.executable, "-c", stubborn), adapter, log=log, home=tmp_path, variables=FROM_HERE
        ) as pid:
            seen.extend([psutil.Process(pid), *psutil.Process(pid).children(recursive=True)])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(interrupted())
    assert len(seen) == 2
    assert not any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in seen)


@pytest.mark.parametrize("stops", [[signal.SIGINT], [signal.SIGTERM], [signal.SIGTERM, signal.SIGTERM]])
def test_a_comparison_that_is_stopped_leaves_no_server_behind(tmp_path: Path, stops: list[int]) -> None:
    """`timeout` sends SIGTERM twice."""
    entry = {"id": "short", "path": str(_clip(tmp_path, "short").path), "language": "en", "text": "Good day."}
    (tmp_path / "manifest.jsonl").write_text(json.dumps(entry))
    mute = "import time; time.sleep(600)"
    comparing = (
        "import sys; from benchmarks.peers import __main__ as command; from tests.benchmarks.test_peers import _peer; "
        f"command.PEERS = {{'mute': _peer('mute', sys.executable, '-c', {mute!r})}}; sys.exit(command.main())"
    )
    options = ("--peers", "mute", "--speech", str(tmp_path), "--set", ".", "--quiet", "--cache", str(tmp_path / "c"))
    process = subprocess.Popen((sys.executable, "-c", comparing, *options), stderr=subprocess.PIPE, text=True, cwd=ROOT)
    deadline = time.monotonic() + 60
    while not (started := [one for one in psutil.Process(process.pid).children() if mute in one.cmdline()]):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    for stop in stops:
        process.send_signal(stop)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    assert not psutil.wait_procs(started, timeout=30)[1]


def test_the_table_and_the_report_of_two_results(tmp_path: Path) -> None:
    quick = Standing(_peer("quick"), _place(tmp_path))
    quick.results[1] = _result(tmp_path, Shown(0.25, "", "good"), Shown(0.5, "Good day.", ""))
    never = Standing(replace(_peer("never"), note="never says what is final"), _place(tmp_path))
    never.results[1] = _result(tmp_path, Shown(0.75, "", "good"), Shown(1.0, "", "good"))
    never.unavailable = "it ended with status 1:\nout of memory"
    first, second = rows([quick, never])
    assert first == ("Quick", "1", "0.25/0.25", "0.20/0.20", "0.12/0.18", "0.00", "0.000", "0.50", "-")
    assert second == ("Never", "1", "0.75/0.75", "never final", "0.55/0.55", "0.00", "0.500", "0.50", "-")
    assert as_markdown([quick, never]).count("\n") == 3
    said = "\n".join(remarks([quick, never]))
    assert "Never: never says what is final" in said
    assert "Never, 1 streams: 0% of sessions ended with their text whole and final" in said
    assert "out of memory" in said

    whole = as_json({"set": "said"}, {"machine": {"cores": 2}}, [quick, never])
    assert json.loads(json.dumps(whole))["peers"][0]["results"][0]["times_s"][WORDS]["n"] == 2
    assert set(quick.results[1].times()) == {FIRST, FINAL, WORDS}
    png = as_png([quick, never])
    assert png.startswith(b"\x89PNG")
    page = as_html(whole, [quick, never], png)
    assert all(head.split()[0] in page for head in HEADS)
    assert "http" not in page.replace("http-equiv", "")


def test_who_loses_the_end_of_the_speech_is_not_quick(tmp_path: Path) -> None:
    result = _result(tmp_path, Shown(0.1, "Good", "day"), Shown(0.9, "Good", ""))
    assert result.times()[FINAL].values == ()
    assert result.final_share == 0


def test_sessions_that_failed_are_reported(tmp_path: Path) -> None:
    result = _result(tmp_path, outcome=Outcome.REFUSED)
    assert result.failures == ["said: refused: full"]
    standing = Standing(_peer("full"), _place(tmp_path), {1: result})
    assert [row[2] for row in rows([standing])] == ["-/-"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--peers", "nobody"), "names no peer"),
        (("--streams", "0"), "not a whole number of at least 1"),
        (("--set", "no-such-set"), "has neither manifest.jsonl"),
    ],
)
def test_wrong_options_are_reported(options: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        command.main(options)
    assert left.value.code == 2
    assert message in " ".join(capsys.readouterr().err.split())


def test_the_command_measures_and_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a fake peer beside one that does not start; the exit status says so."""
    fakes = {"good": _peer("good", *FAKE, "PORT"), "dying": _peer("dying", sys.executable, "-c", "raise SystemExit(1)")}
    monkeypatch.setattr(command, "PEERS", fakes)
    output = tmp_path / "peers.json"
    clip = _clip(tmp_path, "short")
    entry = {"id": clip.id, "path": str(clip.path), "language": "en", "text": clip.text, "words": clip.words}
    (tmp_path / "manifest.jsonl").write_text(json.dumps(entry))
    options = ("--peers", "good,dying", "--speech", str(tmp_path), "--set", ".", "--trailing", "0", "--quiet")
    files = ("--json", str(output), "--html", str(tmp_path / "p.html"), "--markdown", str(tmp_path / "p.md"))
    assert command.main([*options, *files, "--cache", str(tmp_path / "cache")]) == 1
    good, dying = json.loads(output.read_text())["peers"]
    assert good["results"][0]["times_s"]["first text"]["n"] == 1
    assert "it ended with status 1" in dying["unavailable"]
    assert (tmp_path / "p.html").stat().st_size > 20_000
    assert os.path.getsize(tmp_path / "p.md") > 100

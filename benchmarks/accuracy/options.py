"""What the commands' options have in common."""

from __future__ import annotations

import argparse
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.accuracy.in_process import InProcess
from benchmarks.accuracy.served import Served
from benchmarks.accuracy.sources import Source, SourceUnavailable
from benchmarks.common.arguments import positive, session_setting
from benchmarks.common.conditions import Condition
from benchmarks.common.speech import Clip, NoSpeech, add_speech_option, clips, evenly_spaced
from streaming_asr.core.recognizer import Audio, Recognizer
from streaming_asr.recognizers.choose import factory_for

API_KEY_VARIABLE = "STREAMING_ASR_API_KEY"
DECODE_MS = 100


def add_speech(parser: argparse.ArgumentParser, *sets: str) -> None:
    """Which clips; `sets` are those of the default."""
    add_speech_option(parser)
    parser.add_argument(
        "--set",
        action="append",
        dest="sets",
        metavar="NAME",
        help=f"may be repeated; . reads the folder itself as LibriSpeech (default: {', '.join(sets)})",
    )
    parser.add_argument(
        "--clips", type=positive, metavar="N", help="of each set that many, spread over it; default all"
    )
    parser.add_argument("--language", metavar="CODE", help="only clips of this language, ISO 639-1")
    parser.add_argument(
        "--noise-db",
        type=float,
        metavar="DB",
        help="put recordings of another set under the speech, the speech this much louder",
    )
    parser.add_argument("--noise-set", default="nonspeech", metavar="NAME", help="default: %(default)s")
    parser.add_argument("--gain-db", type=float, default=0.0, metavar="DB", help="such as -20, to make clips quieter")
    parser.set_defaults(default_sets=sets)


def add_source(parser: argparse.ArgumentParser, *, decode_ms: int | None) -> None:
    """What transcribes the speech."""
    model = parser.add_argument_group("a model in this process (default: the Whisper of streaming-asr[local])")
    model.add_argument("--model", help="as of `streaming-asr serve`; vLLM's own options may follow")
    model.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"), help="faster-whisper's device")
    model.add_argument("--compute-type", help="CTranslate2's arithmetic")
    model.add_argument("--workers", type=positive, metavar="N", help="decodes that faster-whisper runs at once")
    model.add_argument(
        "--decode-ms",
        type=positive,
        default=decode_ms,
        metavar="MS",
        help="how long each decode is taken to last on the simulated clock; default: "
        + (f"{decode_ms}" if decode_ms else "what it takes"),
    )
    server = parser.add_argument_group("or a server of this project")
    server.add_argument("--url", help="such as ws://localhost:8000")
    server.add_argument("--api-key", default=os.environ.get(API_KEY_VARIABLE), help=f"default: ${API_KEY_VARIABLE}")
    server.add_argument("--real-time", action="store_true", help="send at the pace of speech, and see partials")
    server.add_argument("--streams", type=positive, default=1, metavar="N", help="at once (default: %(default)s)")
    server.add_argument("--server-pid", type=positive, metavar="PID", help="of the server here, to watch its memory")
    session = parser.add_argument_group("sessions")
    session.add_argument(
        "--option",
        action="append",
        default=[],
        type=session_setting,
        dest="options",
        metavar="NAME=VALUE",
        help="of docs/protocol.md, such as endpoint_ms=800; may be repeated",
    )
    session.add_argument("--detect", action="store_true", help="do not force the clip's language")


def add_report(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything there, configuration included")


def chosen(options: argparse.Namespace) -> dict[str, list[Clip]]:
    """The clips of each set.

    Raises:
        NoSpeech: a set has none of them, or does not exist.
    """
    condition = _condition(options)
    found: dict[str, list[Clip]] = {}
    for name in dict.fromkeys(options.sets or options.default_sets):
        of_set = [clip for clip in clips(options.speech, name) if options.language in (None, clip.language)]
        if not of_set:
            raise NoSpeech(f"the set {name!r} in {options.speech} has no clip of language {options.language!r}")
        used = evenly_spaced(of_set, options.clips)
        found[name] = [replace(clip, condition=condition) for clip in used]
    return found


def _condition(options: argparse.Namespace) -> Condition | None:
    """What the options do to each clip; None for nothing.

    Raises:
        NoSpeech: the set of noise does not exist, or is silent.
    """
    beds: list[Audio] = []
    if options.noise_db is not None:
        beds = [clip.audio() for clip in clips(options.speech, options.noise_set)]
        if not any(bed.any() for bed in beds):
            raise NoSpeech(f"the set {options.noise_set!r} in {options.speech} has nothing but silence")
    if options.noise_db is None and not options.gain_db:
        return None
    return Condition(options.gain_db, options.noise_db, beds)


def sources(options: argparse.Namespace) -> tuple[Source, Source]:
    """The source of streams and that of whole files: the same, unless both a server and a model are given."""
    if not options.url:
        if options.real_time or options.server_pid:
            raise SourceUnavailable(
                "--real-time and --server-pid need a server, --url; in this process time is simulated"
            )
        own = _in_process(options)
        return own, own
    served = Served(
        options.url,
        dict(options.options),
        api_key=options.api_key,
        real_time=options.real_time,
        at_once=options.streams,
        pid=options.server_pid,
    )
    return served, _in_process(options) if options.model else served


def _in_process(options: argparse.Namespace) -> InProcess:
    settings = dict(options.options) if not options.url else {}
    return InProcess(_recognizer(options), settings, options.decode_ms / 1000 if options.decode_ms else None)


def _recognizer(options: argparse.Namespace) -> Recognizer:
    factory = factory_for(options.model)
    if options.engine and factory.engine_help is None:
        raise SourceUnavailable(f"unrecognized arguments: {' '.join(options.engine)}")
    return factory.create(options)


def configuration(options: argparse.Namespace) -> dict[str, Any]:
    """What was asked for, without the key."""
    hidden = {"api_key", "default_sets", "run"}
    plain = {name: value for name, value in vars(options).items() if name not in hidden}
    return {name: str(value) if isinstance(value, Path) else value for name, value in plain.items()}

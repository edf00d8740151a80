"""The command line: serve | transcribe | doctor."""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import logging
import os
import sys
import typing
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

from streaming_asr import __version__
from streaming_asr.core.options import (
    AUDIO,
    PARTIALS,
    RECORDED_ENDPOINT_MS,
    Option,
    OptionError,
    SessionOptions,
    options_of,
    plain,
)
from streaming_asr.core.recognizer import EngineNotInstalled, Recognizer, RecognizerUnavailable
from streaming_asr.engine.log_rate import LogRate
from streaming_asr.recognizers.choose import FACTORIES, factory_for
from streaming_asr.recognizers.factory import RecognizerFactory
from streaming_asr.turns.detectors import TURN_DETECTORS
from streaming_asr.voice.detectors import DETECTORS, ungated

FAILED = 1
INTERRUPTED = 130
NAMED_VALUES = {"vad": tuple(DETECTORS), "endpointing": tuple(TURN_DETECTORS)}
"""Values of the options that name something in a registry."""

if TYPE_CHECKING:
    from streaming_asr.server.options import ServerOptions
    from streaming_asr.server.replicas.link import Identity

T = TypeVar("T")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    replica = _replica()
    if arguments[:1] == ["doctor"]:
        from streaming_asr import doctor

        return doctor.main(arguments[1:])
    parser = _parser()
    options, engine = parser.parse_known_args(arguments)
    if options.profile is not None:
        # Its values become the defaults, so that flags win over them.
        options, engine = _parser(options.profile).parse_known_args(arguments)
    options.engine = engine
    options.replica = replica
    # As this process was started, with Python's own options, or as it would be.
    options.again = sys.orig_argv[1:] if argv is None else ["-m", "streaming_asr", *arguments]
    factory = factory_for(options.model, options.recognizer)
    if engine and factory.engine_help is None:
        parser.error(f"unrecognized arguments: {' '.join(engine)}")
    if options.command == "transcribe" and len(options.files) > 1 and options.format in ("srt", "vtt"):
        parser.error(f"{options.format} has subtitles of one recording; transcribe the files one by one")
    _log(options.log_level, f"replica {replica.number}: " if replica is not None else "")
    command = _serve if options.command == "serve" else _transcribe
    try:
        if getattr(options, "engine_help", False):
            print(_engine_help(options.model, factory))
            return 0
        return _run(command(options))
    except EngineNotInstalled as error:
        from streaming_asr.doctor import what_to_install

        message = what_to_install(error.model) if error.engine == "vLLM" else error
        print(f"streaming-asr: {message}", file=sys.stderr)
        return FAILED
    except (OptionError, RecognizerUnavailable) as error:
        print(f"streaming-asr: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        return INTERRUPTED


def _parser(profile: str | None = None) -> argparse.ArgumentParser:
    """The parser whose options of a session have the profile's values by default."""
    parser = argparse.ArgumentParser(prog="streaming-asr", description="Live speech to text, self-hosted.")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="serve | transcribe | doctor")

    serve = commands.add_parser(
        "serve", help="start the server", formatter_class=_Formatter, allow_abbrev=False, epilog=_ENGINE_OPTIONS
    )
    _model_options(serve)
    _server_options(serve)
    _add_options(
        serve, SessionOptions().changed(profile=profile), title="{} (defaults for sessions)", choices=NAMED_VALUES
    )
    _log_options(serve)

    transcribe = commands.add_parser(
        "transcribe",
        help="transcribe audio files in this process",
        formatter_class=_Formatter,
        allow_abbrev=False,
        epilog=_ENGINE_OPTIONS,
    )
    transcribe.add_argument("files", nargs="+", type=Path, metavar="FILE", help="any format that FFmpeg reads")
    transcribe.add_argument("--model", help="as of serve", default=None)
    transcribe.add_argument("--format", choices=("text", "json", "srt", "vtt"), default="text")
    transcribe.add_argument("--output", type=Path, help="file to write instead of the terminal")
    _recognizer_options(transcribe)
    # A file gives its own encoding, and partials are not shown.
    recorded = SessionOptions(endpoint_ms=RECORDED_ENDPOINT_MS, vad=ungated(SessionOptions().vad))
    _add_options(transcribe, recorded.changed(profile=profile), without=AUDIO, hidden=PARTIALS, choices=NAMED_VALUES)
    _log_options(transcribe, default="warning")

    commands.add_parser("doctor", help="show what this machine can run, and what is missing", add_help=False)
    return parser


class _Formatter(argparse.ArgumentDefaultsHelpFormatter):
    """Shows defaults where there are any."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        if action.default in (None, False, "", []):
            return action.help
        if isinstance(action.default, float):
            return f"{action.help} (default: {plain(action.default)})"
        return super()._get_help_string(action)


def _model_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "model",
        nargs="?",
        metavar="MODEL",
        help="name or folder of the weights, or tiny.en for English only; without it, the multilingual Whisper base",
    )
    _recognizer_options(parser)
    parser.add_argument("--engine-help", action="store_true", help="show vLLM's options and exit")


def _recognizer_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("recognizer")
    names = [factory.name for factory in FACTORIES]
    group.add_argument("--recognizer", choices=names, help="default: chosen by MODEL")
    for factory in FACTORIES:
        factory.add_flags(group)


_ENGINE_OPTIONS = (
    "A model that runs under vLLM takes every option of vLLM's engine too, after MODEL: --tensor-parallel-size 2."
)


def _engine_help(model: str | None, factory: RecognizerFactory) -> str:
    """Describe the options of the chosen recognizer's engine, or of the first engine that takes any."""
    for each in (factory, *FACTORIES):
        if each.engine_help is not None:
            return each.engine_help(model)
    raise RecognizerUnavailable("no recognizer takes options of an engine")


def _server_options(parser: argparse.ArgumentParser) -> None:
    from streaming_asr.server.options import SERVER, ServerOptions

    groups = _add_options(parser, ServerOptions())
    groups[SERVER].add_argument("--api-key-file", type=Path, metavar="FILE", help="file with one API key a line")


def _add_options(
    parser: argparse.ArgumentParser,
    defaults: Any,
    *,
    title: str = "{}",
    without: str = "",
    hidden: str = "",
    choices: Mapping[str, tuple[str, ...]] = MappingProxyType({}),
) -> dict[str, argparse._ArgumentGroup]:
    """Add a flag for each option that a dataclass declares; returns the groups of flags by name.

    Args:
        defaults: an instance of the dataclass.
        title: of a group, with ``{}`` for its name.
        without: a group whose options get no flag.
        hidden: a group whose flags `--help` does not show.
        choices: values of options that their declaration does not know.
    """
    groups: dict[str, argparse._ArgumentGroup] = {}
    types = typing.get_type_hints(type(defaults))
    for name, declared in options_of(type(defaults)).items():
        if declared.group == without or not declared.has_flag:
            continue
        if declared.group not in groups:
            groups[declared.group] = parser.add_argument_group(title.format(declared.group))
        declared = dataclasses.replace(declared, choices=choices.get(name, declared.choices))
        flag = declared.flag or f"--{name.replace('_', '-')}"
        arguments = _value_arguments(declared, types[name], getattr(defaults, name))
        action = groups[declared.group].add_argument(flag, dest=name, **arguments)
        text = declared.help.replace("`", "") + ("; may be repeated" if action.default == [] else "")
        # Not given to `add_argument`: Python 3.10 would add the default of a boolean to it.
        action.help = argparse.SUPPRESS if declared.group == hidden else text
    return groups


def _value_arguments(declared: Option, kind: Any, default: Any) -> dict[str, Any]:
    """How `add_argument` takes the value of an option of this type."""
    if typing.get_origin(kind) is tuple:
        return {"action": "append", "default": list(default), "metavar": declared.metavar}
    optional = type(None) in typing.get_args(kind)
    kind = typing.get_args(kind)[0] if optional else kind
    if kind is bool:
        return {"action": argparse.BooleanOptionalAction, "default": default}
    if declared.choices:
        return {"choices": declared.choices, "default": getattr(default, "value", default)}
    return {
        "type": _number(kind, optional=optional) if kind in (int, float) else kind,
        "default": default,
        "metavar": declared.metavar,
    }


def _number(kind: type, *, optional: bool) -> Callable[[str], Any]:
    """Parses a number as every protocol takes it: `null` where it may be absent, and `500.0` where it must be whole."""

    def parse(text: str) -> Any:
        if optional and text == "null":
            return None
        number = float(text)
        return int(number) if kind is int and number.is_integer() else kind(text)

    parse.__name__ = kind.__name__
    return parse


def _options_from(parsed: argparse.Namespace, cls: type[T], **others: Any) -> T:
    """The dataclass's instance that the flags give; an option without a flag has its default.

    Raises:
        OptionError: a value is not allowed.
    """
    types = typing.get_type_hints(cls)
    for name in options_of(cls):
        if name not in others and hasattr(parsed, name):
            value = getattr(parsed, name)
            convert = tuple if isinstance(value, list) else types[name]
            others[name] = convert(value) if isinstance(convert, type) and value is not None else value
    return cls(**others)


def _log_options(parser: argparse.ArgumentParser, default: str = "info") -> None:
    parser.add_argument("--log-level", default=default, choices=("debug", "info", "warning", "error"))


def _recognizer(options: argparse.Namespace) -> Recognizer:
    try:
        return factory_for(options.model, options.recognizer).create(options)
    except ValueError as error:
        raise RecognizerUnavailable(str(error)) from None


async def _serve(options: argparse.Namespace) -> int:
    from streaming_asr.server.listening import AddressTaken
    from streaming_asr.server.options import ServerOptions

    keys = [*options.api_keys, *filter(None, os.environ.get("STREAMING_ASR_API_KEYS", "").split(","))]
    if options.api_key_file is not None:
        keys += _keys_in(options.api_key_file)
    session = _options_from(options, SessionOptions)
    server = _options_from(options, ServerOptions, api_keys=tuple(keys), session=session)
    try:
        if options.replica is not None:
            return await _serve_as_replica(options, server)
        if server.replicas > 1:
            return await _serve_by_replicas(options, server)
        from streaming_asr.server.serve import serve

        await serve(_recognizer(options), server)
    except AddressTaken as error:
        print(f"streaming-asr: {error}", file=sys.stderr)
        return FAILED
    return 0


async def _serve_by_replicas(options: argparse.Namespace, server: ServerOptions) -> int:
    """Run the supervisor, which needs neither a recognizer nor a web framework."""
    from streaming_asr.server.replicas.shares import share_out, usable_cores
    from streaming_asr.server.replicas.supervisor import Supervisor

    server.tls()
    shares = share_out(server.replicas, os.environ, usable_cores())
    return await Supervisor(server, [sys.executable, *options.again], shares).run()


async def _serve_as_replica(options: argparse.Namespace, server: ServerOptions) -> int:
    from streaming_asr.server.replicas.link import Link
    from streaming_asr.server.replicas.shares import share_limits
    from streaming_asr.server.serve import serve

    await serve(_recognizer(options), share_limits(server, server.replicas), Link(options.replica))
    return 0


def _replica() -> Identity | None:
    """What the supervisor started this process as; None if it is not one of several replicas."""
    if "STREAMING_ASR_REPLICA" not in os.environ:
        return None
    from streaming_asr.server.replicas.link import Identity

    replica = Identity.take()
    if replica is not None and replica.cores:
        # Before any library starts its threads, which inherit it.
        os.sched_setaffinity(0, replica.cores)
    return replica


async def _transcribe(options: argparse.Namespace) -> int:
    from streaming_asr.transcribe import transcribe_files

    session = _options_from(options, SessionOptions)
    return await transcribe_files(
        _recognizer(options), options.files, session, style=options.format, output=options.output
    )


def _keys_in(path: Path) -> list[str]:
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not a text file"
        raise OptionError("api_key_file", f"can't read {path}: {reason}") from None
    keys = []
    for number, line in enumerate(lines, 1):
        key = line.strip()
        if not key or key.startswith("#"):
            continue
        if not key.isascii() or not key.isprintable() or " " in key:
            raise OptionError("api_key_file", f"line {number} of {path} is not a key: keys are ASCII without spaces")
        keys.append(key)
    if not keys:
        raise OptionError("api_key_file", f"{path} has no key")
    return keys


def _log(level: str, who: str = "") -> None:
    """Log to stderr.

    Args:
        who: before each message, where several processes share the log.
    """
    logging.basicConfig(
        level=level.upper(),
        stream=sys.stderr,
        format=f"%(asctime)s %(levelname)-7s {who}%(message)s",
        datefmt="%H:%M:%S",
    )
    rate = LogRate()
    for handler in logging.getLogger().handlers:
        handler.addFilter(rate)
    for noisy in ("uvicorn", "faster_whisper", "websockets", "asyncio"):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, logging.getLogger().level))


def _run(coroutine: Coroutine[Any, Any, int]) -> int:
    try:
        import uvloop
    except ImportError:
        return asyncio.run(coroutine)
    return uvloop.run(coroutine)

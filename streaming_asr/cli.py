"""The command line: serve | transcribe | doctor."""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import logging
import os
import sys
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any

from streaming_asr import __version__
from streaming_asr.core.options import RECORDED_ENDPOINT_MS, OptionError, SessionOptions
from streaming_asr.core.recognizer import Recognizer, RecognizerUnavailable
from streaming_asr.recognizers.choose import RECOGNIZERS, recognizer_for

FAILED = 1
INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["doctor"]:
        from streaming_asr import doctor

        return doctor.main(arguments[1:])
    parser = _parser()
    options, engine = parser.parse_known_args(arguments)
    options.engine = engine
    name = options.recognizer or recognizer_for(options.model)
    if engine and name != "vllm":
        parser.error(f"unrecognized arguments: {' '.join(engine)}")
    if options.command == "transcribe" and len(options.files) > 1 and options.format in ("srt", "vtt"):
        parser.error(f"{options.format} holds one recording; transcribe the files one by one")
    if getattr(options, "engine_help", False):
        return _engine_help(options.model)
    _log(options.log_level)
    command = _serve if options.command == "serve" else _transcribe
    try:
        return _run(command(options))
    except (OptionError, RecognizerUnavailable) as error:
        print(f"streaming-asr: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        return INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="streaming-asr", description="Live speech to text, self-hosted.")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="serve | transcribe | doctor")

    serve = commands.add_parser(
        "serve", help="start the server", formatter_class=_Formatter, allow_abbrev=False, epilog=_ENGINE_OPTIONS
    )
    _model_options(serve)
    _server_options(serve)
    _session_options(serve, "what clients that do not say otherwise get")
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
    _whisper_options(transcribe)
    _session_options(transcribe, "how the audio is heard", endpoint_ms=RECORDED_ENDPOINT_MS)
    _log_options(transcribe, default="warning")

    commands.add_parser("doctor", help="say what this machine can run, and what is missing", add_help=False)
    return parser


class _Formatter(argparse.ArgumentDefaultsHelpFormatter):
    """Shows defaults where there are any."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        if action.default in (None, False, (), []):
            return action.help
        return super()._get_help_string(action)


def _model_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "model",
        nargs="?",
        metavar="MODEL",
        help="name or folder of the weights; without it, the English Whisper that comes with streaming-asr[local]",
    )
    _whisper_options(parser)
    parser.add_argument("--engine-help", action="store_true", help="show vLLM's options and leave")


def _whisper_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("recognizer")
    group.add_argument("--recognizer", choices=RECOGNIZERS, help="default: told from MODEL")
    group.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"), help="faster-whisper's device")
    group.add_argument("--compute-type", help="CTranslate2's arithmetic; default int8 on CPU, float16 on GPU")
    group.add_argument("--workers", type=int, help="decodes that faster-whisper runs at once; default one a core")


_ENGINE_OPTIONS = (
    "A model that runs under vLLM takes every option of vLLM's engine too, after MODEL: --tensor-parallel-size 2."
)


def _engine_help(model: str | None) -> int:
    if importlib.util.find_spec("vllm") is None:
        from streaming_asr.doctor import what_to_install

        print(what_to_install(model or "Qwen/Qwen3-ASR-1.7B"), file=sys.stderr)
        return FAILED
    from streaming_asr.recognizers.vllm.options import engine_help

    print(engine_help())
    return 0


def _server_options(parser: argparse.ArgumentParser) -> None:
    from streaming_asr.server.options import ServerOptions

    server = ServerOptions()
    group = parser.add_argument_group("server")
    group.add_argument("--host", default=server.host, help="address to listen on; 0.0.0.0 is all of them")
    group.add_argument("--port", type=int, default=server.port, help="0 takes a free one")
    group.add_argument("--api-key", action="append", default=[], dest="api_keys", metavar="KEY", help="may be repeated")
    group.add_argument("--api-key-file", type=Path, metavar="FILE", help="one key a line")
    group.add_argument(
        "--allowed-origin", action="append", default=[], dest="allowed_origins", metavar="ORIGIN", help="or *"
    )
    group.add_argument(
        "--model-alias",
        action="append",
        default=[],
        dest="model_aliases",
        metavar="NAME",
        help="that clients may give to the model; * takes any",
    )
    group.add_argument("--certificate", type=Path, metavar="PEM", help="for https and wss")
    group.add_argument("--private-key", type=Path, metavar="PEM")
    limits = parser.add_argument_group("limits")
    limits.add_argument("--max-sessions", type=int, default=server.max_sessions)
    limits.add_argument("--max-message-bytes", type=int, default=server.max_message_bytes)
    limits.add_argument(
        "--max-held-s", type=float, default=server.max_held_s, help="audio kept per channel before reading stops"
    )
    limits.add_argument("--max-session-s", type=float, default=server.max_session_s, help="audio in one session")
    limits.add_argument("--idle-timeout-s", type=float, default=server.idle_timeout_s)
    limits.add_argument(
        "--max-unread-events", type=int, default=server.max_unread_events, help="messages a client may leave unread"
    )
    limits.add_argument(
        "--final-objective-s",
        type=float,
        default=server.final_objective_s,
        help="new sessions are refused while finals wait longer",
    )
    limits.add_argument(
        "--drain-timeout-s", type=float, default=server.drain_timeout_s, help="at shutdown, for the last finals"
    )
    uploads = parser.add_argument_group("recordings over HTTP")
    uploads.add_argument("--max-upload-bytes", type=int, default=server.max_upload_bytes)
    uploads.add_argument("--max-recordings", type=int, default=server.max_recordings, help="at once; others wait")
    uploads.add_argument("--allow-private-urls", action="store_true", help="fetch from addresses that are not public")
    uploads.add_argument("--fetch-timeout-s", type=float, default=server.fetch_timeout_s)


def _session_options(parser: argparse.ArgumentParser, title: str, **defaults: int) -> None:
    session = SessionOptions().changed(**defaults)
    group = parser.add_argument_group(title)
    group.add_argument("--language", help="ISO 639 code to force; default: detect")
    group.add_argument(
        "--keyword", action="append", default=[], dest="keywords", metavar="WORD", help="may be repeated"
    )
    group.add_argument("--context", default="", help="background for the recognizer")
    group.add_argument("--vad", choices=("cascade", "silero", "webrtc"), default=session.vad)
    group.add_argument("--vad-threshold", type=float, default=session.vad_threshold)
    group.add_argument("--endpoint-ms", type=int, default=session.endpoint_ms, help="silence that ends an utterance")
    group.add_argument("--pause-ms", type=int, default=session.pause_ms, help="silence that starts its final early")
    group.add_argument("--max-utterance-s", type=float, default=session.max_utterance_s)
    group.add_argument("--partial-interval-ms", type=int, default=session.partial_interval_ms)
    group.add_argument(
        "--withheld-words",
        type=int,
        default=session.withheld_words,
        help="at the end of partials, which the audio cuts",
    )
    group.add_argument("--word-times", action="store_true", help="give finals the times of their words")


def _log_options(parser: argparse.ArgumentParser, default: str = "info") -> None:
    parser.add_argument("--log-level", default=default, choices=("debug", "info", "warning", "error"))


def _session(options: argparse.Namespace) -> SessionOptions:
    return SessionOptions(
        language=options.language,
        keywords=tuple(options.keywords),
        context=options.context,
        vad=options.vad,
        vad_threshold=options.vad_threshold,
        endpoint_ms=options.endpoint_ms,
        pause_ms=options.pause_ms,
        max_utterance_s=options.max_utterance_s,
        partial_interval_ms=options.partial_interval_ms,
        withheld_words=options.withheld_words,
        word_times=options.word_times,
    )


def _recognizer(options: argparse.Namespace) -> Recognizer:
    name = options.recognizer or recognizer_for(options.model)
    if name == "vllm":
        from streaming_asr.recognizers.vllm.recognizer import VllmRecognizer

        if options.model is None:
            raise OptionError("model", "vLLM needs one, such as Qwen/Qwen3-ASR-1.7B")
        return VllmRecognizer(options.model, options.engine)
    from streaming_asr.recognizers.whisper.recognizer import FasterWhisperRecognizer

    try:
        return FasterWhisperRecognizer(
            options.model, device=options.device, compute_type=options.compute_type, workers=options.workers
        )
    except ValueError as error:
        raise RecognizerUnavailable(str(error)) from None


async def _serve(options: argparse.Namespace) -> int:
    from streaming_asr.server.options import ServerOptions
    from streaming_asr.server.serve import AddressTaken, serve

    keys = [*options.api_keys, *filter(None, os.environ.get("STREAMING_ASR_API_KEYS", "").split(","))]
    if options.api_key_file is not None:
        keys += _keys_in(options.api_key_file)
    server = ServerOptions(
        host=options.host,
        port=options.port,
        api_keys=tuple(keys),
        allowed_origins=tuple(options.allowed_origins),
        model_aliases=tuple(options.model_aliases),
        certificate=options.certificate,
        private_key=options.private_key,
        max_sessions=options.max_sessions,
        max_message_bytes=options.max_message_bytes,
        max_held_s=options.max_held_s,
        max_session_s=options.max_session_s,
        idle_timeout_s=options.idle_timeout_s,
        max_unread_events=options.max_unread_events,
        final_objective_s=options.final_objective_s,
        drain_timeout_s=options.drain_timeout_s,
        max_upload_bytes=options.max_upload_bytes,
        max_recordings=options.max_recordings,
        allow_private_urls=options.allow_private_urls,
        fetch_timeout_s=options.fetch_timeout_s,
        session=_session(options),
    )
    try:
        await serve(_recognizer(options), server)
    except AddressTaken as error:
        print(f"streaming-asr: {error}", file=sys.stderr)
        return FAILED
    return 0


async def _transcribe(options: argparse.Namespace) -> int:
    from streaming_asr.transcribe import transcribe_files

    return await transcribe_files(
        _recognizer(options), options.files, _session(options), style=options.format, output=options.output
    )


def _keys_in(path: Path) -> list[str]:
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise OptionError("api_key_file", f"can't read {path}: {error}") from None
    keys = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    if not keys:
        raise OptionError("api_key_file", f"{path} holds no key")
    return keys


def _log(level: str) -> None:
    logging.basicConfig(
        level=level.upper(), stream=sys.stderr, format="%(asctime)s %(levelname)-7s %(message)s", datefmt="%H:%M:%S"
    )
    for noisy in ("uvicorn", "faster_whisper", "websockets", "asyncio"):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, logging.getLogger().level))


def _run(coroutine: Coroutine[Any, Any, int]) -> int:
    try:
        import uvloop
    except ImportError:
        return asyncio.run(coroutine)
    return uvloop.run(coroutine)

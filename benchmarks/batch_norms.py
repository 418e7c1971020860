"""ResNet-20 with its BatchNormalizations again, which its exporter fused into the weights.

Their statistics are the moments of the convolutions' outputs over the training images, as in a trained normalisation.
Each normalisation is the identity: μ = β and σ² + ε = γ².
"""

import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from benchmarks import datasets
from benchmarks.assets import cache_folder
from graphpass.graph.model import export, load, save
from graphpass.runtime.session import open_session, run

Array = NDArray[Any]
EPSILON = 1e-5
TRAINING_IMAGES = 5000


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
        insert(graph, node, identity)
    return _kept(graph, path)


def insert(graph: gs.Graph, node: gs.Node, parts: tuple[Array, ...]) -> None:
    """Put a BatchNormalization (γ, β, μ, σ²) behind a convolution."""
    output = node.outputs[0]
    raw = gs.Variable(f"{output.name}/raw", np.float32, output.shape)
    constants = [
        gs.Constant(f"{node.name}/{name}", np.ascontiguousarray(values, np.float32))
        for name, values in zip(("scale", "shift", "mean", "variance"), parts, strict=True)
    ]
    node.outputs = [raw]
    norm = gs.Node("BatchNormalization", f"{node.name}/norm", {"epsilon": EPSILON}, [raw, *constants], [output])
    graph.nodes.append(norm)


def _kept(graph: gs.Graph, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{os.getpid()}")
    save(export(graph.cleanup().toposort()), temporary)
    return temporary.replace(path)

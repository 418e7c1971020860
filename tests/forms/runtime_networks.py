"""Networks that other runtimes than onnxruntime read, and their inputs."""

import numpy as np
import onnx

from tests.forms.test_curved_networks import X
from tests.models import build, node


def relu_network() -> onnx.ModelProto:
    """Channels last; identity and strided projection, depthwise, a strided layer of one tap, max pooling, a Gemm."""
    random = np.random.default_rng(3)
    shapes = {"w0": (8, 3, 3, 3), "w1": (8, 8, 3, 3), "w2": (8, 8, 3, 3), "w3": (8, 1, 3, 3), "w4": (16, 8, 3, 3)}
    shapes |= {"w5": (16, 8, 1, 1), "w6": (16, 10)}
    shapes |= {"w7": (8, 16, 1, 1), "w8": (16, 8, 3, 3), "w9": (16, 16, 1, 1)}
    weights = {name: random.normal(size=s) / np.sqrt(np.prod(s[1:]) / 2) for name, s in shapes.items()}
    weights |= {f"b{key[1:]}": random.normal(size=shapes[key][0]) / 4 for key in ("w0", "w1", "w2", "w3", "w4")}
    same = {"pads": [1] * 4}
    nodes = [
        node("Transpose", "x", "t", "t", perm=[0, 3, 1, 2]),
        node("Conv", "t w0 b0", "c0", "c0", **same), node("Relu", "c0", "a0", "a0"),
        node("Conv", "a0 w1 b1", "c1", "c1", **same), node("Relu", "c1", "a1", "a1"),
        node("Conv", "a1 w2 b2", "c2", "c2", **same), node("Add", "c2 a0", "s2", "s2"), node("Relu", "s2", "a2", "a2"),
        node("Conv", "a2 w3 b3", "c3", "c3", group=8, strides=[2, 2], **same), node("Relu", "c3", "a3", "a3"),
        node("Conv", "a3 w4 b4", "c4", "c4", **same),
        node("Conv", "a2 w5", "c5", "c5", strides=[2, 2]), node("Add", "c4 c5", "s4", "s4"),
        node("Relu", "s4", "a4", "a4"),
        node("Conv", "a4 w7", "c6", "c6", strides=[2, 2]), node("Relu", "c6", "a6", "a6"),
        node("Conv", "a6 w8", "c7", "c7", **same), node("Conv", "a4 w9", "c8", "c8", strides=[2, 2]),
        node("Add", "c7 c8", "s7", "s7"), node("Relu", "s7", "a7", "a7"),
        node("MaxPool", "a7", "p", "p", kernel_shape=[2, 2]),
        node("GlobalAveragePool", "p", "g", "g"), node("Flatten", "g", "f", "f"), node("Gemm", "f w6", "y", "y"),
    ]  # fmt: skip
    constants = {name: values.astype(np.float32) for name, values in weights.items()}
    return build(nodes, {"x": ["N", 8, 8, 3]}, {"y": ["N", 10]}, constants, opset=21)


def transformer_block() -> onnx.ModelProto:
    """x + attention, then x + two layers with GELU, each behind a normalisation."""
    random = np.random.default_rng(2)
    weights = {name: random.normal(size=(16, 16)) / 4 for name in ("wq", "wk", "wv", "wo")}
    weights |= {"w1": random.normal(size=(16, 32)) / 4, "w2": random.normal(size=(32, 16)) / 6}
    weights |= {"w3": random.normal(size=(16, 5)), "ones": np.ones(16), "root": np.array(0.25)}
    nodes = [
        node("LayerNormalization", "x ones", "n", "n"),
        *(node("MatMul", f"n w{key}", key, key) for key in "qkv"), node("Transpose", "k", "kt", "kt", perm=[0, 2, 1]),
        node("MatMul", "q kt", "qk", "qk"), node("Mul", "qk root", "scaled", "scaled"),
        node("Softmax", "scaled", "weights", "weights"), node("MatMul", "weights v", "mixed", "mixed"),
        node("MatMul", "mixed wo", "o", "o"), node("Add", "x o", "r", "r"),
        node("LayerNormalization", "r ones", "m", "m"), node("MatMul", "m w1", "h", "h"), node("Gelu", "h", "e", "e"),
        node("MatMul", "e w2", "d", "d"), node("Add", "r d", "t", "t"),
        node("ReduceMean", "t axes", "mean", "mean", keepdims=0), node("MatMul", "mean w3", "y", "y"),
    ]  # fmt: skip
    constants = {name: values.astype(np.float32) for name, values in weights.items()} | {"axes": np.array([1])}
    return build(nodes, {"x": ["N", 6, 16]}, {"y": ["N", 5]}, constants, opset=21)


def concat_network() -> onnx.ModelProto:
    """Two branches, one of them depthwise and padded, concatenated, moved, pooled; a channel mean with a reader."""
    random = np.random.default_rng(5)
    shapes = {"w0": (8, 3, 3, 3), "w1": (8, 1, 3, 3), "w2": (4, 8, 1, 1), "w3": (6, 12, 3, 3), "w4": (6, 10)}
    constants = {n: (random.normal(size=s) / np.sqrt(np.prod(s[1:]) / 2)).astype(np.float32) for n, s in shapes.items()}
    nodes = [
        node("Conv", "x w0", "c0", "c0", pads=[1] * 4), node("Relu", "c0", "a0", "a0"),
        node("Conv", "a0 w1", "c1", "c1", pads=[1] * 4, group=8), node("Relu", "c1", "a1", "a1"),
        node("Conv", "a0 w2", "c2", "c2"), node("Relu", "c2", "a2", "a2"),
        node("Concat", "a1 a2", "j", "j", axis=1), node("MaxPool", "j", "p", "p", kernel_shape=[2, 2], strides=[2, 2]),
        node("Transpose", "p", "t", "t", perm=[0, 1, 3, 2]), node("Conv", "t w3", "c3", "c3", pads=[1] * 4),
        node("Relu", "c3", "a3", "a3"), node("GlobalMaxPool", "a3", "g", "g"), node("Flatten", "g", "f", "f"),
        node("Gemm", "f w4", "y", "y"),
    ]  # fmt: skip
    return build(nodes, {"x": ["N", 3, 8, 8]}, {"y": ["N", 10]}, constants, opset=21)


INPUTS = {
    "relu": np.ascontiguousarray(X.transpose(0, 2, 3, 1)),
    "transformer": np.random.default_rng(0).normal(size=(48, 6, 16)).astype(np.float32),
}

"""Peak memory of commands as multiples of the weights: `python -m benchmarks.memory [mlp|cnn|transformer …] [--quick]`.

Each call runs in a separate process. What that process holds before it reads the network is subtracted, and the rest is
divided by the size of the file. The networks are made here, with random weights, of about 200 and 600 MB; with --quick
of 200 MB alone. Data: 32 samples, T = 4. `convert` with method `max`, and with `optimal`, whose corrections take memory
within --memory-budget on top. `verify` on 8 samples.
"""

import argparse
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from benchmarks.results import table
from benchmarks.timing import arguments, machine

CHILD = "--measure"
SIZES, SAMPLES, STEPS = (200, 600), 32, 4  # megabytes, about
CALLS = ("inspect", "convert, max", "convert, optimal", "evaluate", "verify")


@dataclass
class Parts:
    """Nodes and weights of a network that is made."""

    random: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: list[TensorProto] = field(default_factory=list)

    def weight(self, *shape: int, fan_in: int) -> str:
        """A weight of He's scale, which keeps the size of activations from layer to layer."""
        values = self.random.standard_normal(shape, np.float32) * np.float32((2 / fan_in) ** 0.5)
        return self.constant(values)

    def constant(self, values: NDArray[np.generic]) -> str:
        self.weights.append(numpy_helper.from_array(values, f"w{len(self.weights)}"))
        return self.weights[-1].name

    def add(self, op: str, *inputs: str, **attributes: object) -> str:
        name = f"{op.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [f"{name}_out"], name, **attributes))
        return f"{name}_out"

    def model(self, kind: int, shape: Sequence[int | str], result: str, axes: int) -> onnx.ModelProto:
        """The network from `x` to `y`."""
        self.nodes.append(helper.make_node("Identity", [result], ["y"], "result"))
        ends = (
            helper.make_tensor_value_info("x", kind, shape),
            helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * axes),
        )
        graph = helper.make_graph(self.nodes, "made", [ends[0]], [ends[1]], self.weights)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def mlp(megabytes: int) -> onnx.ModelProto:
    """Layers of 4096 × 4096 with Relu."""
    parts, x, width = Parts(), "x", 4096
    for _ in range(round(megabytes / (4e-6 * width**2))):
        x = parts.add("Relu", parts.add("MatMul", x, parts.weight(width, width, fan_in=width)))
    return parts.model(
        TensorProto.FLOAT, ["N", width], parts.add("MatMul", x, parts.weight(width, 10, fan_in=width)), 2
    )


def cnn(megabytes: int) -> onnx.ModelProto:
    """Convolutions of 3 × 3 and 512 channels, each with BatchNormalization and Relu, on 8 × 8 pixels."""
    parts, channels = Parts(), 512
    x = parts.add("Conv", "x", parts.weight(channels, 3, 3, 3, fan_in=27), pads=[1] * 4)
    for _ in range(round(megabytes / (36e-6 * channels**2))):
        weight = parts.weight(channels, channels, 3, 3, fan_in=9 * channels)
        moments = [parts.constant(np.full(channels, value, np.float32)) for value in (1.1, 0.01, 0.02, 1.3)]
        convolved = parts.add("Conv", parts.add("Relu", x), weight, pads=[1] * 4)
        x = parts.add("BatchNormalization", convolved, *moments)
    pooled = parts.add("Flatten", parts.add("GlobalAveragePool", parts.add("Relu", x)))
    result = parts.add("MatMul", pooled, parts.weight(channels, 10, fan_in=channels))
    return parts.model(TensorProto.FLOAT, ["N", 3, 8, 8], result, 2)


def transformer(megabytes: int) -> onnx.ModelProto:
    """Blocks of attention with 8 heads and of 1024 → 4096 → 1024 with Relu, on 16 tokens."""
    parts, width, heads = Parts(), 1024, 8
    split = parts.constant(np.array([0, 0, heads, width // heads], np.int64))
    joined = parts.constant(np.array([0, 0, width], np.int64))
    scale = parts.constant(np.float32((width // heads) ** -0.5))
    one, zero = (parts.constant(np.full(width, value, np.float32)) for value in (1, 0))
    x = parts.add("Gather", parts.weight(1024, width, fan_in=2), "x")
    for _ in range(round(megabytes / (48e-6 * width**2))):
        normal = parts.add("LayerNormalization", x, one, zero)
        query, key, value = (
            parts.add(
                "Transpose",
                parts.add("Reshape", parts.add("MatMul", normal, parts.weight(width, width, fan_in=2 * width)), split),
                perm=axes,
            )
            for axes in ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3])
        )
        shares = parts.add("Softmax", parts.add("Mul", parts.add("MatMul", query, key), scale), axis=-1)
        mixed = parts.add("Transpose", parts.add("MatMul", shares, value), perm=[0, 2, 1, 3])
        out = parts.add("MatMul", parts.add("Reshape", mixed, joined), parts.weight(width, width, fan_in=2 * width))
        x = parts.add("Add", x, out)
        inner = parts.add("LayerNormalization", x, one, zero)
        hidden = parts.add("Relu", parts.add("MatMul", inner, parts.weight(width, 4 * width, fan_in=width)))
        x = parts.add("Add", x, parts.add("MatMul", hidden, parts.weight(4 * width, width, fan_in=4 * width)))
    result = parts.add("MatMul", x, parts.weight(width, 100, fan_in=width))
    return parts.model(TensorProto.INT64, ["N", "S"], result, 3)


NETWORKS: dict[str, Callable[[int], onnx.ModelProto]] = {"mlp": mlp, "cnn": cnn, "transformer": transformer}
SHAPES: dict[str, tuple[int, ...]] = {"mlp": (4096,), "cnn": (3, 8, 8), "transformer": (16,)}


def make(name: str, megabytes: int, folder: Path) -> None:
    """Write ann.onnx and data.npz into the folder."""
    onnx.save(NETWORKS[name](megabytes), folder / "ann.onnx")
    random, shape = np.random.default_rng(1), (SAMPLES, *SHAPES[name])
    numbers = random.integers(0, 1024, shape) if name == "transformer" else random.standard_normal(shape, np.float32)
    np.savez(folder / "data.npz", x=numbers)


def highest() -> int:
    """Bytes of the largest resident size of this process so far. Unlike ru_maxrss, nothing of the process before it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def measure(call: str, folder: Path) -> int:
    """Bytes that one call takes in this process, beyond what it holds before."""
    import graphpass
    from graphpass import api  # what the calls need is loaded before they are measured

    before, (ann, snn, data) = highest(), (str(folder / name) for name in ("ann.onnx", "snn.onnx", "data.npz"))
    match call.split(", "):
        case ["inspect"]:
            api.inspect(ann)
        case ["convert", method]:
            graphpass.convert(ann, data, snn, time_steps=STEPS, method=method)
        case ["evaluate"]:
            graphpass.evaluate(ann, snn, data)
        case ["verify"]:
            graphpass.verify(snn, data, limit=8)
    return highest() - before


def in_a_process(call: str, folder: Path) -> float:
    """`measure` in a separate process, as a multiple of the size of the network's file."""
    command = [sys.executable, "-m", "benchmarks.memory", CHILD, call, str(folder)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return int(done.stdout.splitlines()[-1]) / (folder / "ann.onnx").stat().st_size


def rows(names: Sequence[str], sizes: Sequence[int]) -> Iterator[Sequence[object]]:
    for name in names:
        for megabytes in sizes:
            with tempfile.TemporaryDirectory() as temporary:
                folder = Path(temporary)
                make(name, megabytes, folder)
                size = f"{(folder / 'ann.onnx').stat().st_size / 1e6:.0f}"
                yield name, size, *(f"{in_a_process(call, folder):.1f}" for call in CALLS)


def child() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument(CHILD, nargs=2, metavar=("CALL", "FOLDER"))
    call, folder = parser.parse_args().measure
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        print(measure(call, Path(folder)))


def main() -> None:
    if CHILD in sys.argv:
        child()
        return
    options = arguments(__doc__, NETWORKS)
    print(machine())
    sizes = SIZES[:1] if options.quick else SIZES
    table(("network", "MB of weights", *CALLS), rows(options.names or tuple(NETWORKS), sizes))


if __name__ == "__main__":
    main()

"""Networks of neurons, built node by node and checked against the definition."""

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest

from graphpass.forms.registry import assemble, spiking_graph
from graphpass.forms.unrolled import fold_back, unroll
from graphpass.graph.domains import SPIKING_DOMAIN
from graphpass.maths.neuron import levels_of
from tests.models import FLOAT, HALF, build, node, run

CODES = [("rate", 1), ("rate", 3), ("rate", 5), ("phase", 1), ("phase", 2), ("phase", 4)]
every_code = pytest.mark.parametrize(("coding", "steps"), CODES)
RELATIVE = 1e-5  # some hundred float32 roundings of 6e-8


class Net:
    """A folded graph under construction; weights are integers of a seeded generator."""

    def __init__(self, coding: str = "rate", steps: int = 3, seed: int = 0, dtype: int = FLOAT):
        self.coding, self.steps, self.dtype = coding, steps, dtype
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, np.ndarray] = {}
        self.random = np.random.default_rng(seed)

    def op(self, op: str, inputs: str, output: str, **attributes) -> str:
        self.nodes.append(node(op, inputs, output, name=output.split()[0], **attributes))
        return output

    def constant(self, name: str, values) -> str:
        array = np.asarray(values)
        float_type = np.float16 if self.dtype == HALF else np.float32
        self.constants[name] = array.astype({"i": np.int64, "b": np.bool_}.get(array.dtype.kind, float_type))
        return name

    def weight(self, name: str, *shape: int) -> str:
        return self.constant(name, self.random.integers(-2, 3, shape).astype(float))

    def neuron(self, x: str, y: str, shape: Sequence[int], amplitude=1.0, offset=0.0, levels: int | None = None) -> str:
        thresholds = self.random.integers(1, 4, shape).astype(np.float32)
        values = {"threshold": thresholds, "shift": 0.3, "amplitude": amplitude, "offset": offset}
        for part, value in values.items():
            array = np.asarray(value, np.float32)
            self.constants[f"{y}/{part}"] = np.broadcast_to(array, shape).copy()
        inputs = " ".join([x, *(f"{y}/{part}" for part in values)])
        attributes = {"time_steps": self.steps, "levels": levels or levels_of(self.steps, self.coding)}
        self.nodes.append(
            node("ParallelNeuron", inputs, y, f"{y}/neuron", SPIKING_DOMAIN, **attributes, coding=self.coding)
        )
        return y

    def graph(self, inputs: Mapping[str, Sequence], outputs: Mapping[str, int], opset: int = 17) -> gs.Graph:
        """outputs: ranks by name."""
        shapes = {name: [f"{name}{axis}" for axis in range(rank)] for name, rank in outputs.items()}
        proto = build(self.nodes, inputs, shapes, self.constants, opset=opset, dtype=self.dtype)
        return spiking_graph(proto)

    def check(self, inputs: Mapping[str, Sequence], outputs: Mapping[str, int], batch: int = 3, **options) -> gs.Graph:
        """Folded, unrolled and folded back give the same; returns the unrolled graph."""
        free = {name: ["N", *shape] if batch != 1 else [1, *shape] for name, shape in inputs.items()}
        graph = self.graph(free, outputs, **options)
        unrolled = unroll(graph.copy())
        feeds = [self.random.integers(-3, 4, (batch, *shape)).astype(np.float32) for shape in inputs.values()]
        if self.dtype == HALF:
            feeds = [feed.astype(np.float16) for feed in feeds]
        expected = run(assemble(graph, self.coding), *feeds)
        relative = 2e-3 if self.dtype == HALF else RELATIVE  # 2^-11 a rounding, four of them
        for other in (unrolled, fold_back(unrolled.copy())):
            proto = assemble(other, self.coding)
            onnx.checker.check_model(proto)
            for one, two in zip(expected, run(proto, *feeds), strict=True):
                assert one.shape == two.shape
                assert np.abs(one).max() > 0
                np.testing.assert_allclose(two, one, rtol=relative, atol=relative * np.abs(one).max())
        assert [t.name for t in unrolled.outputs] == list(outputs)
        return unrolled

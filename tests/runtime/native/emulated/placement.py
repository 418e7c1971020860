"""onnxruntime's CUDA provider over the emulated runtime: operators, a CUDA graph, where nodes of networks are placed.

scripts/emulate-provider runs it, where onnxruntime is onnxruntime-gpu and CUDA's libraries are those of provider.py:
`placement.py FOLDER [operators] [graph] [networks]`. Exits with 1 where a number differs.
"""

import ctypes
import os
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnxruntime as ort
from hypothesis import HealthCheck, given, settings
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper
from onnx import load as load_model

import graphpass
from benchmarks.results import table
from graphpass.errors import GraphpassError
from graphpass.forms import operators
from graphpass.graph.domains import SPIKING_DOMAIN
from graphpass.maths.neuron import Neuron
from graphpass.runtime.session import NO_INTEGER_LAYERS
from tests.runtime import test_native
from tests.runtime.native.emulated.build import OPERATORS
from tests.runtime.native.emulated.provider import RUNTIME

Array = NDArray[Any]
FOLDER = Path(sys.argv[1])
ROOT = Path(__file__).parents[4]
GPU = ["CUDAExecutionProvider", "CPUExecutionProvider"]
NETWORKS = {
    "example": ROOT / "examples" / "fashion_mnist" / "fashion_mnist.onnx",
    "ResNet-20": ROOT / "benchmarks" / "trained" / "resnet20.onnx",
    "ResNet-20, SiLU": ROOT / "benchmarks" / "trained" / "resnet20_silu.onnx",
    "ViT": ROOT / "benchmarks" / "trained" / "vit.onnx",
}
FORMS = {  # as the table names them → options of convert
    "folded": {"form": "folded"},
    "folded, float16": {"form": "folded", "precision": "float16"},
    "unrolled": {"form": "unrolled"},
    "unrolled, float16": {"form": "unrolled", "precision": "float16"},
    "integer": {"form": "integer"},
}


class Counts:
    """What the emulated runtime counted since `since_now`."""

    def __init__(self) -> None:
        self.library = ctypes.CDLL(str(FOLDER / RUNTIME))
        self.library.emulated_count.restype = ctypes.c_ulonglong

    def __getitem__(self, what: str) -> int:
        return int(self.library.emulated_count(what.encode()))

    def since_now(self) -> None:
        self.library.emulated_reset()


def session(proto: ModelProto, optimised: Path | None = None, **options: str) -> ort.InferenceSession:
    """A session on CUDA with the native operators, alone: without falling back to the CPU. Log: everything.

    optimised: where the optimised model is written.
    """
    given = ort.SessionOptions()
    given.register_custom_ops_library(str(FOLDER / OPERATORS))
    given.add_session_config_entry(*NO_INTEGER_LAYERS)  # as open_session does
    given.optimized_model_filepath = str(optimised or "")
    given.log_severity_level, given.intra_op_num_threads = int(os.environ.get("SEVERITY", "4")), 1
    made = ort.InferenceSession(proto.SerializeToString(), given, providers=[(GPU[0], options), GPU[1]])
    if made.get_providers()[0] != GPU[0]:
        raise SystemExit("the CUDA provider did not start")
    return made


def value(x: Array) -> ort.OrtValue:
    if x.dtype == ml_dtypes.bfloat16:
        bits = np.ascontiguousarray(x).view(np.uint16)
        return ort.OrtValue.ortvalue_from_numpy_with_onnx_type(bits, TensorProto.BFLOAT16)
    return ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(x))


def array(value: ort.OrtValue) -> Array:
    if value.element_type() != TensorProto.BFLOAT16:
        return np.asarray(value.numpy())
    shape = tuple(value.shape())
    raw = (ctypes.c_uint16 * int(np.prod(shape))).from_address(value.data_ptr()) if np.prod(shape) else []
    return np.array(raw, np.uint16).reshape(shape).view(ml_dtypes.bfloat16)


def run_operators() -> None:
    """The properties of test_native.py, each operator alone in a network: onnxruntime's own kernels do not run here."""
    counts, seen = Counts(), Counter[str]()

    def call(op: str, x: Array, *parameters: Array, **attributes: Any) -> Array:
        kind = test_native.TYPES[x.dtype]
        out = TensorProto.UINT8 if op == operators.COUNT_NEURON else kind
        names = ("x", *test_native.NAMES[: len(parameters)])
        node = helper.make_node(op, names, ["y"], "neuron", domain=SPIKING_DOMAIN, **attributes)
        inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names[1:]]
        first, last = helper.make_tensor_value_info("x", kind, None), helper.make_tensor_value_info("y", out, None)
        opsets = [helper.make_opsetid("", 21), operators.opset_import()]
        graph = helper.make_graph([node], "one", [first, *inputs], [last])
        made = session(helper.make_model(graph, opset_imports=opsets, ir_version=10))
        counts.since_now()
        feeds = dict(zip(names, map(value, (x, *parameters)), strict=True))
        y = array(made.run_with_ort_values(["y"], feeds)[0])
        if counts["unknown kernels"] or (y.size and not counts["launches"]):
            raise SystemExit(f"{op} was not run by a kernel of ours")
        seen.update({"calls": 1, "launches": counts["launches"], "numbers": y.size})
        return y if y.dtype == np.uint8 else y.astype(np.float32)

    test_native.call = call
    few = settings(max_examples=100, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))

    @few
    @given(test_native.cases(), test_native.threshold_cases())
    def check(even: Any, every: Any) -> None:
        test_native.check_neurons_and_counts(even)
        test_native.check_trains(even)
        test_native.check_threshold_neurons(every)

    check()
    for dtype in test_native.TYPES:
        test_native.test_repeating(dtype)
    print(f"Operators, each in a session on CUDA: {seen['calls']:,} calls, {seen['launches']:,} launches, "
          f"{seen['numbers']:,} numbers, all equal to the definition.\n")  # fmt: skip


def run_graph() -> None:
    """Operators in a row, captured as a CUDA graph at the first run and replayed with other inputs."""
    over_time = {"domain": SPIKING_DOMAIN, "time_steps": 4, "coding": "rate"}
    nodes = [
        helper.make_node(operators.FOLDED_NEURON, ["x", "t", "s", "a", "o"], ["y"], levels=5, **over_time),
        helper.make_node(operators.TIME_REPEAT, ["y"], ["r"], **over_time),
        helper.make_node(operators.TRAIN_NEURON, ["r", "t", "s"], ["z"], levels=5, input_steps=4, **over_time),
        helper.make_node(operators.TIME_MEAN, ["z"], ["m"], **over_time),
        helper.make_node(operators.COUNT_NEURON, ["m", "t", "s"], ["n"], levels=5, **over_time),
    ]
    generator, shape = np.random.default_rng(0), [2, 6, 4, 4]
    parts = generator.uniform(0.1, 0.6, (4, 6, 1, 1)).astype(np.float32)
    constants = [
        helper.make_tensor(name, 1, [6, 1, 1], part.reshape(-1)) for name, part in zip("tsao", parts, strict=True)
    ]
    outputs = [helper.make_tensor_value_info(name, kind, shape) for name, kind in (("y", 1), ("n", TensorProto.UINT8))]
    graph = helper.make_graph(nodes, "row", [helper.make_tensor_value_info("x", 1, shape)], outputs, constants)
    opsets = [helper.make_opsetid("", 21), operators.opset_import()]
    made, counts = (
        session(helper.make_model(graph, opset_imports=opsets, ir_version=10), enable_cuda_graph="1"),
        Counts(),
    )
    x, y = (ort.OrtValue.ortvalue_from_shape_and_type(shape, np.float32, "cuda", 0) for _ in range(2))
    n = ort.OrtValue.ortvalue_from_shape_and_type(shape, np.uint8, "cuda", 0)
    binding = made.io_binding()
    binding.bind_ortvalue_input("x", x)
    binding.bind_ortvalue_output("y", y)
    binding.bind_ortvalue_output("n", n)
    neuron = Neuron(*parts, 5)
    counts.since_now()
    for _ in range(6):
        now = generator.normal(size=shape).astype(np.float32)
        x.update_inplace(now)
        made.run_with_iobinding(binding)
        fired = neuron.fire(now)
        if not ((y.numpy() == fired).all() and (n.numpy() == neuron.count(neuron.count(fired) / np.float32(4))).all()):
            raise SystemExit("the CUDA graph gave other numbers")
    if counts["captures"] != 1 or counts["allocations in a capture"] or not counts["graph launches"]:
        raise SystemExit(f"{counts['captures']} captures, {counts['graph launches']} launches of the graph")
    print(
        f"CUDA graph of five operators: captured once, launched {counts['graph launches']} times, all numbers equal.\n"
    )


def logged(action: Callable[[], object]) -> str:
    """What is written to the standard error meanwhile, by C++ too."""
    with tempfile.TemporaryFile("w+") as file:
        kept = os.dup(2)
        os.dup2(file.fileno(), 2)
        try:
            action()
        finally:
            os.dup2(kept, 2)
            os.close(kept)
        file.seek(0)
        return file.read()


def placed(proto: ModelProto, folder: Path) -> tuple[int, Counter[str], int, int]:
    """Of the optimised network: nodes on CUDA, operators on the CPU, copies between the two, and Casts."""
    os.environ["SEVERITY"] = "0"
    log = logged(lambda: session(proto, folder / "optimised.onnx"))
    casts = Counter(node.op_type for node in load_model(folder / "optimised.onnx").graph.node)["Cast"]
    on_cuda, on_cpu, provider = 0, Counter[str](), ""
    for line in log.splitlines():
        if match := re.search(r"(?:Node\(s\)|All nodes) placed on \[(\w+)\]. Number of nodes: (\d+)", line):
            provider = match[1]
            on_cuda += int(match[2]) if provider == GPU[0] else 0
        elif provider == GPU[1] and (match := re.search(r"VerifyEachNodeIsAssignedToAnEp\W*\s+(\w+) \(", line)):
            on_cpu[match[1]] += 1
    if not provider:
        raise SystemExit("onnxruntime's log does not say where nodes are placed")
    return on_cuda, on_cpu, sum(int(number) for number in re.findall(r"(\d+) Memcpy nodes are added", log)), casts


def rows() -> Iterator[tuple[object, ...]]:
    generator = np.random.default_rng(0)
    for name, path in NETWORKS.items():
        specs = ort.InferenceSession(str(path), providers=GPU[1:]).get_inputs()
        shapes = {each.name: [32, *(size if isinstance(size, int) else 8 for size in each.shape[1:])] for each in specs}
        with tempfile.TemporaryDirectory() as folder:
            data = Path(folder) / "data.npz"
            np.savez(data, **{key: generator.standard_normal(shape, np.float32) for key, shape in shapes.items()})
            for form, options in FORMS.items():
                try:
                    done = graphpass.convert(path, data, time_steps=4, allow_partial=True, **options)
                except GraphpassError as error:
                    yield name, form, "", "", "", "", str(error).split(";")[0]
                    continue
                on_cuda, on_cpu, copies, casts = placed(done.proto, Path(folder))
                left = ", ".join(f"{number} {op}" for op, number in sorted(on_cpu.items()))
                yield name, form, on_cuda, on_cpu.total(), copies, casts, left


def run_networks() -> None:
    """Where the nodes of converted networks go, of the network that onnxruntime optimised."""
    table(("network", "form", "nodes on CUDA", "on the CPU", "copies", "Casts", "what is on the CPU"), rows())


if __name__ == "__main__":
    parts = {"operators": run_operators, "graph": run_graph, "networks": run_networks}
    for part in sys.argv[2:] or parts:
        parts[part]()

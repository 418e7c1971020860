"""The neuron kernels compared with their bounds: `python -m benchmarks.neuron [folded] [train] [--quick]`.

A folded neuron reads its input once and writes its output once, as Relu does. Inputs and outputs are bound to memory
that was allocated before. The operators stand alone: as function bodies (stock onnxruntime) and as native kernels.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from benchmarks.results import table
from benchmarks.timing import FULL, QUICK, CallTimes, Effort, alternate, arguments, machine
from graphpass.errors import SessionError
from graphpass.forms import operators
from graphpass.graph.domains import SPIKING_DOMAIN
from graphpass.maths.neuron import levels_of
from graphpass.runtime import native
from graphpass.runtime.session import open_session

Call = Callable[[], object]
Floats = NDArray[np.floating]
PARTS = ("threshold", "shift", "amplitude", "offset")
INPUTS = {operators.FOLDED_NEURON: 4, operators.COUNT_NEURON: 2, operators.TRAIN_NEURON: 2, "Relu": 0}
CODING, OPSET = "rate", 21
AIMS = {"neuron": 1.15, "uint8": 0.8}  # × Relu


def one_operator(
    op: str, kind: np.dtype[np.floating], channels: tuple[int, ...], output: np.dtype[np.generic], **attributes: Any
) -> onnx.ModelProto:
    """x → op → y; a neuron has positive parameters of the shape `channels`, float32, as initializers."""
    generator = np.random.default_rng(0)
    names = PARTS[: INPUTS[op]]
    domain = "" if op == "Relu" else SPIKING_DOMAIN
    graph = helper.make_graph(
        [helper.make_node(op, ["x", *names], ["y"], "neuron", domain=domain, **attributes)],
        "one",
        [helper.make_tensor_value_info("x", helper.np_dtype_to_tensor_dtype(kind), None)],
        [helper.make_tensor_value_info("y", helper.np_dtype_to_tensor_dtype(output), None)],
        [numpy_helper.from_array(generator.uniform(0.1, 1, channels).astype(np.float32), name) for name in names],
    )
    opsets = [helper.make_opsetid("", OPSET), operators.opset_import()]
    proto = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    proto.functions.extend(operators.functions(CODING, OPSET))
    return proto


def bound(proto: onnx.ModelProto, x: ort.OrtValue, y: ort.OrtValue, threads: int, use_native: bool = True) -> Call:
    """A run of the model from x to y without copying either."""
    session = open_session(proto, threads=threads, use_native=use_native)
    binding = session.io_binding()
    binding.bind_ortvalue_input("x", x)
    binding.bind_ortvalue_output("y", y)
    return lambda: session.run_with_iobinding(binding)


def allocated(shape: Sequence[int], kind: type[np.generic], values: Floats | None = None) -> ort.OrtValue:
    """Memory of onnxruntime, aligned as its own, written once so that its pages exist."""
    value = ort.OrtValue.ortvalue_from_shape_and_type(list(shape), kind)
    value.update_inplace(np.zeros(shape, kind) if values is None else np.ascontiguousarray(values.astype(kind)))
    return value


def folded(
    shape: tuple[int, ...], kind: type[np.floating], axis: int, effort: Effort, steps: Sequence[int]
) -> Iterator[tuple[int, int, dict[str, CallTimes]]]:
    """(threads, T, times) of Relu, memcpy, the kernel, the kernel with counts out and the function body."""
    values = np.random.default_rng(0).standard_normal(shape, np.float32)
    x, y, counts = allocated(shape, kind, values), allocated(shape, kind), allocated(shape, np.uint8)
    source, target = values.astype(kind), np.zeros(shape, kind)
    float_out, uint8_out = np.dtype(kind), np.dtype(np.uint8)
    channels = (shape[axis], *(1,) * (len(shape) - axis - 1))
    for threads in (1, 2):
        for count in steps:
            over_time = {"time_steps": count, "levels": levels_of(count, CODING), "coding": CODING}
            neuron = one_operator(operators.FOLDED_NEURON, float_out, channels, float_out, **over_time)
            counted = one_operator(operators.COUNT_NEURON, float_out, channels, uint8_out, **over_time)
            calls: dict[str, Call] = {
                "Relu": bound(one_operator("Relu", float_out, (), float_out), x, y, threads),
                "memcpy": lambda: np.copyto(target, source),
                "neuron": bound(neuron, x, y, threads),
                "uint8": bound(counted, x, counts, threads),
                "body": bound(neuron, x, y, threads, use_native=False),
            }
            yield threads, count, alternate(calls, effort)


def trains(shape: tuple[int, ...], count: int, input_steps: int, threads: int, effort: Effort) -> dict[str, CallTimes]:
    """Times of the train kernel, its function body and memcpy of as much as it writes; float32, channel axis 1."""
    steps, kind = (count * shape[0], *shape[1:]), np.dtype(np.float32)
    values = np.random.default_rng(0).standard_normal(steps if input_steps > 1 else shape, np.float32)
    x, y = allocated(values.shape, np.float32, values), allocated(steps, np.float32)
    source, target = np.ones(steps, np.float32), np.zeros(steps, np.float32)
    channels = (shape[1], *(1,) * (len(shape) - 2))
    over_time = {"time_steps": count, "input_steps": input_steps, "levels": count + 1, "coding": CODING}
    train = one_operator(operators.TRAIN_NEURON, kind, channels, kind, **over_time)
    calls: dict[str, Call] = {
        "memcpy": lambda: np.copyto(target, source),
        "train": bound(train, x, y, threads),
        "body": bound(train, x, y, threads, use_native=False),
    }
    return alternate(calls, effort)


def named(shape: Sequence[int]) -> str:
    return "×".join(map(str, shape))


def aims(found: Mapping[str, dict[str, CallTimes]]) -> None:
    """How many of the cases meet each aim, and the worst."""
    for what, aim in AIMS.items():
        ratios = {case: times[what].over(times["Relu"]) for case, times in found.items()}
        worst = max(ratios, key=ratios.__getitem__)
        met = sum(value <= aim for value in ratios.values())
        print(f"Aim {what} ≤ {aim} × Relu, float32: met in {met} of {len(ratios)}; worst {ratios[worst]:.2f}, {worst}.")
    print()


def folded_table(quick: bool) -> None:
    effort, steps = (QUICK, (4,)) if quick else (FULL, (4, 16, 255))
    judged = {}

    def rows() -> Iterator[Sequence[object]]:
        for kind in (np.float32, np.float16):
            for first in ((1, 64, 56, 56), (16 if quick else 64, 64, 112, 112)):
                for axis, shape in ((1, first), (3, (first[0], *first[2:], first[1]))):
                    for threads, count, times in folded(shape, kind, axis, effort, steps):
                        relu, name = times["Relu"], np.dtype(kind).name
                        if kind is np.float32:
                            judged[f"{named(shape)}, axis {axis}, T = {count}, threads = {threads}"] = times
                        ratios = (times[key].ratio(relu) for key in ("neuron", "uint8", "body", "memcpy"))
                        yield named(shape), name, axis, count, threads, relu.milliseconds, *ratios

    header = ("input", "dtype", "channel axis", "T", "threads", "Relu, ms", "neuron/Relu", "uint8/Relu")
    table((*header, "body/Relu", "memcpy/Relu"), rows())
    print()
    aims(judged)


def train_table(quick: bool) -> None:
    def rows() -> Iterator[Sequence[object]]:
        for shape in ((1, 64, 56, 56), (4 if quick else 16, 64, 56, 56)):
            for count in (4, 8):
                for input_steps in (1, count):
                    for threads in (1, 2):
                        times = trains(shape, count, input_steps, threads, QUICK if quick else FULL)
                        train, body, copy = times["train"], times["body"], times["memcpy"]
                        yield (
                            *(named(shape), count, input_steps, threads, train.milliseconds),
                            *(body.ratio(train), train.ratio(copy)),
                        )

    header = ("a step", "T", "input steps", "threads", "train, ms", "body/train", "train/memcpy of the output")
    table(header, rows())


TABLES = {"folded": folded_table, "train": train_table}


def main() -> None:
    options = arguments(__doc__, TABLES)
    if native.library() is None:
        raise SessionError("the native operators are not built", "see `graphpass doctor`")
    print(machine())
    for name in options.names or TABLES:
        TABLES[name](options.quick)


if __name__ == "__main__":
    main()

"""The kernels and whole networks on an NVIDIA GPU: `python -m benchmarks.cuda [kernels] [networks] [--quick]`.

Kernels: achieved GB/s (bytes read and written, by the median time), compared with a copy on the device. Networks: the
SNN in folded form against the ANN, both float16, and the unrolled form. Needs onnxruntime-gpu and the library with CUDA
kernels; inputs and outputs stay on the device.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime as ort
from onnxruntime.transformers.float16 import convert_float_to_float16

from benchmarks.network import NETWORKS, converted
from benchmarks.neuron import CODING, Call, named, one_operator
from benchmarks.results import table
from benchmarks.timing import FULL, QUICK, alternate, arguments, machine
from benchmarks.zoo.files import synthetic
from graphpass.errors import SessionError
from graphpass.forms import operators
from graphpass.graph.model import Source, load, upgraded
from graphpass.maths.neuron import levels_of
from graphpass.runtime import native
from graphpass.runtime.session import CPU, input_specs, open_session

CUDA = "CUDAExecutionProvider"
SHAPES = ((8, 64, 56, 56), (64, 64, 112, 112), (64, 3136, 256))
TIME_STEPS, BATCHES = 4, (1, 8, 64)
AIMS = "Aims: kernel ≥ 0.85 of the copy; folded ≥ 0.95 of the ANN's speed (time ≤ 1.05)."


def on_device(proto: onnx.ModelProto, inputs: dict[str, np.ndarray]) -> Call:
    """A run with inputs and outputs on the device, until it is done."""
    session = open_session(proto, (CUDA, CPU))
    binding = session.io_binding()
    for name, values in inputs.items():
        binding.bind_ortvalue_input(name, ort.OrtValue.ortvalue_from_numpy(values, "cuda", 0))
    for output in session.get_outputs():
        binding.bind_output(output.name, "cuda")

    def call() -> None:
        session.run_with_iobinding(binding)
        binding.synchronize_outputs()

    return call


def kernels(quick: bool) -> None:
    def rows() -> Iterator[Sequence[object]]:
        over_time = {"time_steps": TIME_STEPS, "levels": levels_of(TIME_STEPS, CODING), "coding": CODING}
        for kind in (np.dtype(np.float32), np.dtype(np.float16)):
            for shape in SHAPES[:1] if quick else SHAPES:
                axis = 1 if len(shape) == 4 else -1
                channels = (shape[axis], 1, 1) if axis == 1 else (shape[axis],)
                x = {"x": np.random.default_rng(0).standard_normal(shape, np.float32).astype(kind)}
                counts, train = np.dtype(np.uint8), {**over_time, "input_steps": 1}
                cases = {  # operator → attributes, type out, values written for each one read
                    operators.FOLDED_NEURON: (over_time, kind, 1),
                    operators.COUNT_NEURON: (over_time, counts, 1),
                    operators.TRAIN_NEURON: (train, kind, TIME_STEPS),
                }
                calls = {
                    op: on_device(one_operator(op, kind, channels, out, **attributes), x)
                    for op, (attributes, out, _) in cases.items()
                }
                copy = onnx.helper.make_node("Identity", ["x"], ["y"])
                values = [
                    onnx.helper.make_tensor_value_info(name, onnx.helper.np_dtype_to_tensor_dtype(kind), None)
                    for name in ("x", "y")
                ]
                graph = onnx.helper.make_graph([copy], "copy", values[:1], values[1:])
                opsets = [onnx.helper.make_opsetid("", 21)]
                calls["copy"] = on_device(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=10), x)
                times = alternate(calls, QUICK if quick else FULL)
                size = x["x"].size
                moved = {op: size * (kind.itemsize + out.itemsize * more) for op, (_, out, more) in cases.items()}
                moved["copy"] = 2 * size * kind.itemsize
                speed = {name: moved[name] / times[name].median / 1e9 for name in calls}
                for op in cases:
                    share = speed[op] / speed["copy"]
                    yield named(shape), kind.name, op, f"{speed[op]:.0f}", f"{speed['copy']:.0f}", f"{share:.2f}"

    table(("input", "dtype", "kernel", "GB/s", "copy, GB/s", "kernel/copy"), rows())


def half(name: str) -> Source:
    """A network in float16, inputs and outputs too."""
    source = load(NETWORKS[name]())
    halved = convert_float_to_float16(source.proto)
    bare, weights = upgraded(source.path, halved)
    return replace(source, proto=halved, bare=bare, weights=weights)


def network_table(quick: bool) -> None:
    refused: list[str] = []

    def rows() -> Iterator[Sequence[object]]:
        for name in ("resnet20", "open_nsfw"):
            source = half(name)
            specs = input_specs(source)
            forms, said = converted(source, name, TIME_STEPS, ("unrolled",))
            refused.extend(said)
            for batch in BATCHES[:1] if quick else BATCHES:
                inputs = synthetic(name, specs, batch)
                protos = {"ANN": source.proto, **forms}
                times = alternate(
                    {key: on_device(proto, inputs) for key, proto in protos.items()}, QUICK if quick else FULL
                )
                ann = times["ANN"]
                yield (
                    name,
                    batch,
                    ann.milliseconds,
                    *(times[k].ratio(ann) for k in ("folded", "unrolled") if k in times),
                )

    table(("network, float16", "batch", "ANN, ms", "folded/ANN", f"unrolled/ANN, T = {TIME_STEPS}"), rows())
    for line in refused:
        print(f"Not there: {line}")


TABLES = {"kernels": kernels, "networks": network_table}


def main() -> None:
    options = arguments(__doc__, TABLES)
    if CUDA not in native.providers() or CUDA not in ort.get_available_providers():
        raise SessionError("no CUDA kernels or no onnxruntime-gpu here", "see docs/native.md and `graphpass doctor`")
    print(machine())
    print(AIMS + "\n")
    for name in options.names or TABLES:
        TABLES[name](options.quick)
        print()


if __name__ == "__main__":
    main()

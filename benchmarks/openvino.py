"""OpenVINO beside onnxruntime: `python -m benchmarks.openvino [NAME …] [--threads N] [--folder F] [--quick]`.

Milliseconds of a batch of the ANN in OpenVINO, and as multiples of it: the ANN quantised by NNCF (OpenVINO's own tool,
its preset; on the data of the conversion, where there is some) and by onnxruntime, the SNN folded (function bodies
inlined) and in the integer form; then the ANN, its int8 and the integer form in onnxruntime. All on the CPU, floats in
float32, shapes fixed to the batch in OpenVINO. The last column counts the weight layers that OpenVINO runs in int8, of
all that the integer form has there. T = STEPS, which makes no difference to the time.
"""

import argparse
import itertools
import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path

import numpy as np
import onnx

from benchmarks.network import (
    BATCHES,
    CALIBRATION,
    NETWORKS,
    STEPS,
    THOROUGH,
    THREADS,
    Arrays,
    Call,
    make,
    runner_of,
    tell_of,
)
from benchmarks.results import table
from benchmarks.timing import QUICK, CallTimes, Effort, alternate_made, arguments, machine
from benchmarks.zoo.files import synthetic
from graphpass.api import inline
from graphpass.errors import DataError
from graphpass.runtime.session import input_specs

try:
    import nncf
    import openvino as ov
except ModuleNotFoundError as error:
    raise DataError(f"{error.name} is not installed", "pip install --group nncf") from error

CALIBRATED = 300  # samples, NNCF's usual number
NNCF = "NNCF.xml"
FOLDED, INTEGER = f"{STEPS}/folded.onnx", f"{STEPS}/integer.onnx"
FILES = {
    "ANN": "ANN.onnx",
    "NNCF's int8": NNCF,
    "onnxruntime's int8": "quantised ANN.onnx",
    "folded": FOLDED,
    "integer": INTEGER,
}
IN_ONNXRUNTIME = ("ANN", "onnxruntime's int8", "integer")
LAYERS = frozenset({"Convolution", "Deconvolution", "FullyConnected", "MatMul"})  # OpenVINO's names


def calibration(name: str, specs: Sequence[object], samples: int) -> Arrays:
    """The data that the network was converted with, or made-up inputs."""
    if name not in CALIBRATION:
        return synthetic(name, specs, samples)
    stored = np.load(CALIBRATION[name]())
    return {key: stored[key][:samples] for key in stored.files if key != "labels"}


def quantise(folder: Path) -> None:
    """Write the ANN as NNCF quantises it, unless the network's folder has it already."""
    if (folder / NNCF).exists():
        return
    ann = onnx.load(folder / "ANN.onnx")
    data = calibration(folder.name, input_specs(ann), CALIBRATED)
    count = len(next(iter(data.values())))
    samples = [{key: values[index : index + 1] for key, values in data.items()} for index in range(count)]
    model = ov.Core().read_model(ann.SerializeToString())
    with redirect_stdout(sys.stderr):  # its progress
        found = nncf.quantize(model, nncf.Dataset(samples), subset_size=count)
    ov.save_model(found, folder / NNCF, compress_to_fp16=False)


def model_of(path: Path) -> ov.Model:
    """A file as OpenVINO reads it, function bodies inlined. Raises RuntimeError for what it cannot read."""
    return ov.Core().read_model(path if path.suffix == ".xml" else inline(onnx.load(path)).SerializeToString())


def unread(folder: Path) -> Iterator[str]:
    """The files of a network's folder that OpenVINO does not read."""
    for name, file in FILES.items():
        try:
            if (folder / file).exists():
                model_of(folder / file)
        except RuntimeError:
            yield name


def compiled(folder: Path, file: str, inputs: Arrays, threads: int) -> ov.CompiledModel:
    """A file of a network's folder for inputs of these shapes."""
    model = model_of(folder / file)
    model.reshape({name: values.shape for name, values in inputs.items()})
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1}
    return ov.Core().compile_model(model, "CPU", settings)


def openvino_runner(folder: Path, file: str, batch: int, threads: int) -> Call:
    """A run of the file in OpenVINO, on inputs made up for the network."""
    inputs = synthetic(folder.name, input_specs(onnx.load(folder / "ANN.onnx")), batch)
    request = compiled(folder, file, inputs, threads).create_infer_request()
    return partial(request.infer, inputs, share_inputs=True, share_outputs=True)


def integer_layers(folder: Path, file: str, batch: int) -> str:
    """How many of the weight layers that OpenVINO runs are int8: "19 of 20"."""
    inputs = synthetic(folder.name, input_specs(onnx.load(folder / "ANN.onnx")), batch)
    nodes = compiled(folder, file, inputs, 1).get_runtime_model().get_ordered_ops()
    said = [{key: str(each.rt_info[key].value) for key in ("layerType", "primitiveType")} for each in nodes]
    layers = [each["primitiveType"] for each in said if each["layerType"] in LAYERS]
    return f"{sum(kind.lower().endswith('i8') for kind in layers)} of {len(layers)}"


def measure(folder: Path, batch: int, threads: int, effort: Effort) -> dict[str, CallTimes]:
    """Times of a batch, all in the same rounds; the folder is the network's."""
    there = {name: file for name, file in FILES.items() if (folder / file).exists()}
    read = there.keys() - {*unread(folder)}
    calls = {name: partial(openvino_runner, folder, there[name], batch, threads) for name in there if name in read}
    others = {f"{name}, onnxruntime": there[name] for name in IN_ONNXRUNTIME if name in there}
    calls |= {name: partial(runner_of, folder, file, batch, threads) for name, file in others.items()}
    return alternate_made(calls, threads, effort)


def tell(folder: Path, names: Sequence[str], options: argparse.Namespace) -> None:
    """Make the networks, then print the table."""
    refused = [line for name in names for line in make(folder, name, (STEPS,))]
    for name in names:
        quantise(folder / name)
        refused += [f"{name}, {file}: OpenVINO does not read it" for file in unread(folder / name)]
    columns = [*list(FILES)[1:], *(f"{name}, onnxruntime" for name in IN_ONNXRUNTIME)]

    def rows() -> Iterator[Sequence[object]]:
        for name, batch in itertools.product(names, BATCHES):
            times = measure(folder / name, batch, options.threads, QUICK if options.quick else THOROUGH)
            ratios = [times[column].ratio(times["ANN"]) if column in times else "" for column in columns]
            layers = integer_layers(folder / name, INTEGER, batch) if "integer" in times else ""
            yield name, batch, times["ANN"].milliseconds, *ratios, layers

    print(machine())
    print(f"OpenVINO {ov.__version__.split('-')[0]}, NNCF {nncf.__version__}; threads: {options.threads}.\n")
    table(("network", "batch", "ANN, ms", *columns, "int8 layers"), rows())
    for line in refused:
        print(f"\nNot there: {line}")


def main() -> None:
    options = arguments(__doc__, NETWORKS, THREADS, folder="the converted networks")
    logging.disable(logging.WARNING)  # of both quantisers, about operators that they leave in floating point
    tell_of(tell, options)


if __name__ == "__main__":
    main()

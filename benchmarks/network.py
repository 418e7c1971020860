"""Whole networks, ANN and SNN: `python -m benchmarks.network [NAME …] [--threads N] [--folder F]
[--time-steps T,…] [--quick]`.

Milliseconds of a batch of the ANN in float32, and as multiples of it: the ANN quantised by onnxruntime (QDQ, weights
int8 per channel, activations uint8) and the SNN in its forms. CNNs are calibrated on real images, since the operators
of the integer form depend on them (offsets, outliers); transformers on random inputs with method `max`.
All networks are converted before the first is timed, so that only the second part needs an idle machine; --folder keeps
them.
"""

import argparse
import itertools
import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from benchmarks import datasets, networks
from benchmarks.results import TRAINED, table
from benchmarks.timing import QUICK, CallTimes, Effort, alternate_made, arguments, machine
from benchmarks.zoo.files import synthetic
from graphpass.conversion import convert
from graphpass.datasets.sources import from_arrays
from graphpass.errors import GraphpassError, SessionError
from graphpass.graph.model import Source, load, save
from graphpass.runtime import native
from graphpass.runtime.session import input_specs, open_session, run

NETWORKS: dict[str, Callable[[], Path]] = {
    "resnet20": lambda: TRAINED / "resnet20.onnx",
    "resnet20_silu": lambda: TRAINED / "resnet20_silu.onnx",
    "open_nsfw": networks.open_nsfw,
    "resnet50": networks.resnet50,
    "efficientnet_lite0": networks.efficientnet_lite0,
    "magika": networks.magika_model,
    "minilm": networks.minilm,
}
CALIBRATION: dict[str, Callable[[], Path]] = {
    "resnet20": datasets.cifar10_calibration,
    "resnet20_silu": datasets.cifar10_calibration,
    "open_nsfw": lambda: datasets.photo_calibration("open_nsfw"),
    "resnet50": lambda: datasets.photo_calibration("efficientnet_lite0", 64),  # prepared as this network's input is
    "efficientnet_lite0": lambda: datasets.photo_calibration("efficientnet_lite0"),
}
QUICK_NETWORKS = ("resnet20", "open_nsfw")
TIME_STEPS, STEPS, BATCHES = (4, 8, 16, 32), 8, (1, 8)  # STEPS: T where only one is measured, and with --quick
THREADS, SAMPLES, THOROUGH = 2, 4, Effort(20.0, 9, 31)
OTHER_COLUMNS = (
    "quantised ANN",
    "folded, not in blocks",
    "folded, no library",
    "integer, no library",
    f"unrolled, T = {STEPS}",
)

Arrays = Mapping[str, NDArray[Any]]
Call = Callable[[], object]


class OneBatch(CalibrationDataReader):  # type: ignore[misc]
    """Calibration data of onnxruntime.quantization: one batch."""

    def __init__(self, inputs: Arrays) -> None:
        self.batches = iter([dict(inputs)])

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        return next(self.batches, None)


def quantised(proto: onnx.ModelProto, inputs: Arrays) -> onnx.ModelProto:
    """The ANN quantised by onnxruntime as its documentation advises: prepared (fused), QDQ, static, min-max."""
    with tempfile.TemporaryDirectory() as folder:
        given, prepared, done = (Path(folder) / f"{name}.onnx" for name in ("given", "prepared", "done"))
        save(proto, given)
        quant_pre_process(str(given), str(prepared), skip_symbolic_shape=True)
        quantize_static(
            str(prepared),
            str(done),
            OneBatch(inputs),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
        return onnx.load(done)


def converted(
    source: Source, name: str, time_steps: int, others: Sequence[str]
) -> tuple[dict[str, onnx.ModelProto], list[str]]:
    """The network folded for T time-steps and in the other forms, and the errors of forms that it cannot have."""
    specs = input_specs(source)
    data = CALIBRATION[name]() if name in CALIBRATION else from_arrays(synthetic(name, specs, SAMPLES), specs)
    method = "optimal" if name in CALIBRATION else "max"
    folded = convert(source, data, time_steps=time_steps, method=method, allow_partial=True)
    found, refused = {"folded": folded.proto}, []
    for form in others:
        own = form == "integer" and name in CALIBRATION  # it has a separate plan: no offsets under padding
        try:
            made = convert(
                source,
                data if own else None,
                time_steps=time_steps,
                plan=None if own else folded.plan,
                form=form,
                allow_partial=True,
            )
            found[form] = made.proto
        except GraphpassError as error:
            refused.append(f"{name}, {form}, T = {time_steps}: {error}".replace(f"{source.path}: ", ""))
    return found, refused


def make(folder: Path, name: str, steps: Sequence[int]) -> list[str]:
    """Write the models to time into the folder, unless it has them already; returns the errors of forms."""
    source = load(NETWORKS[name]())
    (folder / name).mkdir(parents=True, exist_ok=True)
    save(source.proto, folder / name / "ANN.onnx")
    small = folder / name / "quantised ANN.onnx"
    if not small.exists():
        specs = input_specs(source)
        inputs = synthetic(name, specs, SAMPLES)
        save(quantised(source.upgraded, inputs), small)  # scales along channels need opset 13
    said: list[str] = []
    for count in steps:
        made = folder / name / str(count)
        notes = made / "refused.txt"
        if not notes.exists():
            made.mkdir(exist_ok=True)
            others = ("integer", "unrolled") if count == STEPS else ("integer",)
            found, refused = converted(source, name, count, others)
            for form, proto in found.items():
                save(proto, made / f"{form}.onnx")
            notes.write_text("\n".join(refused))
        said += notes.read_text().splitlines()
    return said


def runner(proto: onnx.ModelProto, inputs: Arrays, threads: int, **options: bool) -> Call:
    """A run of the model on inputs; options: of open_session."""
    session = open_session(proto, threads=threads, **options)
    return partial(run, session, inputs)


def runner_of(folder: Path, file: str, batch: int, threads: int, **options: bool) -> Call:
    """A run of a file in a network's folder, on inputs made up for the network."""
    inputs = synthetic(folder.name, input_specs(onnx.load(folder / "ANN.onnx")), batch)
    return runner(onnx.load(folder / file), inputs, threads, **options)


def measure(folder: Path, steps: Sequence[int], batch: int, threads: int, effort: Effort) -> dict[str, CallTimes]:
    """Times of a batch, all in the same rounds; the folder is the network's."""
    folded = f"{STEPS}/folded.onnx"
    wanted = {
        "ANN": ("ANN.onnx", {}),
        "quantised ANN": ("quantised ANN.onnx", {}),
        "folded, not in blocks": (folded, {"use_blocked": False}),
        "folded, no library": (folded, {"use_native": False}),
    }
    if (folder / f"{STEPS}/integer.onnx").exists():
        wanted["integer, no library"] = f"{STEPS}/integer.onnx", {"use_native": False}
    for count in steps:
        for path in sorted((folder / str(count)).glob("*.onnx")):
            wanted[f"{path.stem}, T = {count}"] = f"{count}/{path.name}", {}
    make = {name: partial(runner_of, folder, file, batch, threads, **how) for name, (file, how) in wanted.items()}
    return alternate_made(make, threads, effort)


def tell(folder: Path, names: Sequence[str], options: argparse.Namespace) -> None:
    """Make the networks, then print the tables."""
    steps = options.time_steps or ((STEPS,) if options.quick else TIME_STEPS)
    refused = [line for name in names for line in make(folder, name, sorted({STEPS, *steps}))]
    others: list[Sequence[object]] = []

    def ratios(times: dict[str, CallTimes], columns: Sequence[str]) -> list[str]:
        return [times[column].ratio(times["ANN"]) if column in times else "" for column in columns]

    def rows() -> Iterator[Sequence[object]]:
        for name, batch in itertools.product(names, BATCHES):
            times = measure(folder / name, steps, batch, options.threads, QUICK if options.quick else THOROUGH)
            others.append((name, batch, *ratios(times, OTHER_COLUMNS)))
            yield name, batch, times["ANN"].milliseconds, *ratios(times, columns)

    print(machine())
    print(f"Threads: {options.threads}; multiples of the ANN's time.\n")
    columns = [f"{form}, T = {count}" for form in ("folded", "integer") for count in steps]
    table(("network", "batch", "ANN, ms", *columns), rows())
    print()
    table(("network", "batch", *OTHER_COLUMNS), iter(others))
    print()
    for line in refused:
        print(f"Not there: {line}")


def main() -> None:
    options = arguments(__doc__, NETWORKS, THREADS, folder="the converted networks", steps=TIME_STEPS)
    logging.disable(logging.WARNING)  # of onnxruntime.quantization, about operators that it leaves in floating point
    if native.library() is None:
        raise SessionError("the native operators are not built", "see `graphpass doctor`")
    tell_of(tell, options)


def tell_of(tell: Callable[[Path, Sequence[str], argparse.Namespace], None], options: argparse.Namespace) -> None:
    """Call `tell` with the folder, and the names of the networks, that the options ask for."""
    names = options.names or (QUICK_NETWORKS if options.quick else tuple(NETWORKS))
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as own:
        warnings.simplefilter("ignore")
        tell(options.folder or Path(own), names, options)


if __name__ == "__main__":
    main()

"""Whole networks, ANN and SNN: `python -m benchmarks.network [NAME …] [--threads N] [--quick]`.

Milliseconds of a batch of the ANN in float32, and as multiples of it: the ANN quantised by onnxruntime (QDQ, weights
int8 a channel, activations uint8) and the SNN in its forms. The CNNs are calibrated on real images, on which the
operators of the integer form depend (offsets, outliers); transformers on random inputs with method `max`.
Networks with weights of constants (onnx_light) are left out.
"""

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
from benchmarks.timing import FULL, QUICK, Effort, Timing, alternate, arguments, machine
from benchmarks.zoo.files import synthetic
from graphpass import native
from graphpass.convert import Conversion, convert
from graphpass.datasets.sources import from_arrays
from graphpass.errors import GraphpassError, SessionError
from graphpass.graph.emit import FORMS
from graphpass.graph.model import Source, load, save
from graphpass.graph.plan import Plan
from graphpass.session import input_specs, open_session, run

NETWORKS: dict[str, Callable[[], Path]] = {
    "resnet20": lambda: TRAINED / "resnet20.onnx",
    "open_nsfw": networks.open_nsfw,
    "resnet50": networks.resnet50,
    "efficientnet_lite0": networks.efficientnet_lite0,
    "magika": networks.magika_model,
    "minilm": networks.minilm,
}
CALIBRATION: dict[str, Callable[[], Path]] = {
    "resnet20": datasets.cifar10_calibration,
    "open_nsfw": lambda: datasets.photo_calibration("open_nsfw"),
    "resnet50": lambda: datasets.photo_calibration("efficientnet_lite0", 64),  # prepared as this network's input is
    "efficientnet_lite0": lambda: datasets.photo_calibration("efficientnet_lite0"),
}
QUICK_NETWORKS = ("resnet20", "open_nsfw")
TIME_STEPS, QUICK_STEPS, BATCHES, UNROLLED = (4, 8, 16, 32), 8, (1, 8), 8
THREADS, SAMPLES = 2, 4
COLUMNS = (
    "quantised ANN",
    "folded",
    "folded, not in blocks",
    "folded, no library",
    "unrolled",
    *(("integer",) if "integer" in FORMS else ()),
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


def planned(source: Source, name: str, time_steps: int) -> Conversion:
    """The network folded for T time-steps."""
    if name in CALIBRATION:
        return convert(source, CALIBRATION[name](), time_steps=time_steps, allow_partial=True)
    specs = input_specs(open_session(source.proto))
    data = from_arrays(synthetic(name, specs, SAMPLES), specs)
    return convert(source, data, time_steps=time_steps, method="max", allow_partial=True)


def runner(proto: onnx.ModelProto, inputs: Arrays, threads: int, **options: bool) -> Call:
    """A run of the model on inputs; options: of open_session."""
    session = open_session(proto, threads=threads, **options)
    return partial(run, session, inputs)


def forms(
    source: Source, conversion: Conversion, names: Sequence[str], calibration: Path | None = None
) -> tuple[dict[str, onnx.ModelProto], list[str]]:
    """The conversion in other forms, and what was said of those that the network does not have."""
    found, refused = {}, []
    plan: Plan = conversion.plan
    for name in names:
        try:
            data = calibration if name == "integer" else None  # it has a plan of its own: no offsets under padding
            made = convert(
                source, data, time_steps=plan.time_steps, plan=None if data else plan, form=name, allow_partial=True
            )
            found[name] = made.proto
        except GraphpassError as error:
            refused.append(
                f"{source.path.stem}, {name}, T = {plan.time_steps}: {error}".replace(f"{source.path}: ", "")
            )
    return found, refused


def measure(name: str, quick: bool, threads: int, refused: list[str]) -> Iterator[tuple[int, int, dict[str, Timing]]]:
    """(batch, T, times by column)."""
    effort: Effort = QUICK if quick else FULL
    source = load(NETWORKS[name]())
    specs = input_specs(open_session(source.proto))
    small = quantised(source.proto, synthetic(name, specs, SAMPLES))
    for steps in (QUICK_STEPS,) if quick else TIME_STEPS:
        conversion = planned(source, name, steps)
        wanted = [form for form in ("unrolled", "integer") if form in COLUMNS]
        if steps > UNROLLED:
            wanted.remove("unrolled")
        others, said = forms(source, conversion, wanted, CALIBRATION[name]() if name in CALIBRATION else None)
        refused += said
        for batch in BATCHES:
            inputs = synthetic(name, specs, batch)
            calls = {
                "ANN": runner(source.proto, inputs, threads),
                "quantised ANN": runner(small, inputs, threads),
                "folded": runner(conversion.proto, inputs, threads),
                "folded, not in blocks": runner(conversion.proto, inputs, threads, use_blocked=False),
                "folded, no library": runner(conversion.proto, inputs, threads, use_native=False),
                **{form: runner(proto, inputs, threads) for form, proto in others.items()},
            }
            yield batch, steps, alternate(calls, effort)


def main() -> None:
    options = arguments(__doc__, NETWORKS, THREADS)
    logging.disable(logging.WARNING)  # of onnxruntime.quantization, about operators that it leaves in floating point
    if native.library() is None:
        raise SessionError("the native operators are not built", "see `graphpass doctor`")
    refused: list[str] = []

    def rows() -> Iterator[Sequence[object]]:
        for name in options.names or (QUICK_NETWORKS if options.quick else NETWORKS):
            for batch, steps, times in measure(name, options.quick, options.threads, refused):
                ann = times["ANN"]
                ratios = (times[key].ratio(ann) if key in times else "" for key in COLUMNS)
                yield name, batch, steps, ann.milliseconds, *ratios

    print(machine())
    print(f"Threads: {options.threads}; multiples of the ANN's time.\n")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        table(("network", "batch", "T", "ANN, ms", *COLUMNS), rows())
    print()
    for line in refused:
        print(f"Not there: {line}")


if __name__ == "__main__":
    main()

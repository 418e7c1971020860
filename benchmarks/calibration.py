"""Time and memory of calibrations: `python -m benchmarks.calibration [images] [depth] [--quick]`.

Each row runs in a separate process, so that its peak memory is measured alone. Images: ResNet-20 on CIFAR-10.
Depth: a stack of 3 × 3 convolutions of 16 channels, each with Relu, on 64 random images of 16 × 16 pixels. Method
`optimal`, T = 8.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from benchmarks import datasets
from benchmarks.results import TRAINED, table
from benchmarks.timing import arguments, machine
from graphpass.calibration.calibrate import CalibrationOptions
from graphpass.conversion import dataset_for, make_plan
from graphpass.datasets.sources import from_arrays
from graphpass.graph.model import load
from graphpass.network import prepare
from graphpass.runtime.session import input_specs, open_session, run

IMAGES, DEPTHS = (64, 128, 256, 512), (8, 16, 32, 64)
CHANNELS, SIDE, STACK_IMAGES, THREADS = 16, 16, 64, 2
CHILD = "--measure"


@dataclass(frozen=True)
class Cost:
    """Seconds of calibrating and of one pass of the ANN over the same data; MiB of the process before and at most."""

    calibrating: float
    forward: float
    before: float
    peak: float


def stack(depth: int) -> onnx.ModelProto:
    """`image` float32 [N, 16, 16, 16] → depth × (Conv, Relu) → `y`."""
    generator = np.random.default_rng(depth)
    nodes, weights = [], []
    for index in range(depth):
        # He's scale keeps the size of the activations from layer to layer
        weight = generator.normal(0, (2 / (9 * CHANNELS)) ** 0.5, (CHANNELS, CHANNELS, 3, 3)).astype(np.float32)
        weights.append(numpy_helper.from_array(weight, f"w{index}"))
        before, after = f"a{index}" if index else "image", f"a{index + 1}" if index + 1 < depth else "y"
        nodes.append(helper.make_node("Conv", [before, f"w{index}"], [f"x{index}"], f"conv{index}", pads=[1, 1, 1, 1]))
        nodes.append(helper.make_node("Relu", [f"x{index}"], [after], f"relu{index}"))
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", CHANNELS, SIDE, SIDE]) for name in ("image", "y")
    ]
    graph = helper.make_graph(nodes, "stack", ends[:1], ends[1:], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def peak() -> float:
    """Largest resident size of this process so far, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(model: Path, count: int) -> Cost:
    """The cost of calibrating the model on `count` images in this process."""
    source = load(model)
    network = prepare(source)
    session = open_session(source.proto, threads=THREADS)
    specs = input_specs(session)
    if model.stem == "resnet20":
        with np.load(datasets.cifar10_calibration(max(IMAGES))) as arrays:
            images = arrays["image"][:count]
    else:
        images = np.random.default_rng(0).standard_normal((count, CHANNELS, SIDE, SIDE), np.float32)
    data = dataset_for(source.proto, from_arrays({"image": images}, specs))
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        for batch in data.batches(CalibrationOptions.batch):
            run(session, batch.inputs)
        seconds.append(time.perf_counter() - started)
    before, started = peak(), time.perf_counter()
    make_plan(network, data, CalibrationOptions(threads=THREADS), lambda what, done, total: None)
    return Cost(time.perf_counter() - started, float(np.median(seconds)), before, peak())


def in_a_process(model: Path, count: int) -> Cost:
    """`measure` in a separate process, whose errors are raised here."""
    command = [sys.executable, "-m", "benchmarks.calibration", CHILD, str(model), str(count)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return Cost(**json.loads(done.stdout.splitlines()[-1]))


def child() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument(CHILD, nargs=2, metavar=("MODEL", "COUNT"))
    model, count = parser.parse_args().measure
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        print(json.dumps(vars(measure(Path(model), int(count)))))


def rows(cases: Iterator[tuple[int, Path, int]]) -> Iterator[Sequence[object]]:
    """Cost by number, and how time and memory grew from the row before."""
    last: Cost | None = None
    for number, model, count in cases:
        cost = in_a_process(model, count)
        yield (
            number,
            f"{cost.calibrating:.1f}",
            f"{1e3 * cost.calibrating / number:.0f}",
            f"{cost.calibrating / last.calibrating:.2f}" if last else "",
            f"{cost.calibrating / cost.forward:.0f}",
            f"{cost.peak:.0f}",
            f"{cost.peak - cost.before:.0f}",
        )
        last = cost


def header(what: str) -> tuple[str, ...]:
    return what, "s", "ms each", "of the row before", "ANN passes", "peak, MiB", "of that calibration, MiB"


def over_images(quick: bool) -> None:
    counts = IMAGES[:1] if quick else IMAGES
    table(header("images"), rows((count, TRAINED / "resnet20.onnx", count) for count in counts))
    print()


def over_depth(quick: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        paths = {depth: Path(folder) / f"stack{depth}.onnx" for depth in (DEPTHS[:2] if quick else DEPTHS)}
        for depth, path in paths.items():
            onnx.save(stack(depth), path)
        table(header("layers"), rows((depth, path, STACK_IMAGES) for depth, path in paths.items()))


TABLES = {"images": over_images, "depth": over_depth}


def main() -> None:
    options = arguments(__doc__, TABLES)
    print(machine())
    for name in options.names or TABLES:
        TABLES[name](options.quick)


if __name__ == "__main__":
    child() if CHILD in sys.argv else main()

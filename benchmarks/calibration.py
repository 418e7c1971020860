"""Time and memory of calibrations: `python -m benchmarks.calibration [networks] [images] [depth] [--quick]`.

Each row runs in a separate process, so that its peak memory is measured alone, on one thread; seconds are of processor
time, which other work of the machine changes least, and the smallest of REPEATS calibrations is kept. "× the ANN" is
by the smallest time of one pass of the ANN over the same samples, in turns with the calibrations. Method `optimal`,
T = 8.

Networks: members of the zoo, with the time of each phase (benchmarks/phases.py) as a multiple of the ANN's.
Images: ResNet-20 on CIFAR-10. Depth: a stack of 3 × 3 convolutions of 16 channels, each with Relu, on 64 random images
of 16 × 16 pixels.
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
from benchmarks.phases import NAMES, phases
from benchmarks.results import TRAINED, table
from benchmarks.timing import arguments, machine
from benchmarks.zoo.members import MEMBERS
from graphpass.calibration.calibrate import CalibrationOptions
from graphpass.conversion import dataset_for, make_plan
from graphpass.datasets.dataset import Dataset
from graphpass.datasets.sources import from_arrays
from graphpass.graph.model import load
from graphpass.network import prepare
from graphpass.runtime.session import input_specs, open_session, run

NETWORKS = "open_nsfw", "efficientnet_lite0", "nudenet"
IMAGES, DEPTHS = (64, 128, 256, 512), (8, 16, 32, 64)
CHANNELS, SIDE, STACK_IMAGES, REPEATS = 16, 16, 64, 3
CHILD = "--measure"


@dataclass(frozen=True)
class Cost:
    """Seconds of calibrating, by phase, and of one pass of the ANN over the same samples; MiB before and at most."""

    samples: int
    phases: dict[str, float]
    forward: float
    before: float
    peak: float

    @property
    def calibrating(self) -> float:
        return sum(self.phases.values())


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


def data_for(name: str, proto: onnx.ModelProto, count: int) -> Dataset:
    """The samples that a network is calibrated on: of a member of the zoo all, else so many."""
    if name == "open_nsfw":
        return dataset_for(proto, datasets.photo_calibration(name))  # 256, of which the zoo takes 64
    if name in NETWORKS:
        return dataset_for(proto, MEMBERS[name].samples().calibration)
    if name == "resnet20":
        with np.load(datasets.cifar10_calibration(max(IMAGES))) as arrays:
            images = arrays["image"][:count]
    else:
        images = np.random.default_rng(0).standard_normal((count, CHANNELS, SIDE, SIDE), np.float32)
    return dataset_for(proto, from_arrays({"image": images}, input_specs(proto)))


def measure(name: str, model: Path, count: int, repeats: int) -> Cost:
    """The cost of calibrating the model in this process."""
    source = load(model)
    network, data, peaks = prepare(source), data_for(name, source.proto, count), []
    options, found, forward = CalibrationOptions(threads=1), [], []
    for _ in range(repeats):
        session = open_session(source.proto, threads=1)
        started = time.process_time()
        for batch in data.batches(options.batch):
            run(session, batch.inputs)
        forward.append(time.process_time() - started)
        del session
        peaks.append(peak())
        with phases() as seconds:
            plan = make_plan(network, data, options, lambda what, done, total: None)
        found.append(dict(seconds))
    least = min(found, key=lambda each: sum(each.values()))
    return Cost(plan.samples, least, min(forward), peaks[0], peak())


def in_a_process(name: str, model: Path, count: int, repeats: int) -> Cost:
    """`measure` in a separate process, whose errors are raised here."""
    command = [sys.executable, "-m", "benchmarks.calibration", CHILD, name, str(model), str(count), str(repeats)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return Cost(**json.loads(done.stdout.splitlines()[-1]))


def child() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument(CHILD, nargs=4, metavar=("NAME", "MODEL", "COUNT", "REPEATS"))
    name, model, *numbers = parser.parse_args().measure
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        print(json.dumps(vars(measure(name, Path(model), *map(int, numbers)))))


def over_networks(quick: bool) -> None:
    def lines() -> Iterator[Sequence[object]]:
        for name in NETWORKS[:1] if quick else NETWORKS:
            cost = in_a_process(name, MEMBERS[name].model(), 0, 1 if quick else REPEATS)
            yield (
                name,
                cost.samples,
                f"{cost.forward:.2f}",
                f"{cost.calibrating:.1f}",
                f"**{cost.calibrating / cost.forward:.1f}**",
                *(f"{cost.phases.get(phase, 0) / cost.forward:.2f}" for phase in NAMES),
                f"{cost.peak:.0f}",
            )

    table(("network", "samples", "ANN, s", "calibration, s", "× the ANN", *NAMES, "peak, MiB"), lines())
    print()


def rows(cases: Iterator[tuple[int, str, Path, int]]) -> Iterator[Sequence[object]]:
    """Cost by number, and how time and memory grew from the row before."""
    last: Cost | None = None
    for number, name, model, count in cases:
        cost = in_a_process(name, model, count, 1)
        yield (
            number,
            f"{cost.calibrating:.1f}",
            f"{1e3 * cost.calibrating / number:.0f}",
            f"{cost.calibrating / last.calibrating:.2f}" if last else "",
            f"{cost.calibrating / cost.forward:.1f}",
            f"{cost.peak:.0f}",
            f"{cost.peak - cost.before:.0f}",
        )
        last = cost


def header(what: str) -> tuple[str, ...]:
    return what, "s", "ms each", "of the row before", "× the ANN", "peak, MiB", "calibration's part of it, MiB"


def over_images(quick: bool) -> None:
    counts = IMAGES[:1] if quick else IMAGES
    table(header("images"), rows((count, "resnet20", TRAINED / "resnet20.onnx", count) for count in counts))
    print()


def over_depth(quick: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        paths = {depth: Path(folder) / f"stack{depth}.onnx" for depth in (DEPTHS[:2] if quick else DEPTHS)}
        for depth, path in paths.items():
            onnx.save(stack(depth), path)
        table(header("layers"), rows((depth, "stack", path, STACK_IMAGES) for depth, path in paths.items()))


TABLES = {"networks": over_networks, "images": over_images, "depth": over_depth}


def main() -> None:
    options = arguments(__doc__, TABLES)
    print(machine())
    for name in options.names or TABLES:
        TABLES[name](options.quick)


if __name__ == "__main__":
    child() if CHILD in sys.argv else main()

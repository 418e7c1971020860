"""Cost by T, batch and image size: `python -m benchmarks.scale [steps|batch|size …] [--threads N] [--quick]`.

ResNet-20 with free height and width of its image. The folded and the integer form do the work of one pass for any T;
the unrolled form computes T passes.
"""

import tempfile
import warnings
from argparse import Namespace
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx

from benchmarks.network import Arrays, converted, runner
from benchmarks.results import TRAINED, table
from benchmarks.timing import FULL, QUICK, alternate, arguments, machine
from graphpass.errors import SessionError
from graphpass.graph.model import Source, load, save
from graphpass.runtime import native

TIME_STEPS, SLOW = (1, 2, 4, 8, 16, 32, 64, 127, 255), 32  # above SLOW steps the unrolled form is left out
BATCHES, SIDES = (1, 2, 4, 8, 16, 32), (32, 64, 96, 128, 192, 256)
STEPS, BATCH, SIDE = 8, 8, 32  # their values when something else varies
THREADS = 1  # sessions of several threads slow each other down in one process
COLUMNS = ("folded", "integer", "unrolled")

Models = dict[str, onnx.ModelProto]


def of_any_size(folder: Path) -> Source:
    """ResNet-20 whose image may have any height and width."""
    proto = onnx.load(TRAINED / "resnet20.onnx")
    for axis, name in ((2, "height"), (3, "width")):
        proto.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = name
    del proto.graph.value_info[:]
    save(proto, path := folder / "resnet20.onnx")
    return load(path)


def images(count: int, side: int) -> Arrays:
    return {"image": np.random.default_rng(0).random((count, 3, side, side), np.float32)}


def models(source: Source, steps: int) -> Models:
    """The ANN and the SNN of T = steps in its forms."""
    others = [form for form in COLUMNS if form != "folded" and (form != "unrolled" or steps <= SLOW)]
    forms, refused = converted(source, "resnet20", steps, others)
    for line in refused:
        print(f"\nNot there: {line}\n")
    return {"ANN": source.proto, **forms}


def row(what: int, protos: Models, batch: int, side: int, options: Namespace) -> Sequence[object]:
    inputs = images(batch, side)
    times = alternate(
        {name: runner(proto, inputs, options.threads) for name, proto in protos.items()},
        QUICK if options.quick else FULL,
    )
    ratios = (times[key].ratio(times["ANN"]) if key in times else "" for key in COLUMNS)
    return what, times["ANN"].milliseconds, f"{1e9 * times['folded'].median / (batch * side**2):.0f}", *ratios


def over_steps(source: Source, options: Namespace) -> Iterator[Sequence[object]]:
    for steps in TIME_STEPS[::4] if options.quick else TIME_STEPS:
        yield row(steps, models(source, steps), BATCH, SIDE, options)


def over_batches(source: Source, options: Namespace) -> Iterator[Sequence[object]]:
    protos = models(source, STEPS)
    for batch in BATCHES[::2] if options.quick else BATCHES:
        yield row(batch, protos, batch, SIDE, options)


def over_sides(source: Source, options: Namespace) -> Iterator[Sequence[object]]:
    protos = models(source, STEPS)
    for side in SIDES[:3] if options.quick else SIDES:
        yield row(side, protos, 1, side, options)


# name → what varies, what does not, the rows
TABLES = {
    "steps": ("T", f"Time-steps; batch {BATCH}, {SIDE} × {SIDE} pixels", over_steps),
    "batch": ("batch", f"Batch; T = {STEPS}, {SIDE} × {SIDE} pixels", over_batches),
    "size": ("side, pixels", f"Image size; T = {STEPS}, batch 1", over_sides),
}


def main() -> None:
    options = arguments(__doc__, TABLES, THREADS)
    if native.library() is None:
        raise SessionError("the native operators are not built", "see `graphpass doctor`")
    print(machine())
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
        warnings.simplefilter("ignore")
        source = of_any_size(Path(folder))
        for name in options.names or TABLES:
            what, title, rows = TABLES[name]
            print(f"{title}; threads: {options.threads}\n")
            ratios = (f"{form}/ANN" for form in COLUMNS)
            table((what, "ANN, ms", "folded, ns per pixel", *ratios), rows(source, options))
            print()


if __name__ == "__main__":
    main()

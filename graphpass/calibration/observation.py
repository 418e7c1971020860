"""The ANN's side of a calibration: what the original network shows of the data, at once or in parts.

    join(parts of [0, a), [a, b), … [z, n)) = the observation of [0, n), bit for bit

Every batch lies in one part, positions in it are drawn by a generator seeded with (seed, step, number of the batch),
and what is least or largest does not depend on where the samples were cut. A part is one .npz of plain numbers:

    key uint8 [32]                   SHA-256 of the steps and options that it was made with
    head int64 [3]                   samples of the whole calibration, samples of a batch, number of the first batch
    sizes int64 [B]                  samples of each batch
    low, high float64 [A]            of each analogue tensor
    K/shapes int64 [B, rank]         of step K: shapes of its target
    K/bottom, K/top [C]              least and largest x, of each channel where the method wants that
    K/span float64 [2]               least and largest a
    K/x, K/a float32 [P, C]          rows of x and a = f(x); no a where it follows from x (`Step.activation`)
"""

import functools
import hashlib
import json
import warnings
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from graphpass.calibration import memory
from graphpass.calibration.ranges import Extremes, Reduced
from graphpass.calibration.sampling import Extent, Positions
from graphpass.calibration.segments import Walk
from graphpass.calibration.steps import Step, steps_of
from graphpass.datasets.arrays import archive_part
from graphpass.datasets.dataset import Dataset, whole_batches
from graphpass.datasets.parts import named
from graphpass.errors import DataError, OptionError
from graphpass.forms.integer.tensors import analogue_tensors
from graphpass.maths.methods import METHODS
from graphpass.maths.threads import limited_threads
from graphpass.options.table import OPTIONS
from graphpass.options.values import bytes_of
from graphpass.progress import Progress
from graphpass.runtime.session import pad_inputs
from graphpass.runtime.store import TensorStore
from graphpass.sites.identities import place_identities
from graphpass.sites.sites import Site

Array = NDArray[Any]

REGRESSION_WORK = 4 * 10**11  # multiply-adds that the normal equations of all steps may cost
REGRESSION_VALUES = 2**25  # numbers of the pre-activations that the regressions of all steps see
THRESHOLD_VALUES = 2**28  # numbers that are kept of all sites for thresholds: 1 GiB, in files if memory is short
SPREAD = 8, 4  # a step with layers samples from an eighth to four times `positions`
FETCH_SHARE = 1 / 16  # of the memory budget: the tensors fetched from one run of the ANN
ROWS_SHARE = 1 / 16  # of the memory budget: the sampled inputs of a step's layers, or its sampled pre-activations
FEW = 4  # samples: with 1, 2, 4 and 64, a ResNet-20 has 43, 86, 89 and 90 % top-1 at T = 8
REMEDY = "give all parts of one calibration, in the order of their samples"


class FewSamplesWarning(UserWarning):
    """A calibration on so few samples that it fits little else."""


@dataclass(frozen=True)
class ObservationOptions:
    """What the ANN's side of a calibration depends on.

    positions: rows that a step's thresholds are to see. memory: bytes. threads: 0 for all cores.
    """

    method: str = OPTIONS["method"].default
    seed: int = OPTIONS["seed"].default
    positions: int = 16384
    batch: int = 32
    limit: int | None = None
    memory: int = bytes_of(OPTIONS["memory_budget"].default)
    threads: int = OPTIONS["threads"].default

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise OptionError(f"unknown method {self.method!r}", f"choose one of {', '.join(METHODS)}")
        if self.positions < 1 or self.batch < 1:
            raise OptionError(f"{self.positions} positions in batches of {self.batch}", "both must be at least 1")
        if self.memory < 1 << 20:
            raise OptionError(f"a memory budget of {self.memory} bytes", "give at least 1 MiB, for example 2GiB")

    @property
    def observed_by(self) -> dict[str, Any]:
        """What an observation depends on: all but the threads, which change no bit."""
        return {each.name: getattr(self, each.name) for each in fields(ObservationOptions) if each.name != "threads"}


@dataclass(frozen=True, eq=False)
class Subject:
    """A normalised network that is to be calibrated, with its identity sites in place, and the data.

    walk: its store gets the inputs of the network. kept: the rows of x and a. analogue: the tensors that have ranges.
    fixed: the batch that the network insists on. key: what two parts of one observation have in common. alike: rows
    that all sites alike have room for.
    """

    walk: Walk
    kept: TensorStore
    steps: Sequence[Step]
    analogue: tuple[str, ...]
    dataset: Dataset
    options: ObservationOptions
    fixed: int | None
    key: str
    alike: int

    def positions(self, number: int, total: int, first: int = 0, start: int = 0) -> Positions:
        """None yet of a step, for batches from number `first`, sample `start`, on of so many samples in all."""
        step, options = self.steps[number], self.options
        rows = rows_of(step, options, len(self.steps), self.alike)
        most = _affordable(sizes_of(step)[1], options) if step.layers else total
        ranges = METHODS[options.method].ranges
        each = -(-rows // total)
        return Positions(step, each, (options.seed, number), ranges, first, start, min(most, total), total)

    def store_inputs(self, size: int, start: int = 0, stop: int | None = None) -> list[int]:
        """Put the inputs of batches of `size` into the walk's store, padded to a fixed batch; the samples of each."""
        sizes = []
        first = whole_batches(start, size) // size
        for number, batch in enumerate(self.dataset.between(size, self.options.limit, start, stop), first):
            sizes.append(batch.size)
            for name, values in pad_inputs(batch.inputs, self.fixed).items():
                self.walk.store.put(name, number, values)
        return sizes


@contextmanager
def opened(
    graph: gs.Graph, sites: Sequence[Site], dataset: Dataset, options: ObservationOptions, fixed: int | None
) -> Iterator[Subject]:
    """A normalised graph (not changed) as a subject; what is stored goes in the end."""
    graph = graph.copy()
    place_identities(graph, sites)
    steps = steps_of(graph, sites, METHODS[options.method].correct is not None)
    analogue = analogue_tensors(graph, {site.output for site in sites}, {site.input for site in sites})
    plan = [(s.target, s.site and s.site.name, [layer.node.name for layer in s.layers]) for s in steps]
    text = json.dumps([options.observed_by, plan, analogue, fixed], sort_keys=True)
    key = hashlib.sha256(text.encode()).hexdigest()
    with (
        limited_threads(options.threads),
        TensorStore(int(options.memory * memory.STORE_SHARE)) as store,
        TensorStore(int(options.memory * memory.SAMPLES_SHARE)) as kept,
    ):
        walk = Walk(graph, store, options.threads)
        yield Subject(walk, kept, steps, analogue, dataset, options, fixed, key, rows_alike(steps))


@dataclass(frozen=True, eq=False)
class Observation:
    """What the ANN shows of the batches from number `first` on.

    total: samples of the whole calibration. batch: samples of a batch. sizes: of each batch here, the last of all may
    be shorter. extents: of each step. take: step → its rows of x, and of a = f(x) where that does not follow from x,
    float32 [P, C]; asked for once.
    """

    key: str
    total: int
    batch: int
    first: int
    sizes: tuple[int, ...]
    extents: tuple[Extent, ...]
    extremes: Extremes
    take: Callable[[int], Sequence[Array]]


def observe(subject: Subject, progress: Progress, start: int = 0, stop: int | None = None) -> Observation:
    """Run the ANN on samples start … stop − 1; both ends move up to the next whole batch.

    A free batch is as large as keeps what is fetched within FETCH_SHARE of the memory budget: small batches are not
    slower, their tensors stay in the processor's cache. The walk's store then has the inputs.
    Raises DataError for a part of data that does not tell its length.
    """
    walk, steps, dataset, options, fixed = subject.walk, subject.steps, subject.dataset, subject.options, subject.fixed
    if dataset.samples is None and (start, stop) != (0, None):
        raise DataError(f"{dataset.description}: does not say how many samples it has", "save them as .npz")
    ends = [_ends(step) for step in steps]
    example = pad_inputs(next(iter(dataset.batches(fixed or 1, options.limit))).inputs, fixed)
    names = list(dict.fromkeys(name for pair in ends for name in pair))
    network = Reduced(walk.graph, names, subject.analogue, options.threads)
    one, _ = network.run(example)
    per_batch = max(1, sum(one[name].nbytes for name in names))
    size = _batch_size(per_batch, fixed, options)
    first = whole_batches(start, size) // size
    sizes = subject.store_inputs(size, start, stop)
    total = sum(sizes) if dataset.samples is None else min(dataset.samples, options.limit or dataset.samples)
    if not start:
        memory.warn_of(lambda budget: _needs(subject, per_batch, total, budget), options.memory)
        _warn_of_few(total)
    positions = [subject.positions(number, total, first, first * size) for number in range(len(steps))]
    extremes = Extremes.none(subject.analogue)
    for number, count in enumerate(sizes, first):
        progress("running the network", number - first, len(sizes))
        found, least_and_most = network.run({name: walk.store.get(name, number) for name in example})
        extremes = extremes.joined(least_and_most)
        for index, (places, pair) in enumerate(zip(positions, ends, strict=True)):
            rows = places.add_ann(count, fixed or count, *(found[name] for name in pair))
            for part, each in zip(_parts(steps[index]), rows, strict=True):
                subject.kept.take_over(f"{index}/{part}", number, each)
    progress("running the network", len(sizes), len(sizes))

    def take(index: int) -> Sequence[Array]:
        rows = []
        for part in _parts(steps[index]):
            name = f"{index}/{part}"
            rows.append(np.concatenate([subject.kept.get(name, first + number) for number in range(len(sizes))]))
            subject.kept.drop(name)
        return rows

    return Observation(
        subject.key, total, size, first, tuple(sizes), tuple(places.extent for places in positions), extremes, take
    )


def _warn_of_few(samples: int) -> None:
    if samples < FEW:
        warnings.warn(
            f"calibrated on {samples} of the at least {FEW} samples that this takes: the network may be much worse on "
            "others; give dozens, and evaluate it on other data",
            FewSamplesWarning,
            stacklevel=2,
        )


def _batch_size(per_batch: int, fixed: int | None, options: ObservationOptions) -> int:
    """Samples of a run. per_batch: bytes that are fetched from a run on one sample."""
    return fixed or int(np.clip(options.memory * FETCH_SHARE // per_batch, 1, options.batch))


def _needs(subject: Subject, per_batch: int, total: int, budget: int) -> list[memory.Need]:
    """What a calibration within a memory budget cannot do without. per_batch: as of `_batch_size`."""
    options, fixed = replace(subject.options, memory=budget), subject.fixed
    samples = fixed or max(_batch_size(per_batch, fixed, options), memory.CHECKED_SAMPLES)
    fetched = per_batch * samples // (fixed or 1)
    needs = [
        memory.of_run(fetched, samples),
        memory.Need(subject.dataset.held, "the samples, which are held in memory"),
    ]
    corrections = []
    for step in subject.steps:
        rows = rows_of(step, options, len(subject.steps), subject.alike)
        if step.layers:
            width, channels = sizes_of(step)
            taken = -(-rows // total) * min(_affordable(channels, options), total)
            corrected = min(taken, regression_rows(step, options, len(subject.steps)))
            groups = max(layer.groups for layer in step.layers)
            name = step.layers[0].node.name
            corrections.append(memory.of_correction(name, taken, corrected, width, channels, groups))
    return [*needs, *sorted(corrections, key=lambda need: -need.bytes)[:1]]


def save(seen: Observation, path: str | Path) -> None:
    """Write a part. Its rows are taken."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, values in _members(seen):
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, values, allow_pickle=False)


def _members(seen: Observation) -> Iterator[tuple[str, Array]]:
    yield "key", np.frombuffer(bytes.fromhex(seen.key), np.uint8)
    yield "head", np.array([seen.total, seen.batch, seen.first], np.int64)
    yield "sizes", np.array(seen.sizes, np.int64)
    yield "low", seen.extremes.low
    yield "high", seen.extremes.high
    for index, extent in enumerate(seen.extents if seen.sizes else ()):
        yield f"{index}/shapes", np.array(extent.shapes, np.int64)
        yield f"{index}/bottom", extent.bottom
        yield f"{index}/top", extent.top
        yield f"{index}/span", np.array([extent.lowest, extent.highest], np.float64)
        for part, rows in zip("xa", seen.take(index), strict=False):
            yield f"{index}/{part}", rows


def load(path: str | Path, subject: Subject) -> Observation:
    """Read a part of the subject's observation; rows are read when they are taken.

    Raises DataError for anything that `save` would not have written for this network and these options.
    """
    path = Path(path)
    headers = archive_part(path).columns
    with named(f"{path}: not a part of this calibration", REMEDY), np.load(path, allow_pickle=False) as stored:

        def read(name: str, kind: str, *shape: int | None) -> Array:
            known = headers[name].shape
            fits = len(known) == len(shape) and all(b in (a, None) for a, b in zip(known, shape, strict=True))
            _require(fits and headers[name].dtype.kind == kind, name)
            return np.asarray(stored[name])

        _require(read("key", "u", 32).tobytes().hex() == subject.key, "key")
        total, batch, first = map(int, read("head", "i", 3))
        _require(total > 0 and batch > 0 and first >= 0, "head")
        sizes = tuple(map(int, read("sizes", "i", None)))
        left = max(total - first * batch, 0)
        _require(sizes == tuple(min(batch, left - k * batch) for k in range(len(sizes))), "sizes")
        low, high = (read(name, "f", len(subject.analogue)) for name in ("low", "high"))
        extents = []
        for index, step in enumerate(subject.steps if sizes else ()):
            lowest, highest = map(float, read(f"{index}/span", "f", 2))
            shapes = tuple(tuple(map(int, shape)) for shape in read(f"{index}/shapes", "i", len(sizes), None))
            bottom, top = (read(f"{index}/{end}", "f", None) for end in ("bottom", "top"))
            extents.append(Extent(shapes, bottom, top, lowest, highest))
            places = subject.positions(index, total, first, first * batch)
            places.extend(sizes, subject.fixed, extents[-1])
            for part in _parts(step):
                header = headers[f"{index}/{part}"]
                _require(header.dtype == np.float32 and header.shape == places.row_shape, f"{index}/{part}")
        extremes = Extremes(subject.analogue, low, high)

    def take(index: int) -> Sequence[Array]:
        with named(f"{path}: not a part of this calibration", REMEDY), np.load(path, allow_pickle=False) as stored:
            return [stored[f"{index}/{part}"] for part in _parts(subject.steps[index])]

    return Observation(subject.key, total, batch, first, sizes, tuple(extents), extremes, take)


def join(parts: Sequence[Observation]) -> Observation:
    """The whole of which these are all parts, in order. Raises DataError where one is missing, or there twice."""
    filled, place = [part for part in parts if part.sizes], 0
    for part in filled:
        if (part.total, part.batch, part.first * part.batch) != (filled[0].total, filled[0].batch, place):
            raise DataError(f"samples {place} and later of a calibration are missing, or appear twice", REMEDY)
        place += sum(part.sizes)
    extremes = functools.reduce(Extremes.joined, (part.extremes for part in parts))
    if not filled or place != filled[0].total:
        raise DataError(f"samples {place} and later of a calibration are missing, or appear twice", REMEDY)
    extents = zip(*(part.extents for part in filled), strict=True)

    def take(index: int) -> Sequence[Array]:
        return [np.concatenate(rows) for rows in zip(*(part.take(index) for part in filled), strict=True)]

    return replace(
        filled[0],
        sizes=tuple(size for part in filled for size in part.sizes),
        extents=tuple(functools.reduce(Extent.joined, each) for each in extents),
        extremes=extremes,
        take=take,
    )


def _require(fits: bool, name: str) -> None:
    if not fits:
        raise ValueError(f"another {name!r} than expected")


def _parts(step: Step) -> str:
    """Which rows of a step are kept: those of a where they do not follow from x."""
    return "xa" if step.activation(np.zeros(1, np.float32)) is None else "x"


def _ends(step: Step) -> list[str]:
    """The tensors that rows are kept of, as in `_parts`."""
    return [step.target, *([step.site.output] if step.site and _parts(step) == "xa" else ())]


def rows_alike(steps: Sequence[Step]) -> int:
    """Rows that every site with layers in front of it may have for its thresholds within THRESHOLD_VALUES."""
    numbers = sum(sizes_of(step)[1] * len(_parts(step)) for step in steps if step.site and step.layers)
    return THRESHOLD_VALUES // max(numbers, 1)


def rows_of(step: Step, options: ObservationOptions, steps: int, alike: int) -> int:
    """Sampled rows of a step: for its regressions, and for thresholds. alike: as of `rows_alike`.

    Thresholds want many rows where a channel is rarely active, and each costs little.
    """
    rows = regression_rows(step, options, steps)
    if step.site is None or not step.layers:
        return rows
    return min(max(rows, min(options.positions, alike)), _affordable(sizes_of(step)[1], options))


def regression_rows(step: Step, options: ObservationOptions, steps: int) -> int:
    """Rows that a step's regressions see: more where its layers are narrow or the network has few steps."""
    if not step.layers:
        return options.positions
    width, channels = sizes_of(step)
    affordable = min(REGRESSION_WORK // steps // width**2, REGRESSION_VALUES // steps // channels)
    total = int(np.clip(affordable, max(1, options.positions // SPREAD[0]), SPREAD[1] * options.positions))
    return min(total, _affordable(max(width * max(layer.groups for layer in step.layers), channels), options))


def _affordable(numbers: int, options: ObservationOptions) -> int:
    """Rows of so many numbers that the memory budget has room for."""
    return max(1, int(options.memory * ROWS_SHARE) // (4 * numbers))


def sizes_of(step: Step) -> tuple[int, int]:
    """Inputs that one output of the step's layers sees, and output channels."""
    return max(1, sum(layer.fan_in for layer in step.layers)), max(1, *(layer.outputs for layer in step.layers))

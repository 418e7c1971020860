"""Checks that the network that is converted computes the same as the file that was given.

    given        the bytes of the file, as onnxruntime runs them
    upgraded     its operators in opset 21                                 (graph.upgrade)
    normalised   the same with constants computed and weights fused        (passes.normalise)

A difference of the outputs beyond BOUNDS may be a mistake, or rounding that the network enlarges (a floor, an ArgMax, a
choice of boxes). To distinguish them, the given network is run again with weights and inputs moved by one unit in the
last place, which shows the effect of rounding. A tensor that differs by more than CONDITION times as much is wrong, and
the error names the node that makes the first wrong tensor.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from graphpass.calibration.memory import CHECKED_SAMPLES
from graphpass.calibration.statistics import lookup_rows
from graphpass.datasets.dataset import Dataset
from graphpass.datasets.images import ImageOptions
from graphpass.datasets.parts import SAMPLES_FIRST
from graphpass.datasets.synthetic import synthetic_dataset
from graphpass.errors import DataError, ModelError, SessionError
from graphpass.graph.domains import opset_of
from graphpass.graph.model import Source, export
from graphpass.graph.refusals import where
from graphpass.graph.tensors import all_tensors
from graphpass.network import Network
from graphpass.runtime.samples import mixed
from graphpass.runtime.session import fixed_batch, input_specs, open_session, pad_inputs, run
from graphpass.sites.sites import unsteady

# Largest difference of an output, by type, as a share of its largest value. float32 has 24 bits; sums of some thousand
# products, some hundred layers deep and added in another order, leave 13 of them, float16's 11 bits 5, bfloat16's 8, 2.
BOUNDS = {"float16": 2.0**-5, "float32": 2.0**-13, "float64": 2.0**-13, "bfloat16": 2.0**-2}
CONDITION = 32.0  # times the change by a unit in the last place; fusing rounds a weight a few times
ROUNDS = 4  # runs with other roundings
AT_ONCE = 32  # tensors that are compared in one run
MOST_SUSPECTS = 256  # tensors that differ
SMALLEST_MOVED = 17  # values from which on a constant is moved; shapes may depend on scales and sizes of a few values

Array = NDArray[Any]
Arrays = Mapping[str, Array]


class SourceWarning(UserWarning):
    """Something that the user should know about the given network."""


@dataclass(frozen=True, eq=False)
class GivenRun:
    """Some samples, and what the given network makes of them: arrays by name."""

    inputs: Arrays
    outputs: Arrays


def check_source(network: Network, dataset: Dataset | None = None, threads: int = 0) -> GivenRun | None:
    """Compare the file that was given with the network that is converted, on some samples, or on made-up ones.

    Returns the run of the file; None where it does not run on made-up inputs.

    Raises SessionError where onnxruntime cannot run the file, and ModelError where it runs on single samples alone, or
    naming the first node that computes something else; warns (SourceWarning) where rounding explains a difference of
    the outputs, where inputs cannot be made up, and where an output of a sample depends on the rest of its batch.
    """
    source = network.source
    unstable = unsteady(network.graph)
    for entry in unstable:
        warnings.warn(f"{source.path}: node {entry.node!r} ({entry.op}) is {entry.reason}", SourceWarning, stacklevel=3)
    session = open_session(source, threads=threads)
    batch = fixed_batch(input_specs(session))
    try:
        given = dataset or made_up_inputs(source, batch)
        inputs = pad_inputs(next(iter(given.batches(batch or CHECKED_SAMPLES))).inputs, batch)
        before = _given_outputs(session, network.source, inputs, batch)
    except (SessionError, DataError, ModelError) as error:
        if dataset is not None:
            raise
        what = f"{source.path}: could not be run on made-up inputs ({error.what}), and is converted without this check"
        warnings.warn(what, SourceWarning, stacklevel=3)
        return None
    del session
    normalised = export(network.graph.copy())
    session = _opened(normalised, network, threads)
    after = run(session, inputs)
    mixing = [] if unstable else mixed(session, inputs, after)
    differences = {name: difference(before[name], after[name]) for name in before}
    wrong = [name for name, found in differences.items() if found > _bound(before[name])]
    if wrong:
        _require_rounding(network, normalised, inputs, threads)
    if wrong and not unstable:
        warnings.warn(
            f"{source.path}: output {wrong[0]!r} of the normalised network differs by {differences[wrong[0]]:.1e} of "
            "its largest value, no more than rounding moves it",
            SourceWarning,
            stacklevel=3,
        )
    if mixing:
        warnings.warn(
            f"{source.path}: output {mixing[0]!r} of a sample depends on the other samples of its batch; take no "
            f"mean, sum or choice over axis 0, or {SAMPLES_FIRST}",
            SourceWarning,
            stacklevel=3,
        )
    return GivenRun(inputs, before)


def _given_outputs(session: Any, source: Source, inputs: Arrays, batch: int | None) -> dict[str, Array]:
    """What the given network makes of samples, copied: an output of a session holds on to the session's memory.

    Raises ModelError where it takes one of them, but not all together.
    """
    try:
        return {name: values.copy() for name, values in run(session, inputs).items()}
    except SessionError as error:
        if batch is not None or not runs(session, {name: values[:1] for name, values in inputs.items()}):
            raise
        raise ModelError(
            f"{source.path}: does not run on several samples at once, though it declares no batch size ({error.what})",
            "export it so that no size in it depends on the batch, or with the batch that it needs as a fixed size",
        ) from error


def runs(session: Any, inputs: Arrays) -> bool:
    """Whether a network runs on these inputs."""
    try:
        run(session, inputs)
    except SessionError:
        return False
    return True


def made_up_inputs(source: Source, batch: int | None) -> Dataset:
    """Made-up inputs for a model without data."""
    specs = input_specs(source)
    return synthetic_dataset(specs, ImageOptions(), batch or CHECKED_SAMPLES, 0, lookup_rows(source.graph()))


def difference(one: Array, other: Array) -> float:
    """max |one − other| / max |one| over the finite numbers of one; for other types, the share of unequal values."""
    if one.shape != other.shape or one.dtype != other.dtype:
        return float("inf")
    if one.dtype.kind != "f":
        return float(np.mean(one != other)) if one.size else 0.0
    finite = np.isfinite(one)
    if not finite.any():
        return 0.0
    wide, found = one[finite].astype(np.float64), other[finite].astype(np.float64)
    largest = float(np.abs(wide).max()) or 1.0
    return float(np.abs(wide - found).max() / largest) if np.isfinite(found).all() else float("inf")


def _bound(values: Array) -> float:
    return BOUNDS.get(str(values.dtype), 0.0)


def _opened(proto: onnx.ModelProto, network: Network, threads: int) -> Any:
    try:
        return open_session(proto, threads=threads)
    except SessionError as error:
        raise ModelError(
            f"{network.source.path}: onnxruntime does not load the normalised network ({error.what})",
            "report this, with the model",
        ) from error


def _require_rounding(network: Network, normalised: onnx.ModelProto, inputs: Arrays, threads: int) -> None:
    """Raise ModelError for the first tensor, in the order of the file, that differs by more than rounding explains."""
    source = network.source
    makers = {name: node for node in source.proto.graph.node for name in node.output if name}
    others = {name for node in normalised.graph.node for name in node.output}
    names = [name for name in makers if name in others]
    given, after = (open_session(_exposing(each, names), threads=threads) for each in (source.proto, normalised))
    differing = _differences(given, inputs, after, inputs, names)
    suspects = [name for name in names if differing[name].found > differing[name].bound][:MOST_SUSPECTS]
    explained = dict.fromkeys(suspects, 0.0)
    for seed in range(ROUNDS):
        moved = open_session(_exposing(_moved(source.proto, seed), suspects), threads=threads)
        rounded = _differences(given, inputs, moved, _moved_inputs(inputs, seed), suspects)
        explained = {name: max(before, rounded[name].found) for name, before in explained.items()}
    for name in suspects:
        found = differing[name].found
        if found > CONDITION * explained[name]:
            upgraded = open_session(_exposing(source.upgraded, [name]), threads=threads)
            early = _differences(given, inputs, upgraded, inputs, [name])[name].found > found / 2
            step = f"writing it in opset {opset_of(source.bare)}" if early else "normalising it"
            node = makers[name]
            raise ModelError(
                f"{where(source.path, node)}: {step} changes its output {name!r} by {found:.1e} of its largest value",
                "report this, with the model; another opset or the export without this operator may work",
            )


@dataclass(frozen=True)
class _Difference:
    found: float
    bound: float


def _differences(one: Any, inputs: Arrays, other: Any, others: Arrays, names: Sequence[str]) -> dict[str, _Difference]:
    """The difference of each tensor between two sessions, a few tensors at a time."""
    found: dict[str, _Difference] = {}
    for start in range(0, len(names), AT_ONCE):
        part = names[start : start + AT_ONCE]
        before, after = _tensors(one, inputs, part), _tensors(other, others, part)
        found |= {name: _Difference(difference(before[name], after[name]), _bound(before[name])) for name in part}
    return found


def _tensors(session: Any, inputs: Arrays, names: Sequence[str]) -> Arrays:
    """The tensors; a value that is not an array of numbers (a sequence, an optional) counts as empty."""
    found = run(session, inputs, names)
    return {name: value if isinstance(value, np.ndarray) else np.zeros(0) for name, value in found.items()}


def _exposing(proto: onnx.ModelProto, names: Sequence[str]) -> onnx.ModelProto:
    """The model with these tensors as outputs, too."""
    made = onnx.ModelProto()
    made.CopyFrom(proto)
    outputs = {value.name for value in made.graph.output}
    made.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in names if name not in outputs)
    return made


def _moved(proto: onnx.ModelProto, seed: int) -> onnx.ModelProto:
    """The model with each number of its constants a unit in the last place larger or smaller."""
    made = onnx.ModelProto()
    made.CopyFrom(proto)
    generator = np.random.default_rng(seed)
    kinds = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE)
    for tensor in all_tensors(made):
        if tensor.data_type in kinds and int(np.prod(tensor.dims, dtype=np.int64)) >= SMALLEST_MOVED:
            tensor.CopyFrom(numpy_helper.from_array(_jittered(numpy_helper.to_array(tensor), generator), tensor.name))
    return made


def _moved_inputs(inputs: Arrays, seed: int) -> Arrays:
    generator = np.random.default_rng((seed, 1))
    return {name: _jittered(each, generator) if each.dtype.kind == "f" else each for name, each in inputs.items()}


def _jittered(values: Array, generator: np.random.Generator) -> Array:
    signs = generator.integers(0, 2, values.shape) * 2 - 1
    return np.asarray(np.nextafter(values, np.copysign(np.inf, signs).astype(values.dtype)))

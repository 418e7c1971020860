"""The spiking operators of a model that was read from a file: checked once, before anything relies on them."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs

from graphpass.errors import GraphpassError, ModelError, OptionError
from graphpass.forms import operators
from graphpass.graph.domains import SPIKING_DOMAIN
from graphpass.graph.plan import reaches
from graphpass.maths.neuron import CODINGS, Firing, Neuron, ThresholdNeuron, levels_of
from graphpass.records import RecordError, text, whole
from graphpass.wording import counted

Reader = Callable[[Any, str], Any]
# operator → its attributes, as docs/operators has them, each with what reads it
ATTRIBUTES: Mapping[str, Mapping[str, Reader]] = {
    function.name: {name: text if name == "coding" else whole for name in function.attribute}
    for function in operators.functions(CODINGS[0], 21)
}
PARAMETERS = {  # constants behind x
    operators.FOLDED_NEURON: 4,
    operators.THRESHOLD_NEURON: 4,
    operators.TRAIN_NEURON: 2,
    operators.THRESHOLD_TRAIN: 2,
    operators.COUNT_NEURON: 2,
}
THRESHOLDS = (operators.THRESHOLD_NEURON, operators.THRESHOLD_TRAIN)  # their first two constants are [L, …]
REMEDY = "convert it with graphpass again"


def require_neurons(graph: gs.Graph) -> None:
    """That every spiking operator has its attributes and parameters, all with one T and code. Raises ModelError."""
    seen: dict[str, tuple[int, str]] = {}
    names: set[str] = set()
    for node in (node for node in graph.nodes if node.domain == SPIKING_DOMAIN):
        if node.op not in ATTRIBUTES:
            raise ModelError(f"node {node.name!r} ({node.op}) is not a spiking operator of this version", REMEDY)
        try:
            seen[node.name] = _attributes(node, ATTRIBUTES[node.op])
            _require_parameters(node)
        except (RecordError, OptionError) as error:
            raise ModelError(f"node {node.name!r} ({node.op}): {error}", REMEDY) from error
        if seen[node.name] != next(iter(seen.values())):
            raise ModelError(
                f"node {node.name!r} ({node.op}) has other time-steps, or another code, than others", REMEDY
            )
        if node.op in PARAMETERS and (not node.name or node.name in names):
            raise ModelError(f"node {node.name!r} ({node.op}): every neuron must have its own name", REMEDY)
        names.add(node.name)


def _attributes(node: gs.Node, readers: Mapping[str, Reader]) -> tuple[int, str]:
    """T and the code of a spiking operator, its attributes checked. Raises RecordError, OptionError."""
    for name, read in readers.items():
        if name not in node.attrs:
            raise RecordError(f"{name}: is missing")
        read(node.attrs[name], name)
    steps, coding = node.attrs["time_steps"], node.attrs["coding"]
    most = levels_of(steps, coding)
    if "levels" in readers and not 2 <= node.attrs["levels"] <= most:
        raise RecordError(f"levels: {node.attrs['levels']} is not 2 to {most}")
    if "input_steps" in readers and node.attrs["input_steps"] not in (1, steps):
        raise RecordError(f"input_steps: {node.attrs['input_steps']} is neither 1 nor time_steps")
    return steps, coding


def _require_parameters(node: gs.Node) -> None:
    wanted = PARAMETERS.get(node.op, 0)
    if len(node.inputs) != wanted + 1 or len(node.outputs) != 1:
        raise RecordError(f"{counted(len(node.inputs), 'input')}, not {wanted + 1}")
    x, repeats = node.inputs[0], node.op == operators.TIME_REPEAT  # a class token of one sample is a constant
    if x.is_empty() or (isinstance(x, gs.Constant) and not repeats):
        raise RecordError("its first input is not computed by the network")
    for number, tensor in enumerate(node.inputs[1:]):
        if not isinstance(tensor, gs.Constant):
            raise RecordError(f"{tensor.name!r} is not a constant")
        values, by_step = np.asarray(tensor.values), node.op in THRESHOLDS and number < 2
        numbers = values[~np.isinf(values)] if by_step and values.dtype.kind == "f" else values
        if values.dtype.kind != "f" or not values.size or not np.isfinite(numbers).all():
            raise RecordError(f"{tensor.name!r} is not made of finite numbers")
        if by_step and len(values) != node.attrs["levels"] - 1:
            raise RecordError(
                f"{tensor.name!r} has thresholds of {counted(len(values), 'step')}, not {node.attrs['levels'] - 1}"
            )
        shape = values.shape[1:] if by_step else values.shape
        if not reaches(shape, node.inputs[0].shape):
            raise RecordError(f"{tensor.name!r} of shape {list(values.shape)} does not fit {node.inputs[0].name!r}")
    if node.op in THRESHOLDS:
        _require_order(node)
    elif wanted and not (np.asarray(node.inputs[1].values) > 0).all():
        raise RecordError(f"{node.inputs[1].name!r}: thresholds are not above 0")


def _require_order(node: gs.Node) -> None:
    rising, falling = (np.asarray(tensor.values, np.float32) for tensor in node.inputs[1:3])
    if rising.shape != falling.shape:
        raise RecordError(f"thresholds of shapes {list(rising.shape)} and {list(falling.shape)}")
    back = (falling[1:] > falling[:-1]) & (rising[:-1] > -np.inf)  # where b is −∞ a step fires for every x
    if (rising[1:] < rising[:-1]).any() or back.any() or (falling > rising).any():
        raise RecordError("its thresholds are not in order")


def neuron_of(node: gs.Node) -> Firing:
    """What a node of the folded form computes."""
    parts = [np.asarray(tensor.values, np.float32) for tensor in node.inputs[1:]]
    if node.op == operators.THRESHOLD_NEURON:
        return ThresholdNeuron(parts[0], parts[1], parts[2], parts[3])
    return Neuron(parts[0], parts[1], parts[2], parts[3], int(node.attrs["levels"]))


@contextmanager
def within_float32(error: type[GraphpassError], what: str) -> Iterator[None]:
    """Parameters and weights are multiplied inside: `error` where that overflows, in place of a warning of numpy."""
    try:
        with np.errstate(over="raise"):
            yield
    except FloatingPointError as problem:
        raise error(f"{what}: its parameters times its weights are beyond float32", REMEDY) from problem

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
from graphpass.maths.neuron import CODINGS, levels_of
from graphpass.records import RecordError, text, whole

Reader = Callable[[Any, str], Any]
# operator → its attributes, as docs/operators has them, each with what reads it
ATTRIBUTES: Mapping[str, Mapping[str, Reader]] = {
    function.name: {name: text if name == "coding" else whole for name in function.attribute}
    for function in operators.functions(CODINGS[0], 21)
}
PARAMETERS = {operators.FOLDED_NEURON: 4, operators.TRAIN_NEURON: 2, operators.COUNT_NEURON: 2}  # constants behind x
REMEDY = "convert it with graphpass again"


def require_neurons(graph: gs.Graph) -> None:
    """That every spiking operator has its attributes and parameters, all with one T and code. Raises ModelError."""
    seen: dict[str, tuple[int, str]] = {}
    names: set[str] = set()
    for node in (node for node in graph.nodes if node.domain == SPIKING_DOMAIN):
        if node.op not in ATTRIBUTES:
            raise ModelError(f"node {node.name!r} ({node.op}) is no spiking operator of this version", REMEDY)
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
            raise ModelError(f"node {node.name!r} ({node.op}): neurons have a name each", REMEDY)
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
        raise RecordError(f"{len(node.inputs)} inputs, not {wanted + 1}")
    if isinstance(node.inputs[0], gs.Constant) or node.inputs[0].is_empty():
        raise RecordError("its first input is not computed by the network")
    for tensor in node.inputs[1:]:
        if not isinstance(tensor, gs.Constant):
            raise RecordError(f"{tensor.name!r} is not a constant")
        values = np.asarray(tensor.values)
        if values.dtype.kind != "f" or not values.size or not np.isfinite(values).all():
            raise RecordError(f"{tensor.name!r} is not made of finite numbers")
        if not reaches(values.shape, node.inputs[0].shape):
            raise RecordError(f"{tensor.name!r} of shape {list(values.shape)} does not fit {node.inputs[0].name!r}")
    if wanted and not (np.asarray(node.inputs[1].values) > 0).all():
        raise RecordError(f"{node.inputs[1].name!r}: thresholds are not above 0")


@contextmanager
def within_float32(error: type[GraphpassError], what: str) -> Iterator[None]:
    """Parameters and weights are multiplied inside: `error` where that overflows, in place of a warning of numpy."""
    try:
        with np.errstate(over="raise"):
            yield
    except FloatingPointError as problem:
        raise error(f"{what}: its parameters times its weights are beyond float32", REMEDY) from problem

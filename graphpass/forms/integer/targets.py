"""TARGETS: the runtimes that the integer form is written for, and what differs between them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import onnx
import onnx_graphsurgeon as gs

from graphpass.forms.integer.borders import scaled_nodes
from graphpass.forms.integer.counting import Counting
from graphpass.forms.integer.layers import Linear
from graphpass.forms.integer.quantised import product_nodes
from graphpass.forms.integer.sums import CountSum, CountTerm, integer_nodes
from graphpass.forms.integer.symmetric import decoded_nodes, layer_nodes, surround_moves, symmetric_nodes
from graphpass.forms.integer.tensorrt import require_levels, require_tensorrt
from graphpass.forms.integer.tensors import SYMMETRIC, UNSIGNED, Numbers

Nodes = list[gs.Node]


@dataclass(frozen=True)
class IntegerTarget:
    """A runtime: which numbers it has, how nodes are written for it, and what raises FormError for what it cannot read.

    current: the counts of a current of so many axes, or why they cannot be computed. product: a settled layer with a
    float output. floats: what counts stand for. Names of nodes begin with the text, or with that of the output.
    settle: what is done to the finished, sorted graph, given a function that makes names which begin no other.
    require_levels, require: of the levels of sites by name, before the work; of the finished model.
    """

    numbers: Numbers
    current: Callable[[CountSum, int, Counting, gs.Variable], Nodes | str]
    product: Callable[[Linear, gs.Variable, str], Nodes]
    floats: Callable[[CountTerm, gs.Variable, str], Nodes]
    settle: Callable[[gs.Graph, Callable[[str], str]], None] = lambda graph, stem: None
    require_levels: Callable[[Mapping[str, int]], None] = lambda levels: None
    require: Callable[[onnx.ModelProto], None] = lambda proto: None


TARGETS: Mapping[str, IntegerTarget] = {
    "onnxruntime": IntegerTarget(UNSIGNED, integer_nodes, product_nodes, scaled_nodes),
    "tensorrt": IntegerTarget(
        SYMMETRIC, symmetric_nodes, layer_nodes, decoded_nodes, surround_moves, require_levels, require_tensorrt
    ),
}
USUAL = next(iter(TARGETS))

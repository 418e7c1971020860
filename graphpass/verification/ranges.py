"""Which tensors of a network have values that float16 cannot hold, measured where they are made.

    largest(x) = max |x| over the numbers of x that are finite

The network is run in float32: a runtime without float16 arithmetic computes a float16 network in float32, and may not
round in between, so that values beyond float16 would be seen on a GPU alone.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from graphpass.graph.half import LARGEST
from graphpass.graph.names import Names
from graphpass.graph.tensors import all_graphs
from graphpass.runtime.session import open_session, run

MARGIN = 2.0  # other samples have larger values


def beyond_float16(
    proto: onnx.ModelProto, names: Sequence[str], batches: Sequence[Mapping[str, NDArray[Any]]], threads: int = 0
) -> dict[str, float]:
    """The named float32 tensors whose largest value is above 65504/MARGIN, with that value; none without samples.

    Raises SessionError where the network does not run.
    """
    if not batches or not names:
        return {}
    probed, outputs = _probed(proto, names)
    session = open_session(probed, threads=threads)
    largest = dict.fromkeys(names, 0.0)
    for inputs in batches:
        values = run(session, inputs, list(outputs.values()))
        largest = {name: max(before, float(values[outputs[name]])) for name, before in largest.items()}
    return {name: value for name, value in largest.items() if value > LARGEST / MARGIN}


def _probed(proto: onnx.ModelProto, names: Sequence[str]) -> tuple[onnx.ModelProto, dict[str, str]]:
    """The model with a number for each tensor as its outputs, by the tensor's name."""
    made = onnx.ModelProto()
    made.CopyFrom(proto)
    parts = [part for graph in all_graphs(made) for part in (*graph.node, *graph.initializer, *graph.input)]
    tensors = [name for graph in all_graphs(made) for node in graph.node for name in node.output]
    fresh = Names({part.name for part in parts} | set(tensors)).fresh
    zero, outputs = fresh("probe/zero"), {}
    made.graph.initializer.append(helper.make_tensor(zero, TensorProto.FLOAT, [1], [0.0]))
    for name in names:
        infinite, size, finite, found = (fresh(f"{name}/{part}") for part in ("infinite", "size", "finite", "largest"))
        made.graph.node.extend(
            [
                helper.make_node("IsInf", [name], [infinite], infinite),
                helper.make_node("Abs", [name], [size], size),
                helper.make_node("Where", [infinite, zero, size], [finite], finite),
                helper.make_node("ReduceMax", [finite], [found], found, keepdims=0),
            ]
        )
        outputs[name] = found
    del made.graph.output[:]
    made.graph.output.extend(helper.make_tensor_value_info(each, TensorProto.FLOAT, []) for each in outputs.values())
    return made, outputs

"""Types and shapes of a model's tensors, by onnx's inference: but for what it is known to get wrong.

    pooling with ceil_mode below opset 22    one window more than there is, where the last would begin in the padding
    STFT                                     all bins, where only the first half is wanted

Nothing is said of these sizes, as of any that only a run can tell.
"""

import onnx
from onnx import NodeProto, ValueInfoProto, helper, shape_inference

from graphpass.graph.domains import opset_of
from graphpass.graph.tensors import LARGEST_PROTOBUF

POOLS = frozenset(["AveragePool", "LpPool", "MaxPool"])
RIGHT_POOLS = 22  # opset
OPAQUE = "graphpass.opaque"  # domain of nodes that inference does not look into


def with_shapes(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The model with inferred types and shapes; itself where it is too large for that in memory.

    What the model says of tensors inside it counts where nothing can be inferred: exporters leave sizes there that
    hold for their own example alone.
    """
    if proto.ByteSize() >= LARGEST_PROTOBUF:
        return proto
    told = {value.name: value for value in proto.graph.value_info}
    bare = onnx.ModelProto()
    bare.CopyFrom(proto)
    del bare.graph.value_info[:]
    try:
        inferred = shape_inference.infer_shapes(bare, data_prop=True)
        known = {value.name: value for value in inferred.graph.value_info if value.type.tensor_type.HasField("shape")}
        wrong = [node for node in bare.graph.node if _is_misjudged(node, opset_of(proto))]
        doubted = [_free(known[name]) for node in wrong for name in node.output if name in known]
        rest = [value for name, value in told.items() if name not in known]
        if not (doubted or rest):
            return inferred
        for node in wrong:
            node.domain = OPAQUE
        bare.opset_import.append(helper.make_opsetid(OPAQUE, 1))
        bare.graph.value_info.extend([*doubted, *rest])
        inferred = shape_inference.infer_shapes(bare, data_prop=True)
    except (shape_inference.InferenceError, RuntimeError):  # onnxruntime, which is stricter, has the last word
        return proto
    for node in inferred.graph.node:
        node.domain = "" if node.domain == OPAQUE else node.domain
    del inferred.opset_import[-1]
    return inferred


def _is_misjudged(node: NodeProto, opset: int) -> bool:
    if node.domain:
        return False
    ceiled = any(attribute.name == "ceil_mode" and attribute.i for attribute in node.attribute)
    return node.op_type == "STFT" or (node.op_type in POOLS and ceiled and opset < RIGHT_POOLS)


def _free(value: ValueInfoProto) -> ValueInfoProto:
    """The value with its sizes behind samples and channels left open."""
    made = ValueInfoProto()
    made.CopyFrom(value)
    for dimension in made.type.tensor_type.shape.dim[2:]:
        dimension.Clear()
    return made

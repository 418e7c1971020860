"""Types and shapes of a model's tensors, by onnx's inference, with its known mistakes corrected:

    pooling with ceil_mode below opset 22    one window too many where the last window would begin in the padding
    STFT                                     all bins, although only the first half is asked for
    KEEPS_SHAPE                              no result, although output and input have the same type and shape

Sizes from the first two are left unknown, like all sizes that depend on values.
"""

import onnx
from onnx import NodeProto, ValueInfoProto, helper, shape_inference

from graphpass.graph.domains import opset_of
from graphpass.graph.tensors import LARGEST_PROTOBUF

POOLS = frozenset(["AveragePool", "LpPool", "MaxPool"])
RIGHT_POOLS = 22  # opset
KEEPS_SHAPE = frozenset(["GroupNormalization", "MeanVarianceNormalization", "SimplifiedLayerNormalization"])
OPAQUE = "graphpass.opaque"  # domain of nodes that inference does not look into


def with_shapes(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The model with inferred types and shapes; the given model if it is too large for inference in memory.

    What the model itself says of its inner tensors counts only where nothing can be inferred, since exporters leave
    sizes there that hold only for their example input.
    """
    if proto.ByteSize() >= LARGEST_PROTOBUF:
        return proto
    stated = {value.name: value for value in proto.graph.value_info}
    bare = onnx.ModelProto()
    bare.CopyFrom(proto)
    del bare.graph.value_info[:]
    normalisations = _as_identities(bare)
    try:
        inferred = shape_inference.infer_shapes(bare, data_prop=True)
        known = {value.name: value for value in inferred.graph.value_info if value.type.tensor_type.HasField("shape")}
        wrong = [node for node in bare.graph.node if _is_misjudged(node, opset_of(proto))]
        doubted = [_free(known[name]) for node in wrong for name in node.output if name in known]
        rest = [value for name, value in stated.items() if name not in known]
        if doubted or rest:
            for node in wrong:
                node.domain = OPAQUE
            bare.opset_import.append(helper.make_opsetid(OPAQUE, 1))
            bare.graph.value_info.extend([*doubted, *rest])
            inferred = shape_inference.infer_shapes(bare, data_prop=True)
            for node in inferred.graph.node:
                node.domain = "" if node.domain == OPAQUE else node.domain
            del inferred.opset_import[-1]
    except (shape_inference.InferenceError, RuntimeError):  # onnxruntime, which is stricter, has the last word
        return proto
    for place, node in normalisations.items():
        inferred.graph.node[place].CopyFrom(node)
    return inferred


def _as_identities(proto: onnx.ModelProto) -> dict[int, NodeProto]:
    """Replace nodes that keep the shape of their input by Identity, in place. Returns the old nodes by position."""
    found = {}
    for place, node in enumerate(proto.graph.node):
        if node.op_type in KEEPS_SHAPE and not node.domain:
            found[place] = NodeProto()
            found[place].CopyFrom(node)
            node.op_type = "Identity"
            del node.input[1:], node.output[1:], node.attribute[:]
    return found


def _is_misjudged(node: NodeProto, opset: int) -> bool:
    if node.domain:
        return False
    ceiled = any(attribute.name == "ceil_mode" and attribute.i for attribute in node.attribute)
    return node.op_type == "STFT" or (node.op_type in POOLS and ceiled and opset < RIGHT_POOLS)


def _free(value: ValueInfoProto) -> ValueInfoProto:
    """The value without its sizes behind samples and channels."""
    made = ValueInfoProto()
    made.CopyFrom(value)
    for dimension in made.type.tensor_type.shape.dim[2:]:
        dimension.Clear()
    return made

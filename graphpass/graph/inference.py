"""Types and shapes of a model's tensors, by onnx's inference, with its known mistakes corrected:

    pooling with ceil_mode below opset 22    one window too many where the last window would begin in the padding, or
                                             behind it
    STFT                                     all bins, although only the first half is asked for
    KEEPS_SHAPE, MAKES_FLOATS                no result, although output and input have the same shape, and the same
                                             type but for those that make float32

Sizes from the first two are left unknown, like all sizes that depend on values.

Shapes are computed in many graphs. onnx follows their values, and keeps a message for every number of a vector that the
operators FOLLOWED read, whatever it holds: a Range of 2^40 takes the memory of the machine. So vectors are followed up
to LONGEST; longer ones, and those that may be longer, are taken for no shapes.
"""

from collections.abc import Iterator

import onnx
from onnx import NodeProto, ValueInfoProto, defs, helper, shape_inference

from graphpass.graph.domains import STANDARD_DOMAINS, opset_of
from graphpass.graph.tensors import fits_a_message, graphs_of, keep_tensors, walk

POOLS = frozenset(["AveragePool", "LpPool", "MaxPool"])
RIGHT_POOLS = 22  # opset
KEEPS_SHAPE = {  # by domain
    "": frozenset(["GroupNormalization", "MeanVarianceNormalization", "SimplifiedLayerNormalization"]),
    "ai.onnx.ml": frozenset(["Imputer", "Normalizer", "Scaler"]),
    "com.microsoft": frozenset(
        "BiasGelu FastGelu Gelu Inverse QuickGelu RotaryEmbedding SkipLayerNormalization "
        "SkipSimplifiedLayerNormalization Trilu".split()
    ),
}
MAKES_FLOATS = frozenset(["Normalizer", "Scaler"])
OPAQUE = "graphpass.opaque"  # domain of nodes that inference does not look into
LONGEST = 1024  # numbers of a vector
FOLLOWED = frozenset(
    schema.name for schema in defs.get_all_schemas() if schema.has_data_propagation_function and not schema.domain
)


def with_shapes(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The model with inferred types and shapes; the given model if it is too large for inference in memory.

    What the model itself says of its inner tensors counts only where nothing can be inferred, since exporters leave
    sizes there that hold only for their example input.
    """
    if not fits_a_message(proto):
        return proto
    stated = {value.name: value for value in proto.graph.value_info}
    bare = onnx.ModelProto()
    bare.CopyFrom(proto)
    del bare.graph.value_info[:]
    normalisations = _as_identities(bare)
    bare.opset_import.append(helper.make_opsetid(OPAQUE, 1))
    try:
        _leave_long_vectors(bare)
        inferred = shape_inference.infer_shapes(bare, data_prop=True)
        known = {value.name: value for value in inferred.graph.value_info if value.type.tensor_type.HasField("shape")}
        wrong = [node for node in bare.graph.node if _is_misjudged(node, opset_of(proto))]
        doubted = [_free(known[name]) for node in wrong for name in node.output if name in known]
        rest = [value for name, value in stated.items() if name not in known]
        if doubted or rest:
            for node in wrong:
                node.domain = OPAQUE
            bare.graph.value_info.extend([*doubted, *rest])
            inferred = shape_inference.infer_shapes(bare, data_prop=True)
    except (shape_inference.InferenceError, RuntimeError):  # onnxruntime, which is stricter, has the last word
        return proto
    del inferred.opset_import[-1]
    for graph in graphs_of(inferred.graph):
        keep_tensors(graph)
    for node in walk(inferred.graph):
        node.domain = "" if node.domain == OPAQUE else node.domain
    for place, node in normalisations.items():
        inferred.graph.node[place].CopyFrom(node)
    return inferred


def _leave_long_vectors(proto: onnx.ModelProto) -> None:
    """Let operators that read long vectors, or such that may be, be none that are looked into, in place.

    What they make is inferred without following values, and stated.
    """
    plain = shape_inference.infer_shapes(proto)
    known: dict[str, ValueInfoProto] = {}
    for graph in graphs_of(plain.graph):
        known |= {value.name: value for value in (*graph.value_info, *graph.input, *graph.output)}
    stored = {tensor.name: list(tensor.dims) for tensor in _constants(proto)}
    for graph in graphs_of(proto.graph):
        made = set()
        for node in graph.node:
            if node.op_type not in FOLLOWED or node.domain not in STANDARD_DOMAINS:
                continue
            if any(name and _may_be_long(stored.get(name, known.get(name))) for name in node.input):
                node.domain = OPAQUE
                made |= set(node.output)
        graph.value_info.extend(known[name] for name in made if name in known)
        for value in graph.output:
            if value.name in made and value.name in known:
                value.CopyFrom(known[value.name])


def _constants(proto: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    for graph in graphs_of(proto.graph):
        yield from graph.initializer


def _may_be_long(known: list[int] | ValueInfoProto | None) -> bool:
    """Of a constant's dimensions, or what is inferred of a tensor: whether it is a vector of more than LONGEST."""
    if known is None:
        return True
    if isinstance(known, list):
        return len(known) == 1 and known[0] > LONGEST
    kind = known.type.tensor_type
    if not kind.HasField("shape"):
        return True
    sizes = kind.shape.dim
    return len(sizes) == 1 and not (sizes[0].HasField("dim_value") and sizes[0].dim_value <= LONGEST)


def _as_identities(proto: onnx.ModelProto) -> dict[int, NodeProto]:
    """Replace nodes that keep the shape of their input by Identity or Cast, in place.

    Returns the old nodes by position.
    """
    found = {}
    for place, node in enumerate(proto.graph.node):
        if node.op_type in KEEPS_SHAPE.get(node.domain, ()):
            found[place] = NodeProto()
            found[place].CopyFrom(node)
            del node.input[1:], node.output[1:], node.attribute[:]
            if node.op_type in MAKES_FLOATS:
                node.attribute.append(helper.make_attribute("to", onnx.TensorProto.FLOAT))
            node.op_type, node.domain = "Cast" if node.op_type in MAKES_FLOATS else "Identity", ""
    return found


def _is_misjudged(node: NodeProto, opset: int) -> bool:
    if node.domain:
        return False
    return node.op_type == "STFT" or (node.op_type in POOLS and opset < RIGHT_POOLS and _may_end_in_padding(node))


def _may_end_in_padding(pool: NodeProto) -> bool:
    """Whether the last window of a pooling with ceil_mode may begin behind all values, for some size of them.

    With padding p behind the values, stride s, and windows that reach over k = (kernel − 1)·dilation + 1: p + s > k.
    """
    given = {attribute.name: helper.get_attribute_value(attribute) for attribute in pool.attribute}
    if not given.get("ceil_mode", 0):
        return False
    if given.get("auto_pad", b"NOTSET") != b"NOTSET" or "kernel_shape" not in given:
        return True
    kernel = given["kernel_shape"]
    ones = [1] * len(kernel)
    ends = given.get("pads", [0, 0] * len(kernel))[len(kernel) :]
    parts = zip(kernel, given.get("dilations", ones), given.get("strides", ones), ends, strict=True)
    return any(end + stride > (size - 1) * dilation + 1 for size, dilation, stride, end in parts)


def _free(value: ValueInfoProto) -> ValueInfoProto:
    """The value without its sizes behind samples and channels."""
    made = ValueInfoProto()
    made.CopyFrom(value)
    for dimension in made.type.tensor_type.shape.dim[2:]:
        dimension.Clear()
    return made

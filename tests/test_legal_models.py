"""What a legal ONNX file may hold: each is converted, and close to what onnxruntime makes of it, or refused by name.

The networks are x → MatMul → Relu → … → MatMul → y, written in every way that the format and onnxruntime allow.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper

from graphpass.conversion import convert
from graphpass.errors import CalibrationError, GraphpassError, ModelError, SessionError, UnsupportedModelError
from graphpass.evaluation import evaluate as evaluation
from tests.legal import (
    BFLOAT16,
    FLOAT,
    NEWEST,
    A,
    X,
    add_value,
    annotated,
    call,
    choice,
    converted,
    dead_ends,
    edited,
    empty_list,
    function,
    function_of_the_runtime,
    function_with_weights,
    in_fields,
    loop,
    nameless,
    nested_functions,
    network,
    overloaded_functions,
    prepared,
    proved,
    referring,
    renamed,
    saved,
    sparse_constant,
    sparse_initialiser,
    spelled_domain,
    stored,
    typed,
    with_functions,
)
from tests.models import mended_in, node


@pytest.fixture(autouse=True)
def short_timings(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is timed here is of no interest."""
    monkeypatch.setattr(evaluation, "SHORTEST_TIMING", 0.0)


NORM = {"g": np.abs(A[0]) + 1, "h": A[1]}
CONVERTED: dict[str, Callable[[], ModelProto]] = {
    "output without a shape": lambda: edited(lambda proto: proto.graph.output[0].type.tensor_type.ClearField("shape")),
    "output without a type": lambda: edited(lambda proto: proto.graph.output[0].ClearField("type")),
    "output of another batch": lambda: edited(
        lambda proto: setattr(proto.graph.output[0].type.tensor_type.shape.dim[0], "dim_value", 1)
    ),
    "sizes inside that hold for one batch": lambda: edited(add_value("value_info", "r", 1, 8)),
    "a size of -1": lambda: edited(
        lambda proto: setattr(proto.graph.input[0].type.tensor_type.shape.dim[0], "dim_value", -1)
    ),
    "sizes that are free": lambda: edited(
        lambda proto: [each.Clear() for each in proto.graph.input[0].type.tensor_type.shape.dim]
    ),
    "initialisers among the inputs": lambda: edited(add_value("input", "a", 8, 8), ir=3),
    "initialisers not among the inputs": lambda: network(ir=3),
    "an initialiser that may be overridden": lambda: edited(add_value("input", "a", 8, 8), ir=8),
    "sparse initialiser": lambda: sparse_initialiser(linear=True),
    "sparse initialiser, by axes": lambda: sparse_initialiser(linear=False),
    "sparse constant": sparse_constant,
    "value_float": lambda: network([node("Constant", "", "k", value_float=0.5), node("Add", "r k", "m")]),
    "value_floats": lambda: network([node("Constant", "", "k", value_floats=[0.5] * 8), node("Add", "r k", "m")]),
    "value_int": lambda: network(
        [node("Constant", "", "k", value_int=1), node("Gather", "s k", "t"), node("Reshape", "r t", "m")],
        {"s": np.array([[0, 8], [-1, 8]])},
    ),
    "value_ints": lambda: network([node("Constant", "", "k", value_ints=[-1, 8]), node("Reshape", "r k", "m")]),
    "value_string": lambda: edited(
        lambda proto: proto.graph.node.append(node("Constant", "", "text", value_string="hello"))
    ),
    "inputs and outputs left out": lambda: network(
        [
            node("Clip", "r - high", "k"), node("Dropout", "k -", "l -"),
            node("LayerNormalization", "l g", "n - dev"), node("Relu", "n", "m"),
        ],
        {"high": np.float32(9), "g": NORM["g"]},
    ),
    "an empty list of axes": lambda: edited(
        empty_list, [node("ReduceSum", "r", "s", "total"), node("Mul", "s small", "t"), node("Add", "r t", "m")],
        {"small": np.float32(1e-3)}, opset=11,
    ),
    "scalars": lambda: network([node("Mul", "r k", "m")], {"k": np.float32(0.7)}),
    "an axis without positions": lambda: network(
        [node("Slice", "r zero zero one", "e"), node("Concat", "e r", "m", axis=1)],
        {"zero": np.array([0]), "one": np.array([1])},
    ),
    "a layer without features": lambda: network(
        [node("MatMul", "r e", "s", "empty"), node("Relu", "s", "t", "none"), node("Concat", "r t", "m", axis=1)],
        {"e": np.zeros((8, 0), np.float32)},
    ),
    "a sequence": lambda: edited(
        lambda proto: proto.graph.output.append(helper.make_tensor_value_info("n", TensorProto.INT64, [])),
        [node("SplitToSequence", "r", "q", axis=1), node("SequenceLength", "q", "n"), node("Identity", "r", "m")],
    ),
    "an optional": lambda: edited(
        lambda proto: proto.graph.output.append(helper.make_tensor_value_info("n", TensorProto.BOOL, [])),
        [node("Optional", "r", "q"), node("OptionalHasElement", "q", "n"), node("Identity", "r", "m")],
    ),
    "sizes that are computed": lambda: network(
        [node("Shape", "r", "s"), node("Gather", "s zero", "t"), node("Concat", "t left", "u", axis=0),
         node("Reshape", "r u", "m", allowzero=1)],
        {"zero": np.array([0]), "left": np.array([-1])},
    ),
    "numbers in typed fields": lambda: edited(in_fields),
    "no names": lambda: edited(nameless),
    "an output that is an input": lambda: edited(add_value("output", "x", "N", 8)),
    "an output that is an initialiser": lambda: edited(add_value("output", "b", 8, 4)),
    "outputs inside": lambda: edited(lambda proto: [add_value("output", name, "N", 8)(proto) for name in "rc"]),
    "what nothing reads": lambda: edited(dead_ends),
    "annotations and training": annotated,
    "nested functions": nested_functions,
    "overloaded functions": overloaded_functions,
    "a function called twice": function_with_weights,
    "a function of the runtime's operators": function_of_the_runtime,
    "an attribute of a function": lambda: with_functions(
        [node("Neg", "r", "n"), call("F", "n", "m", slope=0.3)],
        function("F", [referring("LeakyRelu", "alpha", "slope")], attributes=["slope"]),
    ),
    "a default of a function": lambda: with_functions(
        [node("Neg", "r", "n"), call("F", "n", "m")],
        function("F", [referring("LeakyRelu", "alpha", "s")], attribute_protos=[helper.make_attribute("s", 0.2)]),
    ),
    "a default that a function hands on": lambda: with_functions(
        [node("Neg", "r", "n"), call("F", "n", "m")],
        function("F", [referring("G", "s", "t", domain="mine")], attribute_protos=[helper.make_attribute("t", 0.2)]),
        function("G", [referring("LeakyRelu", "alpha", "s")], attribute_protos=[helper.make_attribute("s", 0.9)]),
    ),
    "a choice": lambda: choice(constant=False),
    "a choice that is settled": lambda: choice(constant=True),
    "a choice with weights": lambda: choice(constant=False, weights=True),
    "a loop": loop,
    "float16": lambda: typed(TensorProto.FLOAT16, np.float16),
    **{
        f"weights in {TensorProto.DataType.Name(kind).lower()}": lambda kind=kind: stored(kind)
        for kind in (
            TensorProto.FLOAT16, BFLOAT16, TensorProto.DOUBLE, TensorProto.FLOAT8E4M3FN, TensorProto.FLOAT8E4M3FNUZ,
            TensorProto.FLOAT8E5M2, TensorProto.FLOAT8E5M2FNUZ,
        )
    },
    **{
        f"weights in {TensorProto.DataType.Name(kind).lower()}": lambda kind=kind: stored(kind, 4.0)
        for kind in (TensorProto.INT4, TensorProto.INT8, TensorProto.INT16, TensorProto.INT32)
    },
    "bfloat16 inside": lambda: edited(
        add_value("output", "o", "N", 8),
        [
            node("Cast", "c", "k", to=BFLOAT16), node("Transpose", "k", "l", perm=[1, 0]),
            node("Transpose", "l", "n", perm=[1, 0]), node("Cast", "n", "o", to=FLOAT), node("Identity", "r", "m"),
        ],
        opset=21,
    ),
    "ai.onnx of nodes": lambda: spelled_domain(nodes=True, imports=False),
    "ai.onnx of the import": lambda: spelled_domain(nodes=False, imports=True),
    "ai.onnx of both": lambda: spelled_domain(nodes=True, imports=True),
    "ai.onnx twice": lambda: spelled_domain(nodes=True, imports=False, both=True),
    "the runtime's domain without an import": lambda: network([node("QuickGelu", "r", "m", domain="com.microsoft")]),
    "LayerNormalization of opset 13": lambda: network(
        [node("LayerNormalization", "r g h", "n", "norm"), node("Relu", "n", "m", "relu2")], NORM, opset=13
    ),
    "SimplifiedLayerNormalization": lambda: network(
        [node("SimplifiedLayerNormalization", "r g", "n", "norm", axis=-1), node("Relu", "n", "m", "relu2")], NORM
    ),
}  # fmt: skip

VERSIONS = [(17, ir) for ir in range(3, onnx.IR_VERSION + 1)] + [(opset, 10) for opset in range(7, NEWEST + 1)]


OLD = {"a layer without features": mended_in(32, "sums empty tensors to other shapes")}


@pytest.mark.parametrize("what", [pytest.param(what, marks=OLD.get(what, ())) for what in CONVERTED])
def test_a_legal_file_is_converted(tmp_path: Path, what: str) -> None:
    proto = CONVERTED[what]()
    dtype = helper.tensor_dtype_to_np_dtype(proto.graph.input[0].type.tensor_type.elem_type)
    feeds = {"x": X.astype(dtype)}
    done = converted(prepared(saved(proto, tmp_path)), tmp_path, feeds)
    proved(done, feeds)
    assert done.network.coverage.weight_layers >= 2


@pytest.mark.parametrize(("opset", "ir"), VERSIONS)
def test_every_version_of_the_format(tmp_path: Path, opset: int, ir: int) -> None:
    converted(prepared(saved(network(opset=opset, ir=ir), tmp_path)), tmp_path, {"x": X})


@pytest.mark.parametrize(
    "text",
    ["/a//b/", "a:0 ", "ἄλφα 層", " ", "a\nb", "L" * 70_000, "a\"b'", "[bold]", "%s{x}", "../..", "\ue000", "\x00"],
)
def test_names_of_every_kind(tmp_path: Path, text: str) -> None:
    path = saved(renamed(text), tmp_path)
    done = converted(prepared(path), tmp_path, {f"{text}x": X})
    proved(done, {f"{text}x": X})
    assert [site.name for site in done.plan.sites] == [f"{text}relu"]


def refusal(proto: ModelProto, folder: Path) -> GraphpassError:
    with pytest.raises(GraphpassError) as caught:
        convert(prepared(saved(proto, folder)), {"x": X}, allow_partial=True)
    return caught.value


REFUSED: dict[str, tuple[Callable[[], ModelProto], type[GraphpassError], str]] = {
    "two nodes of one name": (
        lambda: edited(lambda proto: setattr(proto.graph.node[1], "name", "one")),
        SessionError, "m.onnx: onnxruntime cannot load it",
    ),
    "an input without a shape": (
        lambda: edited(lambda proto: proto.graph.input[0].type.tensor_type.ClearField("shape")),
        UnsupportedModelError, "input 'x' has no shape, not even a number of axes",
    ),
    "an attribute that is a type": (
        lambda: network([
            node("Optional", "", "o", "empty", type=helper.make_tensor_type_proto(FLOAT, [1])),
            node("OptionalHasElement", "o", "flag"), node("Where", "flag r r", "m"),
        ]),
        UnsupportedModelError, "node 'empty' (Optional): its attribute 'type' of type TYPE_PROTO cannot be read",
    ),
    "activations in bfloat16 without a kernel": (
        lambda: network([
            node("Relu", "r", "k", "relu2"), node("Cast", "k", "n", to=BFLOAT16), node("Relu", "n", "o", "narrow"),
            node("Cast", "o", "m", to=FLOAT),
        ], opset=21),
        GraphpassError, "bfloat16 activations are not converted",
    ),
    "an output in bfloat16": (
        lambda: edited(
            lambda proto: proto.graph.output.append(helper.make_empty_tensor_value_info("n")),
            [node("Cast", "r", "n", to=BFLOAT16), node("Identity", "r", "m")], opset=21,
        ),
        UnsupportedModelError, "'n' is a tensor of bfloat16, which numpy has no numbers for",
    ),
    "a constant of two values": (
        lambda: network([node("Constant", "", "k", "two", value_float=0.5, value_int=1), node("Add", "r k", "m")]),
        ModelError, "node 'two' (Constant) has value_float and value_int, not one value",
    ),
    "a constant of none": (
        lambda: network([node("Constant", "", "k", "none"), node("Add", "r k", "m")]),
        ModelError, "node 'none' (Constant) has no value, not one value",
    ),
    "a normalisation of other channels": (
        lambda: network([node("BatchNormalization", "r g g g g", "m", "norm")], {"g": np.ones(5, np.float32)}),
        SessionError, "m.onnx: onnxruntime cannot load it",
    ),
    "an activation of nothing": (
        lambda: network(
            [
                node("ReduceMax", "x", "top", keepdims=0), node("Mul", "top zero", "low"),
                node("Add", "low nine", "at"), node("Cast", "at", "whole", to=TensorProto.INT64),
                node("Unsqueeze", "whole first", "start"),
                node("Slice", "c start end axis", "e"), node("Relu", "e", "f", "empty"),
                node("Concat", "r f", "m", axis=1),
            ],
            {"zero": np.float32(0), "nine": np.float32(9), "first": np.array([0]), "end": np.array([20]),
             "axis": np.array([1])},
        ),
        CalibrationError, "site 'empty' has no values on the calibration data",
    ),
    "no opset": (lambda: edited(lambda proto: proto.ClearField("opset_import")), ModelError, "invalid ONNX"),
    "float64": (lambda: typed(TensorProto.DOUBLE, np.float64), UnsupportedModelError, "float64 activations are not"),
    "a node that reads nothing that is": (
        lambda: network([node("Neg", "nowhere", "m", "lost")]), ModelError, "input 'nowhere' of node: name: lost"
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_not_converted_is_refused_by_name(tmp_path: Path, what: str) -> None:
    make, kind, words = REFUSED[what]
    error = refusal(make(), tmp_path)
    assert isinstance(error, kind) and words in str(error)
    assert "\n" not in str(error)

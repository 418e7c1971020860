"""What a legal ONNX file may hold: each is converted, and close to what onnxruntime makes of it, or refused by name.

The networks are x → MatMul → Relu → … → MatMul → y, written in every way that the format and onnxruntime allow.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from graphpass.conversion import Conversion, convert, dataset_for
from graphpass.errors import GraphpassError, ModelError, SessionError, UnsupportedModelError
from graphpass.evaluation import evaluate as evaluation
from graphpass.evaluation.evaluate import EvaluationOptions, evaluate
from graphpass.graph.model import digest, load
from graphpass.inspection import inspect
from graphpass.network import Network, prepare
from graphpass.verification.forms import verify
from tests.models import node

RNG = np.random.default_rng(0)
X = RNG.normal(size=(16, 8)).astype(np.float32)
A = RNG.normal(size=(8, 8)).astype(np.float32)
B = (RNG.normal(size=(8, 4)) / 3).astype(np.float32)
SPARSE = np.where(np.abs(A) < 0.5, 0, A).astype(np.float32)
FLOAT, BFLOAT16 = TensorProto.FLOAT, TensorProto.BFLOAT16
NEWEST = onnx.defs.onnx_opset_version()


@pytest.fixture(autouse=True)
def short_timings(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is timed here is of no interest."""
    monkeypatch.setattr(evaluation, "SHORTEST_TIMING", 0.0)


def network(
    middle: Sequence[NodeProto] = (), constants: Mapping[str, Any] | None = None, opset: int = 17, ir: int = 10
) -> ModelProto:
    """x → MatMul → Relu → middle, from r to m → MatMul → y."""
    nodes = [
        node("MatMul", "x a", "c", "one"), node("Relu", "c", "r", "relu"), *middle,
        node("MatMul", "m b" if middle else "r b", "y", "two"),
    ]  # fmt: skip
    values = {"a": A, "b": B, **(constants or {})}
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("x", FLOAT, ["N", 8])],
        [helper.make_tensor_value_info("y", FLOAT, ["N", 4])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in values.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir)


def edited(change: Callable[[ModelProto], object], *arguments: Any, **options: Any) -> ModelProto:
    proto = network(*arguments, **options)
    change(proto)
    return proto


def without(proto: ModelProto, name: str) -> ModelProto:
    """The model without one initialiser, which is stored otherwise."""
    kept = [tensor for tensor in proto.graph.initializer if tensor.name != name]
    del proto.graph.initializer[:]
    proto.graph.initializer.extend(kept)
    return proto


def saved(proto: ModelProto, folder: Path) -> Path:
    (folder / "m.onnx").write_bytes(proto.SerializeToString())
    return folder / "m.onnx"


def run(path: Path, feeds: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    found: list[NDArray[Any]] = ort.InferenceSession(str(path), options, ["CPUExecutionProvider"]).run(
        None, dict(feeds)
    )
    return found


def prepared(path: Path) -> Network:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return prepare(load(path))


def converted(network: Network, folder: Path, feeds: Mapping[str, NDArray[Any]]) -> Conversion:
    """The network converts, and is close to what the runtime makes of its file with 256 levels."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        done = convert(network, dict(feeds), folder / "snn.onnx", time_steps=8, coding="phase", allow_partial=True)
    for before, after in zip(run(network.source.path, feeds), run(folder / "snn.onnx", feeds), strict=True):
        assert (before.dtype, before.shape) == (after.dtype, after.shape)
        error = np.linalg.norm((after - before).astype(np.float64)) / np.linalg.norm(before.astype(np.float64))
        assert error < 0.02
    return done


def proved(done: Conversion, feeds: Mapping[str, NDArray[Any]]) -> None:
    """What was converted can be verified, evaluated and inspected."""
    network = done.network
    data = dataset_for(network.source, dict(feeds))
    assert verify(done.proto, data, limit=4).agrees
    assert evaluate(network.source, done.proto, data, EvaluationOptions(rounds=1)).sites
    assert inspect(network).to_json()


def sparse(values: NDArray[np.float32], name: str, linear: bool) -> onnx.SparseTensorProto:
    places = np.flatnonzero(values) if linear else np.argwhere(values)
    held = numpy_helper.from_array(values.reshape(-1)[np.flatnonzero(values)], name)
    return helper.make_sparse_tensor(held, numpy_helper.from_array(places.astype(np.int64), f"{name}_at"), values.shape)


def sparse_initialiser(linear: bool) -> ModelProto:
    proto = without(network(), "a")
    proto.graph.sparse_initializer.append(sparse(SPARSE, "a", linear))
    return proto


def sparse_constant() -> ModelProto:
    proto = without(network(), "a")
    made = node("Constant", "", "a", "weights")
    made.attribute.append(AttributeProto(name="sparse_value", type=AttributeProto.SPARSE_TENSOR))
    made.attribute[0].sparse_tensor.CopyFrom(sparse(SPARSE, "a", True))
    proto.graph.node.insert(0, made)
    return proto


def stored(kind: int, scale: float = 1.0) -> ModelProto:
    """Weights in a narrow type behind a Cast."""
    proto = without(network(opset=21), "a")
    values = np.clip(np.round(A * scale), -7, 7) if scale > 1 else A
    proto.graph.initializer.append(helper.make_tensor("q", kind, A.shape, values.reshape(-1).tolist()))
    proto.graph.initializer.append(numpy_helper.from_array(np.float32(1 / scale), "scale"))
    proto.graph.node.insert(0, node("Mul", "f scale", "a", "times"))
    proto.graph.node.insert(0, node("Cast", "q", "f", "cast", to=FLOAT))
    return proto


def typed(kind: int, dtype: Any) -> ModelProto:
    """The whole network in another type."""
    proto = network(constants={"a": A.astype(dtype), "b": B.astype(dtype)})
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.elem_type = kind
    return proto


def function(
    name: str, body: Sequence[NodeProto], overload: str = "", imports: Sequence[str] = (), **options: Any
) -> onnx.FunctionProto:
    opsets = [helper.make_opsetid("", 17), *(helper.make_opsetid(domain, 1) for domain in ("mine", *imports))]
    made = helper.make_function("mine", name, ["u"], ["v"], list(body), opsets, **options)
    made.overload = overload
    return made


def call(name: str, inputs: str, outputs: str, overload: str = "", **attributes: Any) -> NodeProto:
    made = node(name, inputs, outputs, f"call_{outputs}", domain="mine", **attributes)
    made.overload = overload
    return made


def with_functions(middle: Sequence[NodeProto], *functions: onnx.FunctionProto) -> ModelProto:
    proto = network(middle)
    proto.functions.extend(functions)
    proto.opset_import.append(helper.make_opsetid("mine", 1))
    return proto


def referring(op: str, attribute: str, name: str) -> NodeProto:
    """A node whose attribute is given by the function it is in."""
    made = node(op, "u", "v")
    made.attribute.append(AttributeProto(name=attribute, type=AttributeProto.FLOAT, ref_attr_name=name))
    return made


def nested_functions() -> ModelProto:
    outer = [call("Inner", "u", "w"), node("Neg", "w", "z"), node("Neg", "z", "v")]
    return with_functions(
        [call("Outer", "r", "m")], function("Inner", [node("Relu", "u", "v")]), function("Outer", outer)
    )


def overloaded_functions() -> ModelProto:
    one, two = function("F", [node("Relu", "u", "v")], "one"), function("F", [node("Neg", "u", "v")], "two")
    return with_functions(
        [call("F", "r", "s", "one"), call("F", "s", "t", "two"), call("F", "t", "m", "two")], one, two
    )


def function_with_weights() -> ModelProto:
    """Called twice: its constant is two layers' weights."""
    body = [node("Constant", "", "k", value=numpy_helper.from_array(A / 3)), node("MatMul", "u k", "v", "inner")]
    middle = [call("Layer", "r", "s"), node("Relu", "s", "t", "relu2"), call("Layer", "t", "m")]
    return with_functions(middle, function("Layer", body))


def function_of_the_runtime() -> ModelProto:
    body = [node("QuickGelu", "u", "v", domain="com.microsoft")]
    return with_functions([call("F", "r", "m")], function("F", body, imports=["com.microsoft"]))


def branch(name: str, *nodes: NodeProto) -> GraphProto:
    """A body that ends in <name>_out and may read what is outside."""
    return helper.make_graph(list(nodes), name, [], [helper.make_empty_tensor_value_info(f"{name}_out")])


def choice(constant: bool, *, weights: bool = False) -> ModelProto:
    """r2 goes through an If beside the layers, whose branches use the same names and capture activation and weights."""
    bodies = [
        branch(
            part,
            node("MatMul", "r a", "h", f"{part}_mm") if weights else node("Neg", "r", "h"),
            node("Neg", "h", f"{part}_out"),
        )
        for part in ("then", "else")
    ]
    made = node("If", "flag", "k", "choice", then_branch=bodies[0], else_branch=bodies[1])
    decide = [node("ReduceMax", "x", "top", keepdims=0), node("Greater", "top zero", "flag")]
    middle = [*([] if constant else decide), made, node("Identity", "r", "m")]
    proto = network(middle, {"flag": np.array(True)} if constant else {"zero": np.float32(0)})
    proto.graph.output.append(helper.make_tensor_value_info("k", FLOAT, None))
    return proto


def loop() -> ModelProto:
    body = helper.make_graph(
        [node("Identity", "go", "on"), node("Neg", "state", "next")],
        "body",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("state", FLOAT, None),
        ],
        [helper.make_tensor_value_info("on", TensorProto.BOOL, []), helper.make_tensor_value_info("next", FLOAT, None)],
    )
    middle = [node("Loop", "trips - r", "k", "loop", body=body), node("Identity", "r", "m")]
    proto = network(middle, {"trips": np.array(2)})
    proto.graph.output.append(helper.make_tensor_value_info("k", FLOAT, None))
    return proto


def annotated() -> ModelProto:
    proto = network()
    proto.graph.quantization_annotation.add(tensor_name="r").quant_parameter_tensor_names.add(
        key="SCALE_TENSOR", value="a"
    )
    for each in proto.graph.node:
        each.doc_string = "about this node"
        each.metadata_props.add(key="from", value="a line of code")
    proto.graph.metadata_props.add(key="from", value="a framework")
    training = proto.training_info.add()
    training.algorithm.name = "descent"
    training.algorithm.node.append(node("Identity", "a", "a2"))
    training.algorithm.output.append(helper.make_tensor_value_info("a2", FLOAT, [8, 8]))
    return proto


def renamed(text: str) -> ModelProto:
    """Every name with this text in it."""
    proto = network()
    for each in proto.graph.node:
        each.name = f"{text}{each.name}"
        each.input[:] = [f"{text}{name}" for name in each.input]
        each.output[:] = [f"{text}{name}" for name in each.output]
    for value in (*proto.graph.input, *proto.graph.output, *proto.graph.initializer):
        value.name = f"{text}{value.name}"
    return proto


def spelled_domain(nodes: bool, imports: bool, both: bool = False) -> ModelProto:
    proto = network([node("Neg", "r", "n"), node("Neg", "n", "m")])
    for each in proto.graph.node if nodes else ():
        each.domain = "ai.onnx"
    if imports:
        proto.opset_import[0].domain = "ai.onnx"
    if both:
        proto.opset_import.append(helper.make_opsetid("ai.onnx", 17))
    return proto


def add_value(field: str, name: str, *shape: Any) -> Callable[[ModelProto], None]:
    return lambda proto: getattr(proto.graph, field).append(helper.make_tensor_value_info(name, FLOAT, shape))


def in_fields(proto: ModelProto) -> None:
    """Numbers in float_data instead of raw bytes."""
    for tensor in proto.graph.initializer:
        tensor.CopyFrom(helper.make_tensor(tensor.name, FLOAT, tensor.dims, numpy_helper.to_array(tensor).reshape(-1)))


def nameless(proto: ModelProto) -> None:
    proto.graph.name = ""
    for each in proto.graph.node:
        each.name = ""


def empty_list(proto: ModelProto) -> None:
    proto.graph.node[2].attribute.append(AttributeProto(name="axes", type=AttributeProto.INTS))


def dead_ends(proto: ModelProto) -> None:
    proto.graph.node.append(node("Neg", "c", "nobody", "dead"))
    proto.graph.initializer.append(numpy_helper.from_array(A, "idle"))
    proto.opset_import.extend([helper.make_opsetid("acme", 3), helper.make_opsetid("ai.onnx.ml", 3)])


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
        [call("F", "r", "m", slope=0.3)],
        function("F", [referring("LeakyRelu", "alpha", "slope")], attributes=["slope"]),
    ),
    "a default of a function": lambda: with_functions(
        [call("F", "r", "m")],
        function("F", [referring("LeakyRelu", "alpha", "s")], attribute_protos=[helper.make_attribute("s", 0.2)]),
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


@pytest.mark.parametrize("what", CONVERTED)
def test_a_legal_file_is_converted(tmp_path: Path, what: str) -> None:
    proto = CONVERTED[what]()
    dtype = helper.tensor_dtype_to_np_dtype(proto.graph.input[0].type.tensor_type.elem_type)
    feeds = {"x": X.astype(dtype)}
    done = converted(prepared(saved(proto, tmp_path)), tmp_path, feeds)
    proved(done, feeds)
    assert done.network.coverage.weight_layers >= 2


VERSIONS = [(17, ir) for ir in range(3, onnx.IR_VERSION + 1)] + [(opset, 10) for opset in range(7, NEWEST + 1)]


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
        UnsupportedModelError, "'n' is a bfloat16, not a numeric tensor",
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


def external(tensor: TensorProto, folder: Path) -> None:
    """Its bytes in a file of its own."""
    (folder / f"{tensor.name or 'nameless'}.bin").write_bytes(tensor.raw_data)
    onnx.external_data_helper.set_external_data(tensor, f"{tensor.name or 'nameless'}.bin", 0, len(tensor.raw_data))
    tensor.ClearField("raw_data")


def held_in_a_function() -> tuple[ModelProto, TensorProto]:
    proto = function_with_weights()
    return proto, proto.functions[0].node[0].attribute[0].t


def held_in_a_constant() -> tuple[ModelProto, TensorProto]:
    proto = without(network(), "a")
    proto.graph.node.insert(0, node("Constant", "", "a", value=numpy_helper.from_array(A, "t")))
    return proto, proto.graph.node[0].attribute[0].t


def held_in_a_body() -> tuple[ModelProto, TensorProto]:
    proto = choice(constant=False)
    body = next(each for each in proto.graph.node if each.op_type == "If").attribute[0].g
    body.initializer.append(numpy_helper.from_array(A[0], "t"))
    body.node[1].CopyFrom(node("Add", "h t", body.output[0].name))
    return proto, body.initializer[0]


def held_in_a_sparse_one() -> tuple[ModelProto, TensorProto]:
    proto = sparse_initialiser(linear=True)
    return proto, proto.graph.sparse_initializer[0].values


@pytest.mark.parametrize("held", [held_in_a_function, held_in_a_constant, held_in_a_body, held_in_a_sparse_one])
def test_the_digest_covers_data_wherever_it_hangs(
    tmp_path: Path, held: Callable[[], tuple[ModelProto, TensorProto]]
) -> None:
    proto, tensor = held()
    plain = prepared(saved(proto, tmp_path)).graph
    external(tensor, tmp_path)
    path = saved(proto, tmp_path)
    before = digest(path)
    assert prepared(path).source.digest == before
    assert [each.op for each in prepared(path).graph.nodes] == [each.op for each in plain.nodes]
    (data,) = tmp_path.glob("*.bin")
    data.write_bytes((-np.frombuffer(data.read_bytes(), np.float32)).tobytes())
    assert digest(path) != before and prepared(path).source.digest == digest(path)
    data.unlink()
    with pytest.raises(ModelError, match=r"m\.onnx: its external data cannot be read"):
        load(path)


@pytest.mark.parametrize("held", [held_in_a_function, held_in_a_constant, held_in_a_sparse_one])
def test_external_data_is_converted(tmp_path: Path, held: Callable[[], tuple[ModelProto, TensorProto]]) -> None:
    proto, tensor = held()
    wanted = run(saved(proto, tmp_path), {"x": X})[0]
    external(tensor, tmp_path)
    done = convert(prepared(saved(proto, tmp_path)), {"x": X}, tmp_path / "snn.onnx", time_steps=8, coding="phase")
    assert done.network.source.proto.ByteSize() > A.nbytes
    found = run(tmp_path / "snn.onnx", {"x": X})[0]
    assert np.linalg.norm(found - wanted) / np.linalg.norm(wanted) < 0.02

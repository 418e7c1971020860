"""Legal ONNX files of every kind that the specification allows."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from graphpass.conversion import Conversion, convert, dataset_for
from graphpass.evaluation.evaluate import EvaluationSettings, evaluate
from graphpass.graph.model import load
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
        found, wanted = after.astype(np.float64), before.astype(np.float64)
        assert np.linalg.norm(found - wanted) < 0.02 * np.linalg.norm(wanted)
    return done


def proved(done: Conversion, feeds: Mapping[str, NDArray[Any]]) -> None:
    """What was converted can be verified, evaluated and inspected."""
    network = done.network
    data = dataset_for(network.source, dict(feeds))
    assert verify(done.proto, data, limit=4).agrees
    assert evaluate(network.source, done.proto, data, EvaluationSettings(rounds=1)).sites
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


def referring(op: str, attribute: str, name: str, domain: str = "") -> NodeProto:
    """A node whose attribute is given by the function it is in."""
    made = node(op, "u", "v", domain=domain)
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

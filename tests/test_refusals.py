"""Networks that graphpass does not convert, or only in part: the error messages, and that the part is right.

Every model is a file, as a user gives it; a message names the node, and what to do.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from graphpass.conversion import Conversion, convert
from graphpass.errors import CoverageError, DataError, GraphpassError, UnsupportedModelError
from graphpass.graph.model import load
from graphpass.network import Network, prepare, require_coverage
from graphpass.runtime.session import open_session, run
from graphpass.sites.sites import Selection
from tests.models import node

MS = "com.microsoft"
RANDOM = np.random.default_rng(0)
CONVOLUTIONS = {
    "w": RANDOM.normal(size=(4, 2, 3, 3)).astype(np.float32),
    "w2": RANDOM.normal(size=(3, 4, 3, 3)).astype(np.float32),
}
MATRICES = {name: RANDOM.normal(size=(8, 8)).astype(np.float32) for name in ("m", "m2")}
SPIKING = [
    node("Conv", "x w", "c", "conv1"),
    node("Relu", "c", "r", "relu1"),
    node("Conv", "r w2", "h", "conv2"),
]
IMAGES = {"x": RANDOM.normal(size=(6, 2, 8, 8)).astype(np.float32)}


def floats(name: str, rank: int) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, [f"{name}{axis}" for axis in range(rank)])


def saved(
    folder: Path, nodes: Sequence[onnx.NodeProto], constants: Mapping[str, Any], rank: int = 4, opset: int = 19
) -> Path:
    """x [N, 2, 8, 8], or [N, 8] for the matrices, → nodes → y of this rank. Not checked here."""
    sizes = ["N", 8] if "m" in constants else ["N", 2, 8, 8]
    graph = helper.make_graph(
        list(nodes),
        "tiny",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, sizes)],
        [floats("y", rank)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    domains = sorted({each.domain for each in nodes} - {""})
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), folder / "net.onnx")
    return folder / "net.onnx"


def prepared(path: Path) -> Network:
    return prepare(load(path))


def incomplete(network: Network) -> dict[str, str]:
    return {entry.node: entry.reason for entry in network.coverage.left if not entry.expected}


def refused(path: Path) -> GraphpassError:
    with pytest.raises(GraphpassError) as caught:
        require_coverage(prepared(path), False)
    assert str(path) in str(caught.value) and caught.value.remedy
    return caught.value


def converted(path: Path) -> Conversion:
    """With 256 levels: less than a hundredth of the outputs is lost, where anything wrong would lose them."""
    done = convert(path, IMAGES, time_steps=8, coding="phase", allow_partial=True)
    before, after = (run(open_session(p, use_native=False), IMAGES)["y"] for p in (load(path).proto, done.proto))
    assert np.linalg.norm(after - before) < 0.01 * np.linalg.norm(before)
    assert np.ptp(before) > 0.5
    return done


def recurrent(kind: str) -> tuple[list[onnx.NodeProto], dict[str, Any]]:
    """conv1, relu1, conv2 and a recurrent layer over its 16 pixels as time."""
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[kind]
    nodes = [
        *SPIKING,
        node("Reshape", "h to", "s", "rows"),
        node("Transpose", "s", "t", "time", perm=[2, 0, 1]),
        node(kind, "t lw lr", "y", "memory", hidden_size=2),
    ]
    weights = {"lw": RANDOM.normal(size=(1, 2 * gates, 3)), "lr": RANDOM.normal(size=(1, 2 * gates, 2))}
    constants = {name: 0.1 * value.astype(np.float32) for name, value in weights.items()}  # small: not saturated
    return nodes, {**CONVOLUTIONS, **constants, "to": np.array([0, 3, 16])}


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_recurrent_layers_beside_convolutions_stay_and_the_rest_is_right(tmp_path: Path, kind: str) -> None:
    nodes, constants = recurrent(kind)
    path = saved(tmp_path, nodes, constants)
    error = refused(path)
    assert isinstance(error, CoverageError) and "--allow-partial" in error.remedy
    assert f"'memory' ({kind}): recurrent layers are not converted" in error.what
    done = converted(path)
    assert [site.name for site in done.plan.sites] == ["relu1"]
    assert [(entry.node, entry.expected) for entry in done.plan.left] == [("conv1", True), ("memory", False)]


def test_a_recurrent_layer_alone_leaves_nothing_to_convert(tmp_path: Path) -> None:
    nodes, constants = recurrent("LSTM")
    nodes[1] = node("Neg", "c", "r", "minus")
    error = refused(saved(tmp_path, nodes, constants))
    assert isinstance(error, UnsupportedModelError) and "'memory' (LSTM): recurrent layers" in error.what
    assert error.remedy == "give a network, or the part of one, whose activations feed weight layers"


def test_an_activation_that_is_refused_is_the_reason_that_is_told(tmp_path: Path) -> None:
    """Not that there is none, which `conv2` would say, too."""
    nodes = [
        node("Cast", "x", "x64", "wide", to=TensorProto.DOUBLE),
        *SPIKING,
        node("Cast", "h", "y", "narrow", to=TensorProto.FLOAT),
    ]
    nodes[1] = node("Conv", "x64 w", "c", "conv1")
    path = saved(tmp_path, nodes, {name: value.astype(np.float64) for name, value in CONVOLUTIONS.items()})
    error = refused(path)
    assert "every activation in front of a weight layer stays analogue ('relu1' (relu): float64 act" in error.what
    assert "no activation feeds" not in error.what and error.remedy == "export the network in float32"
    reasons = {entry.node: entry.reason for entry in prepared(path).coverage.left}
    assert reasons["conv2"].startswith("the activation that feeds it, 'relu1', stays analogue")


def test_a_selection_that_leaves_no_site_is_the_reason_that_is_told(tmp_path: Path) -> None:
    network = prepare(load(saved(tmp_path, [*SPIKING[:2], node("Conv", "r w2", "y", "conv2")], CONVOLUTIONS)),
                      Selection(exclude=["relu1"]))  # fmt: skip
    with pytest.raises(UnsupportedModelError, match=r"stays analogue \('relu1' \(relu\): excluded by --exclude\)"):
        require_coverage(network, False)


def test_a_network_without_weights_says_so(tmp_path: Path) -> None:
    what = refused(saved(tmp_path, [node("Relu", "x", "y", "relu1")], {})).what
    assert "nothing to convert, the network has no weight layer" in what


@pytest.mark.parametrize("op", ["Relu", "Tanh", "HardSigmoid", "Mish"])
def test_activations_in_bodies_alone_are_the_reason_that_is_told(tmp_path: Path, op: str) -> None:
    """Before what stays analogue because of them: four layers with different reasons."""
    choice = helper.make_node(
        "If", ["flag"], ["r"], "choice",
        then_branch=branch("then", node(op, "c", "a", "inner")),
        else_branch=branch("else", node("Identity", "c", "b", "other")),
    )  # fmt: skip
    nodes = [SPIKING[0], choice, SPIKING[2], node("Sigmoid", "h", "y", "last")]
    what = refused(saved(tmp_path, nodes, {**CONVOLUTIONS, "flag": np.array(True)})).what
    assert "its activations and layers are where neurons cannot be ('choice' (If)" in what
    assert f"this one holds {op} (export the branch in use alone)" in what


def branch(name: str, *inside: onnx.NodeProto) -> onnx.GraphProto:
    return helper.make_graph(list(inside), name, [], [floats(inside[-1].output[0], 4)])


def test_an_if_beside_convolutions(tmp_path: Path) -> None:
    """Its bodies read what neurons make, from outside."""
    choice = helper.make_node(
        "If", ["flag"], ["y"], "choice",
        then_branch=branch("then", node("Relu", "h", "a", "inner")),
        else_branch=branch("else", node("Neg", "r", "b", "other")),
    )  # fmt: skip
    path = saved(tmp_path, [*SPIKING, choice], {**CONVOLUTIONS, "flag": np.array(False)})
    assert "this one holds Relu (export the branch in use alone)" in refused(path).what
    converted(path)


def test_a_loop_beside_convolutions(tmp_path: Path) -> None:
    body = helper.make_graph(
        [node("Identity", "go", "on", "again"), node("Relu", "state", "next", "inner")],
        "body",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            floats("state", 4),
        ],
        [helper.make_tensor_value_info("on", TensorProto.BOOL, []), floats("next", 4)],
    )
    loop = helper.make_node("Loop", ["trips", "", "h"], ["y"], "loop", body=body)
    path = saved(tmp_path, [*SPIKING, loop], {**CONVOLUTIONS, "trips": np.array(2)})
    what = refused(path).what
    assert "'loop' (Loop): bodies of If, Loop and Scan are left alone" in what
    assert "this one holds Relu (export it unrolled)" in what
    converted(path)


QUANTISED: dict[str, tuple[list[onnx.NodeProto], dict[str, Any]]] = {
    "QuantizeLinear": (
        [
            node("QuantizeLinear", "x s z", "q", "first"),
            node("DequantizeLinear", "q s z", "d", "second"),
            node("Conv", "d w", "y", "conv"),
        ],
        {**CONVOLUTIONS, "s": np.float32(0.1), "z": np.uint8(128)},
    ),
    "DequantizeLinear": (  # weights alone
        [node("DequantizeLinear", "k s", "w0", "first"), node("Conv", "x w0", "y", "conv")],
        {"k": np.ones((4, 2, 3, 3), np.int8), "s": np.float32(0.1)},
    ),
    "ConvInteger": (
        [
            node("Cast", "x", "i", "cast", to=TensorProto.UINT8),
            node("ConvInteger", "i k", "j", "first"),
            node("Cast", "j", "y", "back", to=TensorProto.FLOAT),
        ],
        {"k": np.ones((4, 2, 3, 3), np.int8)},
    ),
    "QLinearSoftmax": (
        [node("QLinearSoftmax", "x s z s z", "y", "first", domain=MS)],
        {"s": np.float32(1), "z": np.uint8(0)},
    ),
    "DynamicQuantizeMatMul": (
        [node("DynamicQuantizeMatMul", "x k s", "y", "first", domain=MS)],
        {"k": np.ones((8, 8), np.int8), "s": np.float32(1)},
    ),
}


@pytest.mark.parametrize("op", QUANTISED)
def test_quantised_networks_are_refused_with_what_to_give_instead(tmp_path: Path, op: str) -> None:
    with pytest.raises(UnsupportedModelError) as caught:
        load(saved(tmp_path, *QUANTISED[op]))
    assert f"node 'first' ({op}): the model is already quantised" in caught.value.what
    assert "convert the float model it was quantised from" in caught.value.remedy


@pytest.mark.parametrize(
    ("domain", "words"), [("acme", "custom operator of domain 'acme'"), ("", "not an operator of ONNX")]
)
def test_unknown_operators(tmp_path: Path, domain: str, words: str) -> None:
    with pytest.raises(UnsupportedModelError) as caught:
        load(saved(tmp_path, [*SPIKING, node("Wiggle", "h", "y", "odd", domain=domain)], CONVOLUTIONS))
    assert "node 'odd' (Wiggle)" in caught.value.what and words in caught.value.what
    assert caught.value.remedy == "export the model with standard operators"


def between(act: onnx.NodeProto) -> list[onnx.NodeProto]:
    return [node("MatMul", "x m", "c", "mm"), act, node("MatMul", "r m2", "y", "mm2")]


HIDDEN: dict[str, tuple[list[onnx.NodeProto], dict[str, Any], int]] = {
    "FusedConv": (
        [node("FusedConv", "x w", "r", "fused", domain=MS, activation="Wiggle"), node("Conv", "r w2", "y", "conv2")],
        CONVOLUTIONS,
        4,
    ),
    "GemmFastGelu": (between(node("GemmFastGelu", "c m", "r", "fused", domain=MS)), MATRICES, 2),
}


@pytest.mark.parametrize("op", HIDDEN)
def test_fused_operators_are_reported(tmp_path: Path, op: str) -> None:
    nodes, constants, rank = HIDDEN[op]
    reason = incomplete(prepared(saved(tmp_path, nodes, constants, rank)))["fused"]
    assert reason == f"an operator of {MS} made of several (export the network without optimising it)"


def test_operators_of_the_runtime_that_are_known_are_not_reported(tmp_path: Path) -> None:
    network = prepared(saved(tmp_path, between(node("QuickGelu", "c", "r", "act", domain=MS)), MATRICES, 2))
    assert [site.name for site in network.coverage.sites] == ["act"] and network.coverage.complete


def test_sequences_and_deformable_convolutions(tmp_path: Path) -> None:
    joined = [
        *SPIKING[:2],
        node("SplitToSequence", "r", "parts", "cut", axis=1),
        node("ConcatFromSequence", "parts", "again", "join", axis=1),
        node("Conv", "again w2", "y", "conv2"),
    ]
    network = prepared(saved(tmp_path, joined, CONVOLUTIONS))
    assert set(incomplete(network)) == {"cut", "join"}
    assert "use Split and Concat instead" in incomplete(network)["cut"]
    bent = [*SPIKING, node("DeformConv", "h w3 o", "y", "deform")]
    offsets = {"w3": np.ones((3, 3, 1, 1), np.float32), "o": np.zeros((1, 2, 4, 4), np.float32)}
    coverage = prepared(saved(tmp_path, bent, {**CONVOLUTIONS, **offsets})).coverage
    assert {entry.node: entry.expected for entry in coverage.left} == {"conv1": True, "deform": True}


@pytest.mark.parametrize(
    "value",
    [
        helper.make_tensor_value_info("words", TensorProto.STRING, ["N"]),
        helper.make_tensor_sequence_value_info("words", TensorProto.FLOAT, ["N"]),
        helper.make_sparse_tensor_value_info("words", TensorProto.FLOAT, ["N"]),
        helper.make_value_info("words", helper.make_optional_type_proto(helper.make_tensor_type_proto(1, ["N"]))),
    ],
)
def test_inputs_that_are_no_tensors_of_numbers(tmp_path: Path, value: onnx.ValueInfoProto) -> None:
    proto = onnx.load(saved(tmp_path, [*SPIKING, node("Neg", "h", "y", "minus")], CONVOLUTIONS))
    proto.graph.input.append(value)
    onnx.save(proto, tmp_path / "net.onnx")
    with pytest.raises(UnsupportedModelError, match=r"'words' is a .*, not a numeric tensor; convert the part"):
        load(tmp_path / "net.onnx")


def test_an_input_that_holds_a_state_and_no_samples(tmp_path: Path) -> None:
    nodes = [*SPIKING, node("ReduceSum", "state", "total", "sum", keepdims=0), node("Add", "h total", "y", "add")]
    proto = onnx.load(saved(tmp_path, nodes, CONVOLUTIONS))
    proto.graph.input.append(helper.make_tensor_value_info("state", TensorProto.FLOAT, [2, "N", 4]))
    onnx.save(proto, tmp_path / "net.onnx")
    arrays: dict[str, NDArray[Any]] = {**IMAGES, "state": np.zeros((2, 6, 4), np.float32)}
    with pytest.raises(DataError, match=r"the model wants 2 along axis 0 of 'state'.* make the input a constant"):
        convert(tmp_path / "net.onnx", arrays)


@pytest.mark.parametrize("sizes", [[2**62, 8], ["N", 2**40, 2**40, 8]])
def test_an_input_of_absurd_fixed_sizes(tmp_path: Path, sizes: list[int | str]) -> None:
    """Data of a fixed batch are filled up to it, and numpy's own error would be no help."""
    path = saved(tmp_path, [node("Relu", "x", "r"), node("MatMul", "r m", "y")], {"m": MATRICES["m"]}, len(sizes))
    proto = onnx.load(path)
    proto.graph.input[0].CopyFrom(helper.make_tensor_value_info("x", TensorProto.FLOAT, sizes))
    onnx.save(proto, path)
    with pytest.raises(UnsupportedModelError, match=r"'x' has .* values, by its sizes that are fixed"):
        load(path)


def test_dictionaries_of_probabilities_name_the_option_that_leaves_them_out(tmp_path: Path) -> None:
    zipped = node("ZipMap", "p", "y", "zip", domain="ai.onnx.ml", classlabels_int64s=[0, 1])
    path = saved(tmp_path, [node("MatMul", "x m", "a"), node("Softmax", "a", "p"), zipped], {"m": np.ones((8, 2), "f")})
    proto = onnx.load(path)
    value = proto.graph.output[0].type.sequence_type.elem_type.map_type
    value.key_type, value.value_type.tensor_type.elem_type = TensorProto.INT64, TensorProto.FLOAT
    onnx.save(proto, path)
    with pytest.raises(UnsupportedModelError, match=r"'y' is a sequence_type, .*options=\{'zipmap': False\}"):
        load(path)

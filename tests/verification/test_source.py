"""The network that is converted, compared with the given file: mistakes are named, rounding is not a mistake."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from graphpass.conversion import convert, dataset_for
from graphpass.datasets.dataset import Dataset
from graphpass.errors import ModelError, SessionError
from graphpass.evaluation.evaluate import EvaluationSettings, evaluate
from graphpass.graph import upgrade
from graphpass.graph.model import load
from graphpass.graph.upgrade import NodeWriter
from graphpass.network import Network, prepare
from graphpass.passes import normalise as normalisation
from graphpass.passes.base import Rewriting
from graphpass.runtime.session import open_session, run
from graphpass.verification.source import SourceWarning, check_source, difference
from tests.models import build, node

RNG = np.random.default_rng(0)
X = RNG.normal(size=(8, 3, 6, 6)).astype(np.float32)


@pytest.fixture(autouse=True)
def same_numbers_in_any_order() -> None:
    RNG.bit_generator.state = np.random.default_rng(1).bit_generator.state


def normal(*shape: int) -> NDArray[np.float32]:
    return (RNG.normal(size=shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)


def saved(
    folder: Path, nodes: Sequence[onnx.NodeProto], constants: Mapping[str, Any], opset: int = 17, x: Any = X,
    outputs: Mapping[str, Any] | None = None,
) -> Path:  # fmt: skip
    proto = build(nodes, {"x": ["N", *x.shape[1:]]}, outputs or {"y": None}, constants, opset=opset)
    onnx.save(proto, folder / "m.onnx")
    return folder / "m.onnx"


def enlarging(folder: Path, mode: str = "linear") -> Path:
    nodes = [
        node("Conv", "x a", "c", "conv"), node("Relu", "c", "r", "relu"),
        node("Resize", "r s", "u", "up", mode=mode), node("Conv", "u b", "y", "out"),
    ]  # fmt: skip
    constants = {"a": normal(6, 3, 3, 3), "b": normal(4, 6, 3, 3), "s": np.float32([1, 1, 2, 2])}
    return saved(folder, nodes, constants, opset=10)


def prepared(path: Path) -> tuple[Network, Dataset]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        source = load(path)
    return prepare(source), dataset_for(source, {"x": X})


def test_a_right_upgrade_gives_no_warning(tmp_path: Path) -> None:
    check_source(*prepared(enlarging(tmp_path)))
    check_source(prepared(enlarging(tmp_path))[0])  # on inputs that are made up


def test_a_wrong_upgrade_is_an_error_that_names_the_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What onnx's own converter makes of it: half_pixel, the default of later opsets."""

    def careless(to: NodeWriter) -> None:
        to.keep(inputs=[to.node.input[0], "", to.node.input[1]])

    monkeypatch.setitem(upgrade.UPGRADES, "Resize", (11, careless))
    with pytest.raises(ModelError) as caught:
        check_source(*prepared(enlarging(tmp_path)))
    assert "node 'up' (Resize): writing it in opset 21 changes its output 'u' by" in caught.value.what
    assert "report this" in caught.value.remedy


def test_a_wrong_rule_is_an_error_that_names_the_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def careless(work: Rewriting) -> None:
        (layer,) = (node for node in work.graph.nodes if node.name == "out")
        layer.inputs[1] = gs.Constant("other", layer.inputs[1].values * np.float32(1.01))

    monkeypatch.setattr(normalisation, "RULES", (*normalisation.RULES, careless))
    with pytest.raises(ModelError, match=r"node 'out' \(Conv\): normalising it changes its output 'y' by 1\.0e-02 of"):
        check_source(*prepared(enlarging(tmp_path)))


def test_evaluate_compares_with_the_bytes_that_were_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Were the upgrade wrong, and the check blind, the figures would still say so."""

    def careless(to: NodeWriter) -> None:
        to.keep(inputs=[to.node.input[0], "", to.node.input[1]])

    path = enlarging(tmp_path)
    session = open_session(path)
    monkeypatch.setitem(upgrade.UPGRADES, "Resize", (11, careless))
    monkeypatch.setattr("graphpass.conversion.check_source", lambda *_: None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        source = load(path)
    done = convert(source, {"x": X}, time_steps=8, coding="phase")
    found = evaluate(source, done.proto, dataset_for(source, {"x": X}), EvaluationSettings(rounds=1))
    before, after = (run(each, {"x": X})["y"].astype(np.float64) for each in (session, open_session(done.proto)))
    error = np.linalg.norm(after - before) / np.linalg.norm(before)
    assert found.outputs[0].relative_error == pytest.approx(error, rel=1e-3) and error > 0.1


def stepped(folder: Path, shift: float) -> Path:
    """y = Σ floor(10⁵·W·relu(BN(W·x))): folding the normalisation moves some values over a step."""
    nodes = [
        node("Conv", "x a bias", "c", "conv"),
        node("BatchNormalization", "c g b m v", "n", "norm"),
        node("Relu", "n", "r", "relu"),
        node("Conv", "r w", "d", "second"),
        node("Mul", "d k", "e", "times"),
        node("Floor", "e", "f", "step"),
        node("Sin", "f", "y", "wave"),
    ]
    constants = {
        "a": normal(6, 3, 3, 3), "w": normal(4, 6, 3, 3), "g": normal(6) + 1, "b": normal(6), "bias": normal(6) + shift,
        "m": normal(6) + shift, "v": normal(6) ** 2 + 1, "k": np.float32(1e5),
    }  # fmt: skip
    return saved(folder, nodes, constants)


def test_rounding_that_the_network_enlarges_is_a_warning(tmp_path: Path) -> None:
    """The mean that is folded is a thousand times the deviation: 10 of 24 bits are lost, and the step shows it."""
    path = stepped(tmp_path, 1000.0)
    with pytest.warns(SourceWarning, match="no more than rounding moves it"):
        check_source(*prepared(path))


def test_infinite_and_missing_values_of_the_given_network_are_its_own(tmp_path: Path) -> None:
    nodes = [
        node("Conv", "x a", "c", "conv"), node("Relu", "c", "r", "relu"), node("Log", "r", "l", "log"),
        node("Conv", "r b", "d", "out"), node("Sqrt", "d", "y", "root"), node("Identity", "l", "z", "other"),
    ]  # fmt: skip
    path = saved(tmp_path, nodes, {"a": normal(6, 3, 3, 3), "b": normal(4, 6, 3, 3)}, outputs={"y": None, "z": None})
    check_source(*prepared(path))


def test_nodes_whose_results_differ_from_run_to_run_are_named(tmp_path: Path) -> None:
    nodes = [
        node("Conv", "x a", "c", "conv"), node("RandomNormalLike", "c", "n", "noise"), node("Add", "c n", "s", "sum"),
        node("Relu", "s", "r", "relu"), node("Dropout", "r half true", "d", "drop"), node("Conv", "d b", "y", "out"),
    ]  # fmt: skip
    constants = {"a": normal(6, 3, 3, 3), "b": normal(4, 6, 3, 3), "half": np.float32(0.5), "true": np.array(True)}
    path = saved(tmp_path, nodes, constants)
    with pytest.warns(SourceWarning) as caught:
        check_source(*prepared(path))
    messages = [str(each.message) for each in caught]
    assert [f"{path}: node 'noise' (RandomNormalLike) is random" in text for text in messages] == [True, False]
    assert "node 'drop' (Dropout) is in training mode, it drops other values at every run (export" in messages[1]


def test_a_file_that_nobody_can_run_has_no_reference(tmp_path: Path) -> None:
    nodes = [node("Conv", "x a", "c", "twin"), node("Relu", "c", "r", "twin"), node("Conv", "r b", "y", "out")]
    path = saved(tmp_path, nodes, {"a": normal(6, 3, 3, 3), "b": normal(4, 6, 3, 3)})
    with pytest.raises(SessionError, match=r"m\.onnx: onnxruntime cannot load it .*two nodes with same node name"):
        convert(path, {"x": X})


def test_inputs_that_cannot_be_made_up_are_a_warning(tmp_path: Path) -> None:
    """Whole numbers that are sizes: made-up ones do not fit."""
    nodes = [
        node("Reshape", "x size", "h", "shape"), node("MatMul", "h a", "c", "one"), node("Relu", "c", "r", "relu"),
        node("MatMul", "r b", "y", "two"),
    ]  # fmt: skip
    constants = [
        onnx.numpy_helper.from_array(values, name) for name, values in (("a", normal(8, 8)), ("b", normal(8, 3)))
    ]
    inputs = [("x", TensorProto.FLOAT, ["N", 8]), ("size", TensorProto.INT64, ["M"])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 3])]
    graph = helper.make_graph(nodes, "g", [helper.make_tensor_value_info(*each) for each in inputs], outputs, constants)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    onnx.save(proto, tmp_path / "m.onnx")
    network = prepare(load(tmp_path / "m.onnx"))
    with pytest.warns(SourceWarning, match=r"m\.onnx: could not be run on made-up inputs .* without this check"):
        check_source(network)


def test_differences() -> None:
    one = np.float32([1, 2, np.nan, np.inf])
    assert difference(one, np.float32([1, 2.2, 0, 0])) == pytest.approx(0.1)
    assert difference(one, one[:3]) == np.inf and difference(one, one.astype(np.float64)) == np.inf
    assert difference(one[:2], np.float32([1, np.nan])) == np.inf
    assert difference(one[2:], np.float32([0, 0])) == 0
    assert difference(np.array([1, 2]), np.array([1, 3])) == 0.5
    assert difference(np.zeros(2, np.float32), np.float32([0, 0.5])) == 0.5
    assert difference(np.zeros((0, 2), np.int64), np.zeros((0, 2), np.int64)) == 0


@pytest.mark.parametrize(
    ("state", "target", "failing"),
    [(0, [1, 96], "Reshape"), (0, [1, -1], "MatMul"), (5, [-1, 96], "Add")],  # two traces of one sample; a state of 5
)
def test_a_batch_that_is_declared_free_but_is_not(tmp_path: Path, state: int, target: list[int], failing: str) -> None:
    values = {"a": np.ones((6, 3, 3, 3)), "h": np.ones((state or 1, 6, 4, 4)), "b": np.ones((96, 4))}
    constants = {name: value.astype(np.float32) for name, value in values.items()}
    nodes = [
        node("Conv", "x a", "c", "conv"), node("Relu", "c", "r", "relu"), node("Add", "r h", "k", "state"),
        node("Reshape", "k s", "q", "flat"), node("MatMul", "q b", "y", "out"),
    ]  # fmt: skip
    graph = helper.make_graph(
        nodes,
        "traced",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 6, 6])],
        [helper.make_empty_tensor_value_info("y")],
        [numpy_helper.from_array(each, name) for name, each in {**constants, "s": np.array(target)}.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "m.onnx")
    with pytest.raises(ModelError) as caught:
        convert(tmp_path / "m.onnx", {"x": X}, method="max")
    assert "m.onnx: does not run on several samples at once" in caught.value.what and failing in caught.value.what
    assert "fixed size" in caught.value.remedy


def test_samples_that_do_not_run_even_alone_are_no_fault_of_the_batch(tmp_path: Path) -> None:
    nodes = [node("Conv", "x a", "c", "conv"), node("Relu", "c", "r", "relu"), node("Gather", "r i", "y", "pick")]
    path = saved(tmp_path, nodes, {"a": np.ones((6, 3, 3, 3), np.float32), "i": np.array([99])})
    with pytest.raises(SessionError, match="onnxruntime failed"):
        check_source(prepare(load(path)), dataset_for(load(path), {"x": X}))

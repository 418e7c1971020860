"""The store and the walk: each node once, tensors as long as they are needed."""

from pathlib import Path

import numpy as np
import onnx_graphsurgeon as gs
import pytest
from onnx import TensorProto, helper

from graphpass.calibration.segments import Walk, needs
from graphpass.runtime.store import TensorStore
from tests.models import build, node

X = np.arange(12, dtype=np.float32).reshape(3, 4)


def spilled(store):
    return list(store._spilled)


@pytest.mark.parametrize("budget", [0, 20, 1 << 20])
@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int64, np.bool_])
def test_values_come_back_whether_spilled_or_not(budget, dtype):
    rng = np.random.default_rng(0)
    shapes = [(3, 4), (), (0, 5), (2, 1, 7), (11,)]
    values = [np.asarray(rng.integers(0, 2, shape)).astype(dtype) for shape in shapes]
    with TensorStore(budget) as store:
        for number, value in enumerate(values):
            store.put("t", number, value)
            store.put("transposed", number, value.T)
        assert bool(spilled(store)) == (budget < 1 << 20)
        for number, value in enumerate(values):
            for name, expected in (("t", value), ("transposed", value.T)):
                got = store.get(name, number)
                assert got.dtype == dtype
                np.testing.assert_array_equal(got, expected)


def test_a_stored_value_is_a_copy():
    with TensorStore(1 << 20) as store:
        value = X.copy()
        store.put("t", 0, value)
        value[:] = 0
        np.testing.assert_array_equal(store.get("t", 0), X)


@pytest.mark.parametrize("budget", [0, 1 << 20])
def test_an_array_that_is_taken_over_is_not_copied(budget):
    with TensorStore(budget) as store:
        value = X.copy()
        store.take_over("t", 0, value)
        assert (store.get("t", 0) is value) == (budget > 0)
        np.testing.assert_array_equal(store.get("t", 0), X)


def test_memory_stays_within_the_budget_and_is_given_back():
    with TensorStore(2 * X.nbytes) as store:
        for number in range(3):
            store.put("t", number, X + number)
        assert len(spilled(store)) == 1
        store.drop("t")
        assert spilled(store) == []
        for number in range(2):
            store.put("u", number, X)
        assert spilled(store) == []
        store.put("u", 0, X + 1)  # takes the place of the old value
        assert spilled(store) == []
        np.testing.assert_array_equal(store.get("u", 0), X + 1)


def test_a_spilled_value_is_replaced():
    with TensorStore(0) as store:
        store.put("t", 0, X)
        store.put("t", 0, X + 1)
        assert len(spilled(store)) == 1
        np.testing.assert_array_equal(store.get("t", 0), X + 1)


def test_places_of_what_is_gone_are_written_over():
    with TensorStore(0) as store:
        for number, rows in enumerate((4, 2, 3)):
            store.put("t", number, np.full((rows, 5), number, np.float32))
        size = store._path.stat().st_size
        store.drop("t", 0)
        store.put("u", 0, np.full((3, 5), 7, np.float32))
        store.put("u", 1, np.float32(8))
        assert store._path.stat().st_size == size + 4
        for (name, number), value in {("t", 1): 1, ("t", 2): 2, ("u", 0): 7, ("u", 1): 8}.items():
            assert (store.get(name, number) == value).all()
        store.drop("t")
        store.drop("u")
        store.put("v", 0, X)
        np.testing.assert_array_equal(store.get("v", 0), X)


def test_dropping_takes_all_batches_and_nothing_else():
    with TensorStore(X.nbytes) as store:
        for number in range(2):
            store.put("t", number, X)
        store.put("u", 0, X)
        store.drop("t")
        with pytest.raises(KeyError):
            store.get("t", 1)
        np.testing.assert_array_equal(store.get("u", 0), X)


def test_the_folder_goes_with_the_store():
    with TensorStore(0) as store:
        store.put("t", 0, X)
        folder = Path(store._folder.name)
    assert not folder.exists()


def diamond():
    """x → a → (b, c) → d → y"""
    model = build(
        [node("Relu", "x", "ta", "a"), node("Neg", "ta", "tb", "b"), node("Exp", "ta", "tc", "c"),
         node("Add", "tb tc", "td", "d"), node("Tanh", "td", "y", "e")],
        {"x": ["N", 4]}, {"y": ["N", 4]}, {},
    )  # fmt: skip
    return gs.import_onnx(model)


def names(nodes):
    return [each.name for each in nodes]


def test_pending_and_frontier():
    graph = diamond()
    with TensorStore(1 << 20) as store:
        walk = Walk(graph, store, 1)
        first = walk.nodes_for(["tb"])
        assert names(first) == ["a", "b"]
        assert sorted(walk.frontier(first)) == ["ta", "tb"]
        assert names(walk.nodes_for(["td"], stop=["ta"])) == ["b", "c", "d"]
        assert names(walk.descendants(walk.nodes_for(["td"]), first[1:])) == ["b", "d"]
        for name in ("x", "ta", "tb"):
            store.put(name, 0, X)
        walk.finish(first, ["ta", "tb"])
        with pytest.raises(KeyError):
            store.get("x", 0)  # only a read it
        assert names(walk.nodes_for(["y"])) == ["c", "d", "e"]
        rest = walk.nodes_for(["td"])
        assert walk.outside(rest) == ["ta", "tb"]
        walk.finish(rest, ["td"])
        for name in ("ta", "tb"):
            with pytest.raises(KeyError):
                store.get(name, 0)


def test_what_nothing_after_the_nodes_will_read():
    graph = diamond()
    with TensorStore(1 << 20) as store:
        walk = Walk(graph, store, 1)
        a, b, c, d, _ = walk.nodes_for(["y"])
        assert walk.last_read([a]) == ["x"]
        assert walk.last_read([b]) == []  # c reads the same
        assert walk.last_read([b, c]) == ["ta"]
        walk.finish([a, b])
        assert walk.last_read([c]) == ["ta"]
        assert walk.last_read([c, d]) == ["ta", "tb"]


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_a_segment_computes_its_part(dtype):
    graph = diamond()
    with TensorStore(1 << 20) as store:
        walk = Walk(graph, store, 1)
        x = X.astype(dtype) / 16
        walk.finish(walk.nodes_for(["ta"]))
        nodes = walk.nodes_for(["td"])
        segment = walk.segment(nodes, ["tc", "td"], {"ta": x})
        values = segment.run({"ta": x, "unused": x})
        assert list(values) == ["tc", "td"]
        assert values["td"].dtype == dtype
        # one exponential and one sum
        np.testing.assert_allclose(values["td"], np.exp(x) - x, rtol=4 * np.finfo(dtype).eps)


def with_subgraph():
    """y = If(flag): captured + captured2, else captured; a nested If captures "deep"."""

    def body(*nodes):
        last = helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.FLOAT, None)
        return helper.make_graph(list(nodes), "body", [], [last])

    inner = helper.make_node(
        "If",
        ["flag"],
        ["o"],
        "inner",
        then_branch=body(node("Exp", "deep", "p")),
        else_branch=body(node("Neg", "deep", "q")),
    )
    outer = helper.make_node(
        "If", ["flag"], ["y"], "outer",
        then_branch=body(node("Add", "one two", "local"), node("Neg", "local", "r")), else_branch=body(inner),
    )  # fmt: skip
    graph = helper.make_graph(
        [node("Relu", "x", "one", "a"), node("Neg", "x", "two", "b"), node("Abs", "x", "deep", "c"), outer], "g",
        [helper.make_tensor_value_info("flag", TensorProto.BOOL, []),
         helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 4])],
    )  # fmt: skip
    return gs.import_onnx(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10))


def test_what_subgraphs_capture_is_needed():
    graph = with_subgraph()
    outer = next(each for each in graph.nodes if each.name == "outer")
    assert {tensor.name for tensor in needs(outer)} == {"flag", "one", "two", "deep"}
    with TensorStore(1 << 20) as store:
        walk = Walk(graph, store, 1)
        assert sorted(names(walk.nodes_for(["y"]))) == ["a", "b", "c", "outer"]
        first = walk.nodes_for(["one", "two", "deep"])
        assert sorted(walk.frontier(first)) == ["deep", "one", "two"]
        walk.finish(first)
        for flag, expected in ((True, -(X + 1)), (False, -(X + 2))):
            values = {"flag": np.array(flag), "one": X, "two": np.ones_like(X), "deep": X + 2}
            segment = walk.segment(walk.nodes_for(["y"]), ["y"], values)
            np.testing.assert_array_equal(segment.run(values)["y"], expected)

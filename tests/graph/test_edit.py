"""Edits of one pass: the list of nodes stays sorted, and names are new."""

import numpy as np
import onnx_graphsurgeon as gs

from graphpass.graph.edit import Editor, held_names
from graphpass.graph.names import names_of, settle
from tests.models import build, export, node, ops, run

X = np.float32([[1, -2, 3]])


def chain() -> gs.Graph:
    nodes = [node("Neg", "x", "a", "first"), node("Abs", "a", "b", "second"), node("Relu", "b", "y", "third")]
    return gs.import_onnx(build(nodes, {"x": ["N", 3]}, {"y": None}, {}))


def test_nodes_are_inserted_and_removed() -> None:
    graph = chain()
    first, second, third = graph.nodes
    edit = Editor(graph)
    doubled, halved = gs.Variable("d", np.float32), gs.Variable("h", np.float32)
    factor = gs.Constant("two", np.float32([2]))
    edit.insert_after(second, gs.Node("Mul", "times", inputs=[second.outputs[0], factor], outputs=[doubled]))
    edit.insert_before(third, gs.Node("Div", "by", inputs=[doubled, factor], outputs=[halved]))
    third.inputs[0] = halved
    edit.bypass(first)
    assert len(graph.nodes) == 3  # until it is finished
    edit.finish()
    assert [each.name for each in graph.nodes] == ["second", "times", "by", "third"]
    np.testing.assert_array_equal(run(export(graph), X)[0], np.abs(X))


def test_neighbours_of_neighbours_stay_in_order() -> None:
    graph = chain()
    edit = Editor(graph)
    middle = graph.nodes[1]
    new = [gs.Node("Identity", str(k)) for k in range(4)]
    edit.insert_after(middle, new[1])
    edit.insert_after(middle, new[0])  # right behind it
    edit.insert_after(new[1], new[2])
    edit.insert_before(new[0], new[3])
    edit.remove(middle)
    edit.finish()
    assert [each.name for each in graph.nodes] == ["first", "3", "0", "1", "2", "third"]


def test_a_maker_takes_over_a_result() -> None:
    graph = chain()
    edit = Editor(graph)
    edit.take_over(graph.nodes[0], graph.nodes[0].outputs[0], graph.nodes[1])
    edit.finish()
    assert ops(graph) == ["Neg", "Relu"] and graph.nodes[0].outputs[0].name == "b"
    assert edit.held == held_names(graph) == {"y"}


def test_names_are_new_and_stay_taken() -> None:
    names = names_of(chain())
    assert [names.fresh("a"), names.fresh("a"), names.fresh("new"), names.fresh("new")] == [
        "a_1",
        "a_2",
        "new",
        "new_1",
    ]
    assert names.fresh("second") == "second_1"


def test_tensors_and_nodes_of_one_name_are_settled() -> None:
    """Outputs keep their names; equal constants are one."""
    graph = chain()
    second = graph.nodes[1]
    second.name, second.outputs[0].name = "third", "y"
    for each, values in zip(graph.nodes, (np.ones(2), np.ones(2), np.zeros(2)), strict=True):
        each.inputs.append(gs.Constant("k", values))
    settle(graph)
    assert [each.name for each in graph.nodes] == ["first", "third", "third_1"]
    assert [each.outputs[0].name for each in graph.nodes] == ["a", "y_1", "y"]
    assert [each.inputs[1].name for each in graph.nodes] == ["k", "k", "k_1"]

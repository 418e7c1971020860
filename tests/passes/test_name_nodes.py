"""Names of nodes."""

import onnx_graphsurgeon as gs

from graphpass.passes.normalise import normalise
from tests.models import build, export, node


def test_nodes_get_unique_names_and_keep_theirs():
    nodes = [
        node("Relu", "x", "a"),
        node("Abs", "a", "b", name="Relu_0"),
        node("Neg", "b", "c", name="twin"),
        node("Neg", "c", "y", name="twin"),
    ]
    graph = gs.import_onnx(build(nodes, {"x": [3]}, {"y": [3]}, {}))  # onnxruntime refuses to load it as it is
    reports = {report.rule: report for report in normalise(graph)}
    export(graph)
    assert [each.name for each in graph.nodes] == ["Relu_0_1", "Relu_0", "twin", "Neg_3"]
    assert reports["name_nodes"].rewrites == 2

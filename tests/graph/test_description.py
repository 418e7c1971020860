"""Metadata, documentation and producer are kept by loading, upgrading and converting, in every form."""

import numpy as np
import onnx
import pytest
from onnx import helper

from graphpass.conversion import ConversionWarning, convert
from graphpass.forms.registry import FORMS
from graphpass.graph.description import keep_description
from graphpass.graph.model import load
from tests.models import build, node

METADATA = {"character": "a\nb\nc", "names": "{0: 'cat', 1: 'dog'}", "empty": ""}


def described(opset=17):
    """A network of two layers that says everything that a model can."""
    generator = np.random.default_rng(0)
    model = build(
        [
            node("Gemm", "x a", "h", name="first"),
            node("Relu", "h", "r", name="relu"),
            node("Gemm", "r b", "y", name="last"),
        ],
        {"x": ["N", 8]},
        {"y": ["N", 2]},
        {name: generator.standard_normal(size).astype(np.float32) for name, size in (("a", (8, 16)), ("b", (16, 2)))},
        opset=opset,
    )
    helper.set_model_props(model, METADATA)
    model.doc_string, model.domain, model.model_version = "recognises cats", "org.example", 7
    model.producer_name, model.producer_version = "trainer", "1.2"
    graph = model.graph
    graph.name, graph.doc_string = "cats", "two layers"
    graph.metadata_props.add(key="scale", value="big")
    graph.input[0].doc_string = "an image"
    graph.input[0].metadata_props.add(key="range", value="0 … 1")
    graph.input[0].type.denotation = "IMAGE"
    graph.input[0].type.tensor_type.shape.dim[0].denotation = "DATA_BATCH"
    graph.output[0].doc_string = "scores"
    graph.node[0].doc_string = "embeds"
    graph.node[0].metadata_props.add(key="line", value="model.py:3")
    graph.node[1].doc_string = "fires"
    graph.node[1].metadata_props.add(key="line", value="model.py:4")
    graph.initializer[0].doc_string = "trained"
    return model


def description(model):
    """The description of a model as plain values."""
    graph = model.graph
    first, relu, weight = (
        next((each for each in found if each.name in names), None)
        for found, names in ((graph.node, ["first"]), (graph.node, ["relu", "relu/neuron"]), (graph.initializer, ["a"]))
    )
    return {
        "metadata": {
            entry.key: entry.value for entry in model.metadata_props if not entry.key.startswith("graphpass.")
        },
        "model": (model.doc_string, model.domain, model.model_version, model.producer_name, model.producer_version),
        "graph": (graph.name, graph.doc_string, {entry.key: entry.value for entry in graph.metadata_props}),
        "input": (graph.input[0].doc_string, {entry.key: entry.value for entry in graph.input[0].metadata_props}),
        "denotation": (
            graph.input[0].type.denotation,
            [dimension.denotation for dimension in graph.input[0].type.tensor_type.shape.dim],
        ),
        "output": graph.output[0].doc_string,
        "node": first and (first.doc_string, {entry.key: entry.value for entry in first.metadata_props}),
        "activation": relu and (relu.doc_string, {entry.key: entry.value for entry in relu.metadata_props}),
        "weight": weight and weight.doc_string,
    }


@pytest.mark.parametrize("opset", [15, 17, 21])
def test_loading_keeps_all_of_it_whatever_the_opset(tmp_path, opset):
    onnx.save(described(opset), tmp_path / "ann.onnx")
    assert description(load(tmp_path / "ann.onnx").proto) == description(described())


@pytest.mark.parametrize("form", FORMS)
def test_every_form_keeps_it_by_data_and_by_plan(tmp_path, form):
    onnx.save(described(), tmp_path / "ann.onnx")
    data = {"x": np.random.default_rng(1).standard_normal((64, 8)).astype(np.float32)}
    done = convert(tmp_path / "ann.onnx", data, method="max", time_steps=4, form=form)  # `max` leaves weights alone
    again = convert(tmp_path / "ann.onnx", plan=done.plan, form=form)
    expected = description(described())
    for proto in (done.proto, again.proto):
        found = description(proto)
        if form == "integer":  # its layers are other nodes, with other weights
            found |= {key: expected[key] for key in ("node", "weight") if found[key] is None}
        assert found == expected
        assert {entry.key: entry.value for entry in proto.metadata_props}["graphpass.form"] == form


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("coding", ["rate", "phase"])
def test_neurons_behind_a_pooling_keep_what_is_said_of_their_activation(form, coding):
    """Neurons of the phase code move behind max pooling, those of the integer form on floats as well."""
    nodes = [
        node("Conv", "x a", "c", "one"), node("Relu", "c", "r", "act"),
        node("MaxPool", "r", "p", "pool", kernel_shape=[2, 2]), node("Conv", "p b", "y", "two"),
    ]  # fmt: skip
    generator = np.random.default_rng(0)
    weights = {
        name: generator.normal(size=size).astype(np.float32)
        for name, size in (("a", (4, 1, 3, 3)), ("b", (2, 4, 1, 1)))
    }
    model = build(nodes, {"x": ["N", 1, 8, 8]}, {"y": ["N", 2, 5, 5]}, weights)
    model.graph.node[1].doc_string = "fires"
    data = {"x": generator.normal(size=(16, 1, 8, 8)).astype(np.float32)}
    done = convert(load(model), data, method="max", time_steps=4, coding=coding, form=form)
    assert [each.doc_string for each in done.proto.graph.node if each.doc_string] == ["fires"]


def test_metadata_of_another_conversion_is_not_mistaken_for_ours(tmp_path):
    model = described()
    helper.set_model_props(model, {**METADATA, "graphpass.form": "spiral", "graphpass.floats": "[]"})
    onnx.save(model, tmp_path / "ann.onnx")
    data = {"x": np.random.default_rng(1).standard_normal((64, 8)).astype(np.float32)}
    with pytest.warns(ConversionWarning, match=r"graphpass\.form, graphpass\.floats"):
        done = convert(tmp_path / "ann.onnx", data, time_steps=4)
    found = {entry.key: entry.value for entry in done.proto.metadata_props}
    assert found["graphpass.form"] == "folded"
    assert "graphpass.floats" not in found
    assert found["names"] == METADATA["names"]


def test_nodes_that_share_a_name_are_not_mixed_up():
    given, made = described(), described()
    for model in (given, made):
        for each in model.graph.node:
            each.name = "twin"
    del made.graph.node[0].metadata_props[:]
    made.graph.node[0].ClearField("doc_string")
    keep_description(given, made)
    assert not made.graph.node[0].metadata_props

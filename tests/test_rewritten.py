"""Converted networks that another tool has rewritten: each function takes them, or says what happened to them."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnx.utils
import onnxruntime as ort
import pytest

import graphpass
from graphpass.errors import ModelError, UnsupportedModelError
from tests.models import build, node, run

RANDOM = np.random.default_rng(0)
DATA = {"x": RANDOM.normal(size=(32, 6)).astype(np.float32)}
FORMS = ("folded", "unrolled", "integer")


@pytest.fixture(scope="module")
def ann() -> onnx.ModelProto:
    weights = {
        name: RANDOM.normal(size=(rows, columns)).astype(np.float32)
        for name, rows, columns in (("a", 6, 8), ("b", 8, 8), ("c", 8, 4))
    }
    nodes = [
        node("MatMul", "x a", "h"), node("Relu", "h", "r"), node("MatMul", "r b", "g"), node("Gelu", "g", "q"),
        node("MatMul", "q c", "scores"),
    ]  # fmt: skip
    return build(nodes, {"x": ["N", 6]}, {"scores": ["N", 4]}, weights, opset=21)


@pytest.fixture(scope="module")
def converted(ann: onnx.ModelProto) -> dict[str, onnx.ModelProto]:
    plan = graphpass.convert(ann, DATA, time_steps=4, threads=1).plan
    return {form: graphpass.convert(ann, plan=plan, form=form, threads=1).proto for form in FORMS}


def optimised(proto: onnx.ModelProto, folder: Path) -> onnx.ModelProto:
    """What onnxruntime saves after its basic optimisations, which inline functions."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.log_severity_level = 3
    options.optimized_model_filepath = str(folder / "optimised.onnx")
    ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return onnx.load(folder / "optimised.onnx")


REWRITINGS: dict[str, Callable[[onnx.ModelProto, Path], onnx.ModelProto]] = {
    "nothing": lambda proto, folder: proto,
    "inlined": lambda proto, folder: graphpass.inline(proto),
    "optimised": optimised,
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("rewriting", REWRITINGS)
def test_is_not_converted_again(converted, tmp_path, form, rewriting):
    """Inlined ones were taken for networks without spikes, and integer ones for quantised networks of other tools."""
    rewritten = REWRITINGS[rewriting](converted[form], tmp_path)
    for call in (graphpass.inspect, lambda model: graphpass.convert(model, DATA, time_steps=2)):
        with pytest.raises(
            UnsupportedModelError, match="already a spiking network; give the network that it came from"
        ):
            call(rewritten)


@pytest.mark.parametrize("form", ["folded", "unrolled"])
@pytest.mark.parametrize("rewriting", ["inlined", "optimised"])
def test_neurons_that_were_inlined_are_missed(ann, converted, tmp_path, form, rewriting):
    """They were said to be of the integer form, or never to have been converted."""
    rewritten = REWRITINGS[rewriting](converted[form], tmp_path)
    assert np.isfinite(run(rewritten, DATA["x"])[0]).all()  # it runs, which is what it was made for
    calls: list[Callable[[], object]] = [
        lambda: graphpass.verify(rewritten, DATA, threads=1),
        lambda: graphpass.evaluate(ann, rewritten, DATA, threads=1),
        lambda: graphpass.plot_raster(rewritten, DATA),
    ]
    if form == "folded":
        calls.append(lambda: graphpass.verify(converted["integer"], DATA, reference=rewritten, threads=1))
    for call in calls:
        with pytest.raises(ModelError, match=r"no neurons any more: `graphpass inline` .*; give the file that"):
            call()


def without_metadata(proto: onnx.ModelProto) -> onnx.ModelProto:
    """What graphsurgeon exports."""
    bare = onnx.ModelProto()
    bare.CopyFrom(proto)
    del bare.metadata_props[:]
    return bare


@pytest.mark.parametrize("form", ["folded", "unrolled"])
def test_metadata_that_was_lost_is_missed(ann, converted, form):
    """Such networks were said not to be converted. What needs no metadata works."""
    bare = without_metadata(converted[form])
    assert graphpass.verify(bare, DATA, threads=1).agrees
    for call in (lambda: graphpass.evaluate(ann, bare, DATA, threads=1), lambda: graphpass.card(bare)):
        with pytest.raises(ModelError, match="a spiking network without its metadata, which graphsurgeon"):
            call()


def test_a_part_that_ends_in_a_train_is_refused(converted, tmp_path):
    """Spikes [T·N, …] were subtracted from the outputs [N, …] of the folded form."""
    onnx.save(converted["unrolled"], tmp_path / "whole.onnx")
    neurons = next(each for each in converted["unrolled"].graph.node if each.op_type == "ParallelNeuronTrain")
    onnx.utils.extract_model(str(tmp_path / "whole.onnx"), str(tmp_path / "part.onnx"), ["x"], [neurons.output[0]])
    with pytest.raises(ModelError, match=r"has the shape \[32, 8\] in the unrolled form, and \[8, 8\] in the folded"):
        graphpass.verify(tmp_path / "part.onnx", DATA, threads=1)


def test_a_plan_that_names_no_model_is_of_the_model_it_was_applied_to(ann):
    """The network named no model, and evaluate refused it as one of another."""
    plan = replace(graphpass.convert(ann, DATA, time_steps=2, threads=1).plan, model_digest="")
    made = graphpass.convert(ann, plan=plan, threads=1)
    assert made.plan.model_digest == made.network.source.digest
    assert graphpass.evaluate(ann, made, DATA, threads=1).samples == len(DATA["x"])

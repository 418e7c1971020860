"""What runs on an execution provider: a small network in every form, opened and run there. For `graphpass doctor`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from graphpass.conversion import convert
from graphpass.errors import SessionError
from graphpass.forms.registry import FORMS
from graphpass.graph.model import load
from graphpass.runtime.placement import placement
from graphpass.runtime.providers import CPU
from graphpass.runtime.session import open_session, run


@dataclass(frozen=True)
class Form:
    """One form on a provider. problem: why it does not run, or "". nodes: how many; elsewhere: operators of those that
    another provider ran. apart: largest difference from the CPU's outputs, as a share of the largest of these.
    """

    problem: str = ""
    nodes: int = 0
    elsewhere: tuple[str, ...] = ()
    apart: float = 0.0


@dataclass(frozen=True)
class Running:
    """A provider. problem: why no session starts on it, or "". neurons: native or function bodies. forms: by name."""

    provider: str
    problem: str = ""
    neurons: str = ""
    tf32: bool = False
    forms: Mapping[str, Form] = field(default_factory=dict)


def running(provider: str, networks: Mapping[str, onnx.ModelProto]) -> Running:
    """Whether sessions start on a provider, and how the networks of `small_networks` run there."""
    found: dict[str, Form] = {}
    neurons, tf32 = "", False
    wanted = list(dict.fromkeys((provider, CPU)))
    for form, proto in networks.items():
        try:
            placed = placement(proto, wanted, {"x": inputs()})
        except SessionError as error:
            found[form] = Form(error.what)
            continue
        if provider not in placed.session.get_providers():
            return Running(provider, "no session starts on it")
        expected = run(open_session(proto, threads=1, use_native=False), {"x": inputs()})["y"]
        largest = float(np.abs(expected).max())
        apart = float(np.abs(placed.outputs["y"] - expected).max() / largest)
        elsewhere = tuple(op for name, ops in placed.ops.items() if name != provider for op in ops)
        nodes = sum(map(len, placed.ops.values()))
        found[form] = Form("", nodes, elsewhere, apart)
        neurons, tf32 = neurons or placed.session.neurons, tf32 or placed.session.tf32
    if all(form.problem for form in found.values()):
        return Running(provider, next(iter(found.values())).problem)
    return Running(provider, "", neurons, tf32, found)


def inputs() -> Any:
    """Samples of the small network, [8, 3, 8, 8]."""
    return np.random.default_rng(0).standard_normal((8, 3, 8, 8)).astype(np.float32)


def small_networks() -> dict[str, onnx.ModelProto]:
    """x → Conv → Relu → Conv → Relu → GlobalAveragePool → Flatten → Gemm → y, in every form, and folded in float16."""
    random = np.random.default_rng(1)
    weights = {"a": (8, 3, 3, 3), "b": (8, 8, 3, 3), "c": (8, 4)}
    nodes = ["Conv x,a m one", "Relu m r relu", "Conv r,b n two", "Relu n s relu_2"]
    nodes += ["GlobalAveragePool s p pool", "Flatten p f flat", "Gemm f,c y last"]
    graph = helper.make_graph(
        [helper.make_node(op, given.split(","), [made], name=name) for op, given, made, name in map(str.split, nodes)],
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 4])],
        [
            numpy_helper.from_array((random.standard_normal(shape) / 3).astype(np.float32), name)
            for name, shape in weights.items()
        ],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    source, data = load(proto), {"x": inputs()}
    plan = convert(source, data, time_steps=4, method="max").plan
    found = {form: convert(source, plan=plan, form=form).proto for form in FORMS}
    return {**found, "float16": convert(source, plan=plan, precision="float16").proto}

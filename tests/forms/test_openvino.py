"""OpenVINO, the second runtime: the folded form inlined, and the integer form as it is, agree with onnxruntime.

The integer form is compared layer by layer. OpenVINO runs the whole network and shows every count; onnxruntime is then
given these counts and makes the next ones of them, so that nothing adds up. A count may be another one in two ways:

    ties        v lies within TIE of a border between two counts: scales are multiplied in another order
    sums        onnxruntime rounds a layer's sum and its shortcut to their steps before it adds them, OpenVINO only one
                of them, which is more exact: both lie within half a step of each from the sum of what is not rounded
"""

import warnings
from dataclasses import dataclass

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest
from numpy.typing import NDArray

from graphpass.api import inline
from graphpass.calibration.calibrate import CalibrationOptions
from graphpass.conversion import convert
from graphpass.forms.integer.form import COUNT
from graphpass.forms.registry import counts_of, encoded_of
from tests.forms.integers import near
from tests.forms.runtime_networks import INPUTS, relu_network, transformer_block
from tests.forms.test_curved_networks import X, network
from tests.models import run

ov = pytest.importorskip("openvino", reason="OpenVINO is not installed (pip install --group openvino)")
pytestmark = pytest.mark.slow

TIE = 1e-4  # counts: float32 sums below 2^8 in another order, some ten roundings of 2^-24 each
FLOATS = 1e-4  # of the largest value: float32 sums in another order, through some layers
GIVEN, ROUNDED = "/given", ("/current", "/shortcut", "/projection")  # behind names: counts as inputs; terms of a sum

Arrays = dict[str, NDArray]


NETWORKS = {
    "relu": relu_network,
    "silu": lambda: network("silu"),
    "gelu": lambda: network("gelu"),
    "hard_swish": lambda: network("hard_swish"),
    "transformer": transformer_block,
}
CODES = [("rate", 8), ("phase", 4), ("phase", 8)]


@pytest.fixture(params=[(name, *code) for name in NETWORKS for code in CODES], ids=str)
def case(request, tmp_path):
    """(a form → the network in it), its input."""
    name, coding, steps = request.param
    path = tmp_path / "ann.onnx"
    onnx.save(NETWORKS[name](), path)
    x = INPUTS.get(name, X)
    how = {"time_steps": steps, "coding": coding, "options": CalibrationOptions(threads=1)}

    def made(form: str) -> onnx.ModelProto:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return convert(path, {"x": x}, form=form, **how).proto

    return made, x


def compiled_by_openvino(proto: onnx.ModelProto):
    core = ov.Core()
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    return core.compile_model(core.read_model(proto.SerializeToString()), "CPU", settings)


def openvino(proto: onnx.ModelProto, *feeds: NDArray) -> Arrays:
    """The outputs of OpenVINO by name."""
    compiled = compiled_by_openvino(proto)
    names = [each.name for each in proto.graph.input]
    found = compiled(dict(zip(names, feeds, strict=True)))
    return {each.name: found[compiled.output(each.name)] for each in proto.graph.output}


def with_outputs(proto: onnx.ModelProto, counts: list[str]) -> onnx.ModelProto:
    """A copy with counts as outputs, too."""
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    types = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.UINT8, None) for name in counts]
    copy.graph.output.extend(types)
    return copy


@dataclass(frozen=True)
class Rounding:
    """count = clip(round(v/step) + zero, 0, largest); v: a tensor's name. reach: how far v/step may be off, counts."""

    v: str
    step: float
    zero: int
    largest: int
    reach: float

    def explains(self, v: NDArray, count: NDArray) -> NDArray[np.bool_]:
        """Where a count is one that v gives, or what is as near as `reach`."""
        low, high = (
            np.clip(np.rint(v.reshape(count.shape) / self.step + sign * self.reach) + self.zero, 0, self.largest)
            for sign in (-1, 1)
        )
        return (low <= count) & (count <= high)


def rounding_of(count: gs.Variable) -> Rounding | None:
    """How counts are rounded; None where they are moved, or made by a function."""
    node, largest = count.inputs[0], 255
    while node.op in ("Clip", "Reshape"):
        largest = min(largest, int(node.inputs[2].values)) if node.op == "Clip" else largest
        node = node.inputs[0].inputs[0]
    if node.op != "QuantizeLinear":
        return None
    v, step, zero = node.inputs[0], float(node.inputs[1].values), int(node.inputs[2].values)
    terms = v.inputs[0].inputs if v.inputs and v.inputs[0].op == "Add" else []
    makers = [term.inputs[0] for term in terms if isinstance(term, gs.Variable) and term.inputs]
    rounded = [float(maker.inputs[1].values) for maker in makers if maker.inputs[0].name.endswith(ROUNDED)]
    return Rounding(v.name, step, zero, largest, TIE + sum(rounded) / 2 / step)


def with_given_counts(proto: onnx.ModelProto, counts: list[str]) -> tuple[onnx.ModelProto, dict[str, Rounding]]:
    """The network with counts as inputs, and what each is rounded from, or the count itself, as an output.

    Terms of sums are not rounded before they are added.
    """
    graph = gs.import_onnx(proto)
    tensors, outputs = graph.tensors(), list(graph.outputs)
    found = {name: rounding for name in counts if (rounding := rounding_of(tensors[name]))}
    for name in counts:
        made = tensors[name]
        given = gs.Variable(f"{name}{GIVEN}", np.uint8, made.shape)
        graph.inputs.append(given)
        for reader in list(made.outputs):
            reader.inputs = [given if tensor is made else tensor for tensor in reader.inputs]
        shown = tensors[found[name].v] if name in found else made
        shown.dtype = np.float32 if name in found else np.uint8
        outputs.append(shown)
    for each in list(graph.nodes):
        if each.op == "DequantizeLinear" and each.inputs[0].name.endswith(ROUNDED):
            (rounding,), (reader,) = each.inputs[0].inputs, each.outputs[0].outputs
            reader.inputs = [rounding.inputs[0] if tensor is each.outputs[0] else tensor for tensor in reader.inputs]
    graph.outputs = outputs
    made = gs.export_onnx(graph.cleanup().toposort())
    del made.opset_import[:]
    made.opset_import.extend(proto.opset_import)
    return made, found


def test_the_folded_form_agrees(case):
    made, x = case
    proto = made("folded")
    (expected,) = run(proto, x)
    found = openvino(inline(proto), x)["y"]
    equal = np.abs(found - expected) <= FLOATS * np.abs(expected).max()
    # a sum within float32's rounding of a border may give the other count, which moves what is behind it
    assert equal.mean() >= 0.97


def test_every_count_of_the_integer_form_is_explained(case):
    made, x = case
    proto = made("integer")
    there = {name for each in proto.graph.node for name in each.output}
    encoded = [name for each in encoded_of(proto) if (name := f"{each}{COUNT}") in there]
    counts = list(dict.fromkeys([*counts_of(proto).values(), *encoded]))
    found = openvino(inline(with_outputs(proto, counts)), x)
    cut, roundings = with_given_counts(proto, counts)
    feeds = {"x": x, **{f"{name}{GIVEN}": found[name] for name in counts}}
    results = run(cut, *(feeds[each.name] for each in cut.graph.input))
    ours = dict(zip([each.name for each in cut.graph.output], results, strict=True))
    assert len(roundings) >= len(counts) / 2
    for name in counts:
        assert found[name].dtype == np.uint8
        one = roundings.get(name)
        explained = one.explains(ours[one.v], found[name]) if one else ours[name] == found[name]
        assert explained.mean() >= (1 if one else 0.999), (name, explained.mean())  # functions meet ties, too
    (y,) = (each.name for each in proto.graph.output)
    np.testing.assert_allclose(found[y], ours[y], rtol=0, atol=FLOATS * np.abs(ours[y]).max())
    plain = openvino(inline(proto) if proto.functions else proto, x)[y]  # where no count is seen from outside
    near(plain, found[y], 0.02)


def test_integer_layers_run_in_int8():
    """None of a ReLU network is left to floats, and nothing of it needs a function of the domain ai.graphpass."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = convert(relu_network(), {"x": INPUTS["relu"]}, form="integer", time_steps=8)
    assert not made.proto.functions
    nodes = compiled_by_openvino(made.proto).get_runtime_model().get_ordered_ops()
    said = [{key: each.rt_info[key].value for key in ("layerType", "runtimePrecision")} for each in nodes]
    layers = [each["runtimePrecision"] for each in said if each["layerType"] in ("Convolution", "FullyConnected")]
    assert len(layers) == 10 and set(layers) <= {"u8", "i8"}

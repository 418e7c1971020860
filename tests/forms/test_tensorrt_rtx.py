"""TensorRT for RTX, whose parser and builder need no GPU, reads what is written for TensorRT and keeps layers in int8.

Nothing is executed. Its parser is TensorRT's (onnx/onnx-tensorrt), so what it refuses, TensorRT refuses.
"""

import re
from typing import Any

import onnx
import pytest

from tests.forms.test_tensorrt import NETWORKS, made
from tests.forms.test_tensorrt_refusals import int32_bias, no_scale, other_zero

trt = pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is not installed (pip install --group tensorrt)")
pytestmark = pytest.mark.slow

LAYER = re.compile(
    r"LayerType: (?:correlation|gemm), Inputs: \[ \{[^}]*Datatype: (\w+)"
)  # of an engine, as it is logged


class Log(trt.ILogger):  # type: ignore[misc]
    """What a builder says."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []

    def log(self, severity: Any, text: str) -> None:
        self.said.append(text)


LOG = Log()  # the first one that it is given is the only one that it uses


def parsed(proto: onnx.ModelProto) -> tuple[Any, Any, list[str]]:
    """A builder, the network that the parser made, and what the parser refuses."""
    builder = trt.Builder(LOG)
    network = builder.create_network()
    parser = trt.OnnxParser(network, LOG)
    parser.parse(proto.SerializeToString())
    return builder, network, [parser.get_error(number).desc() for number in range(parser.num_errors)]


def inputs_of_layers(builder: Any, network: Any) -> list[str]:
    """The types of what the convolutions and products of the engine read, for a GPU of compute capability 8.6."""
    config, profile = builder.create_builder_config(), builder.create_optimization_profile()
    for number in range(network.num_inputs):
        tensor = network.get_input(number)
        sizes = [4 if size < 0 else size for size in tensor.shape]
        profile.set_shape(tensor.name, sizes, sizes, sizes)
    config.add_optimization_profile(profile)
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    config.num_compute_capabilities = 1
    config.set_compute_capability(trt.ComputeCapability.SM86, 0)
    LOG.said.clear()
    assert builder.build_serialized_network(network, config) is not None
    return LAYER.findall("\n".join(LOG.said))


@pytest.mark.parametrize("name", NETWORKS)
def test_it_reads_what_is_written_for_it_and_keeps_integer_layers_in_int8(name):
    proto = made(name, "rate", 8, form="integer", target="tensorrt")[0].proto
    builder, network, refused = parsed(proto)
    assert refused == []
    weights = {each.name for each in proto.graph.initializer if each.data_type == onnx.TensorProto.INT8}
    decoded = {node.output[0] for node in proto.graph.node if node.input[0] in weights}
    layers = [node for node in proto.graph.node if node.op_type in ("Conv", "Gemm", "MatMul")]
    floats = [node for node in layers if node.input[1] not in decoded]
    read = inputs_of_layers(builder, network)
    assert set(read) <= {"Int8", "Float"} and read.count("Int8") >= 3
    assert read.count("Float") == len(floats) < len(layers) / 2  # layers that read the same may become one


@pytest.mark.parametrize("name", NETWORKS)
def test_it_refuses_the_usual_integer_form(name):
    assert parsed(made(name, "rate", 8, form="integer")[0].proto)[2]


@pytest.mark.parametrize("mutate", [other_zero, int32_bias, no_scale])
def test_it_refuses_what_the_check_refuses(mutate):
    proto = made("concat", "rate", 4, form="integer", target="tensorrt")[0].proto
    mutate(proto)
    assert parsed(proto)[2]

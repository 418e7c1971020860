"""What becomes of every operator behind spikes: x → Relu → the operator → MatMul → y, converted in every form.

Where spikes pass the operator, a network of 256 levels is close to the one that was given; where it works on the mean
over time, it is equal. The unrolled form is equal to the folded one. tests/coverage.py writes down what is found here.
"""

import functools
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from graphpass.conversion import Conversion, convert
from graphpass.graph.model import load
from graphpass.network import Network, prepare
from graphpass.runtime.session import open_session, run
from graphpass.verification.source import SourceWarning
from tests.graph.test_upgrade import given
from tests.operator_cases import RANDOM, Fixed, OperatorCase, floats, versions_of
from tests.operators import CASES

OPSET = 21  # what is converted
# Neurons fit curves with even levels: how close is the matter of tests/calibration, and no finer here than that.
CURVED = frozenset("Gelu HardSwish Mish Sigmoid Softplus Softsign Swish Tanh ThresholdedRelu".split())
Samples = dict[str, NDArray[Any]]


def opset_of(op: str) -> int:
    """21, or the first opset that has the operator."""
    return max(OPSET, min(versions_of(op)))


def is_usable(case: OperatorCase) -> bool:
    """Whether spikes can be put in front and a layer behind: first input and output are floats with samples."""
    first, opset = case.inputs[0] if case.inputs else None, opset_of(case.op)
    spiking = isinstance(first, np.ndarray) and first.dtype == np.float32 and first.ndim >= 2
    found = given(case, opset) if spiking and case.first <= opset <= case.last else None
    return found is not None and found[0].dtype == np.float32 and found[0].size > 0


@functools.cache
def cases() -> dict[str, OperatorCase]:
    """The first usable case of each operator."""
    found: dict[str, OperatorCase] = {}
    for case in CASES:
        if case.op not in found and is_usable(case):
            found[case.op] = case
    return found


def fixed(case: OperatorCase) -> tuple[OperatorCase, NDArray[np.float32]]:
    """The case with positive data, as they come behind a Relu, and all else held by the model."""
    before, *others = case.inputs
    assert isinstance(before, np.ndarray)
    x = (np.abs(before) + 0.01 * np.abs(np.random.default_rng(1).normal(size=before.shape))).astype(np.float32)
    held = [Fixed(each) if isinstance(each, np.ndarray) else each for each in others]
    return OperatorCase(case.op, (x, *held), case.attributes, outputs=case.outputs), x


def network(case: OperatorCase) -> tuple[onnx.ModelProto, Samples]:
    """x → Relu → the operator → MatMul → y beside z → MatMul → Relu → MatMul → w, and samples for both."""
    ready, x = fixed(case)
    found = given(ready, opset_of(case.op))
    assert found is not None
    proto, shape = ready.model(opset_of(case.op)), found[0].shape
    proto.graph.node[0].input[0] = "r"
    proto.graph.node.insert(0, helper.make_node("Relu", ["i0"], ["r"], "before"))
    flat = helper.make_node("Flatten", ["o0"], ["f"], "flat")
    if len(shape) < 2:
        flat = helper.make_node("Reshape", ["o0", "row"], ["f"], "flat")
        proto.graph.initializer.append(numpy_helper.from_array(np.array([1, -1]), "row"))
    proto.graph.node.extend([
        flat, helper.make_node("MatMul", ["f", "k"], ["y"], "behind"),
        helper.make_node("MatMul", ["z", "a"], ["c"], "one"), helper.make_node("Relu", ["c"], ["d"], "act"),
        helper.make_node("MatMul", ["d", "b"], ["w"], "two"),
    ])  # fmt: skip
    width = int(np.prod(shape[1:])) if len(shape) > 1 else int(np.prod(shape))
    weights = {"k": floats(width, 3) / np.float32(np.sqrt(width)), "a": floats(4, 5), "b": floats(5, 3)}
    proto.graph.initializer.extend(numpy_helper.from_array(values, name) for name, values in weights.items())
    samples = {"i0": x, "z": floats(len(x), 4)}
    proto.graph.input.append(helper.make_tensor_value_info("z", onnx.TensorProto.FLOAT, samples["z"].shape))
    del proto.graph.output[:]
    proto.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in "yw")
    return proto, samples


def prepared(op: str, folder: Path) -> tuple[Network, Samples]:
    """The network of an operator, with the same values in any order of the tests."""
    RANDOM.bit_generator.state = np.random.default_rng(list(op.encode())).bit_generator.state
    proto, samples = network(cases()[op])
    onnx.save(proto, folder / "m.onnx")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return prepare(load(folder / "m.onnx")), samples


def converted(network: Network, samples: Samples, form: str) -> Conversion:
    with warnings.catch_warnings():  # of MeanVarianceNormalization, whose axes are all but the channels
        warnings.filterwarnings("ignore", ".*depends on the other samples of its batch", SourceWarning)
        return convert(network, samples, time_steps=8, coding="phase", method="max", form=form, allow_partial=True)


def outputs(done: Conversion, samples: Samples) -> Samples:
    return run(open_session(done.proto, use_native=False), samples)


def error(found: NDArray[Any], wanted: NDArray[Any]) -> float:
    size = float(np.linalg.norm(wanted.astype(np.float64)))
    return float(np.linalg.norm((found - wanted).astype(np.float64))) / max(size, 1e-9)


def reached(network: Network) -> set[str]:
    """Which layers see spikes: the operator itself, and the one behind it."""
    return {layer for site in network.coverage.sites for layer in site.layers} & {"the_op", "behind"}


@pytest.mark.parametrize("op", sorted(cases()))
def test_an_operator_behind_spikes(tmp_path: Path, op: str) -> None:
    network, samples = prepared(op, tmp_path)
    wanted = run(open_session(network.source), samples)
    found = outputs(converted(network, samples, "folded"), samples)
    # 256 levels of a range lose 1/512 of it on average, a sum of some dozen terms less; else float32 is the same
    if op not in CURVED:
        assert error(found["y"], wanted["y"]) < (0.02 if reached(network) else 1e-5)
    assert error(found["w"], wanted["w"]) < 0.02


@pytest.mark.slow
@pytest.mark.parametrize("op", sorted(cases()))
def test_an_operator_in_the_other_forms(tmp_path: Path, op: str) -> None:
    network, samples = prepared(op, tmp_path)
    folded, unrolled, integer = (
        outputs(converted(network, samples, form), samples) for form in ("folded", "unrolled", "integer")
    )
    for name in "yw":
        assert error(unrolled[name], folded[name]) < 1e-4  # sums of other orders
        # int8 weights err by a step, 1/127 of the largest of each channel, at most: errors of a sum cancel
        assert error(integer[name], folded[name]) < 0.12

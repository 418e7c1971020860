"""Every operator in every version compared with its upgrade, by onnxruntime: alone, in a subgraph, in a function."""

import functools
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from graphpass.errors import UnsupportedModelError
from graphpass.graph.inference import with_shapes
from graphpass.graph.model import export, load
from graphpass.graph.upgrade import TARGET_OPSET, UPGRADES, version_of
from tests.models import build, node, run
from tests.operator_cases import NEWEST, OLDEST, OperatorCase, fixed, floats, versions_of
from tests.operators import CASES

# operators without a case, and why
SEQUENCES = frozenset(
    "ConcatFromSequence Optional OptionalGetElement OptionalHasElement SequenceAt SequenceConstruct SequenceEmpty "
    "SequenceErase SequenceInsert SequenceLength SequenceMap SplitToSequence".split()
)
TEXTS = frozenset("ImageDecoder RegexFullMatch StringConcat StringNormalizer StringSplit TfIdfVectorizer".split())
RANDOM = frozenset("Bernoulli Multinomial RandomNormal RandomNormalLike RandomUniform RandomUniformLike".split())
QUANTISED = frozenset(
    "ConvInteger DequantizeLinear DynamicQuantizeLinear MatMulInteger QLinearConv QLinearMatMul QuantizeLinear".split()
)
BODIES = frozenset(["If", "Loop", "Scan"])
WITHOUT_CASE = SEQUENCES | TEXTS | RANDOM | QUANTISED | BODIES
# what this onnxruntime has no kernel for, though it had one for older versions or has the operator's schema
WITHOUT_KERNEL = {
    ("CausalConvWithState", 27), ("GlobalLpPool", 22), ("LinearAttention", 27), ("MaxRoiPool", 22), ("RoiAlign", 22),
    ("SwiGLU", 28),
}  # fmt: skip
OPERATORS = sorted({case.op for case in CASES})
# Fused or reordered float32 arithmetic: most are equal to the bit.
ROUNDING = {"rtol": 1e-6, "atol": 1e-6, "equal_nan": True}

Arrays = list[NDArray[Any]]


def outputs(proto: onnx.ModelProto, feeds: dict[str, NDArray[Any]]) -> Arrays:
    """What onnxruntime makes of a model. Raises its errors."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    found: Arrays = session.run(None, feeds)
    return found


@functools.cache
def given(case: OperatorCase, opset: int) -> Arrays | None:
    """What onnxruntime makes of the call as it is, None where it does not run it."""
    try:
        return outputs(case.model(opset), case.feeds())
    except Exception:  # onnxruntime's errors have no common base
        return None


def loaded(proto: onnx.ModelProto, folder: Path) -> onnx.ModelProto:
    onnx.save(proto, folder / "m.onnx")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the opset is older than spiking operators need
        return export(load(folder / "m.onnx").graph())


def same(found: Arrays, wanted: Arrays, what: object) -> None:
    for one, other in zip(found, wanted, strict=True):
        assert (one.dtype, one.shape) == (other.dtype, other.shape), what
        np.testing.assert_allclose(one, other, **ROUNDING, err_msg=str(what))


def calls(op: str, rewritten: bool = False) -> Iterator[tuple[OperatorCase, int]]:
    """The cases of an operator with their opsets; rewritten: where a rule has work to do."""
    for case in (each for each in CASES if each.op == op):
        opsets = case.opsets()
        for opset in opsets:
            newest = opset == opsets[-1]  # from 21 on nothing is written anew: one version shows that it passes
            if version_of(op, opset) < UPGRADES[op][0] if rewritten else opset < TARGET_OPSET or newest:
                yield case, opset


@pytest.mark.parametrize("op", OPERATORS)
def test_an_operator_computes_the_same_as_in_its_own_version(tmp_path: Path, op: str) -> None:
    ran = 0
    for case, opset in calls(op):
        wanted = given(case, opset)
        if wanted is not None:
            same(outputs(loaded(case.model(opset), tmp_path), case.feeds()), wanted, (case, opset))
            ran += 1
    assert ran or {version for name, version in WITHOUT_KERNEL if name == op}


@pytest.mark.parametrize("op", sorted(set(UPGRADES) & set(OPERATORS)))
def test_a_rule_needs_to_know_no_constants(tmp_path: Path, op: str) -> None:
    for case, opset in calls(op, rewritten=True):
        free = case.thawed()
        wanted = given(free, opset)
        if wanted is not None:
            same(outputs(loaded(free.model(opset), tmp_path), free.feeds()), wanted, (free, opset))


def in_a_branch(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The model's nodes in the branch of an If that is taken; they capture the inputs."""
    inner, outer = proto.graph, onnx.ModelProto()
    outer.CopyFrom(proto)
    names = [value.name for value in inner.output]
    branches = []
    for part in ("then", "else"):
        nodes = [onnx.NodeProto.FromString(each.SerializeToString()) for each in inner.node]
        for each in nodes:
            each.output[:] = [f"{part}_{name}" for name in each.output]
        values = [helper.make_empty_tensor_value_info(f"{part}_{name}") for name in names]
        branches.append(helper.make_graph(nodes, part, [], values))
    del outer.graph.node[:]
    outer.graph.node.append(
        helper.make_node("If", ["flag"], names, "choice", then_branch=branches[0], else_branch=branches[1])
    )
    outer.graph.input.append(helper.make_tensor_value_info("flag", TensorProto.BOOL, []))
    return outer


def in_a_function(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The model's nodes in a function."""
    (inner,) = proto.graph.node
    outer = onnx.ModelProto()
    outer.CopyFrom(proto)
    inputs = list(dict.fromkeys(filter(None, inner.input)))
    function = helper.make_function("mine", "Wrapped", inputs, list(inner.output), [inner], proto.opset_import)
    outer.functions.append(function)
    del outer.graph.node[:]
    outer.opset_import.append(helper.make_opsetid("mine", 1))
    outer.graph.node.append(helper.make_node("Wrapped", inputs, list(inner.output), "wrapped", domain="mine"))
    return outer


@pytest.mark.parametrize("op", sorted(set(UPGRADES) & set(OPERATORS)))
def test_rules_work_in_subgraphs_and_functions(tmp_path: Path, op: str) -> None:
    """The runtime, too, has to run the branch and the function."""
    tried = {version_of(op, opset): (case, opset) for case, opset in calls(op, rewritten=True) if given(case, opset)}
    assert tried or op == "MeanVarianceNormalization"  # which is refused
    for case, opset in tried.values():
        wanted = outputs(case.model(opset), case.feeds())
        found = loaded(in_a_branch(case.model(opset)), tmp_path)
        same(outputs(found, {**case.feeds(), "flag": np.array(True)}), wanted, (case, opset))
        found = loaded(in_a_function(case.model(opset)), tmp_path)
        same(outputs(found, case.feeds()), wanted, (case, opset))


def test_every_version_of_every_operator_has_run() -> None:
    ran: set[tuple[str, int]] = set()
    for case in CASES:
        for opset in case.opsets():
            version = (case.op, version_of(case.op, opset))
            if version not in ran and given(case, opset) is not None:
                ran.add(version)
    known = {each.name for each in onnx.defs.get_all_schemas_with_history() if not each.domain}
    for op in sorted(known - WITHOUT_CASE):
        versions = versions_of(op)
        in_force = {a for a, b in zip(versions, [*versions[1:], NEWEST + 1], strict=True) if b > OLDEST}
        missing = in_force - {version for name, version in ran if name == op}
        assert missing == {version for name, version in WITHOUT_KERNEL if name == op}, op


def test_the_case_of_the_bug_reports(tmp_path: Path) -> None:
    """Resize-10 and Upsample-9 interpolate from the corner; later versions from the middle by default."""
    for op, opset in (("Resize", 10), ("Upsample", 9)):
        case = OperatorCase(op, (floats(1, 2, 4, 4), fixed([1.0, 1.0, 2.0, 2.0])), {"mode": "linear"})
        found = loaded(case.model(opset), tmp_path)
        (resize,) = (each for each in found.graph.node if each.op_type == "Resize")
        assert helper.get_node_attr_value(resize, "coordinate_transformation_mode") == b"asymmetric"
        assert resize.name == "the_op"


def refusal(proto: onnx.ModelProto, folder: Path) -> str:
    with pytest.raises(UnsupportedModelError) as caught:
        loaded(proto, folder)
    return str(caught.value)


def test_an_operator_that_cannot_be_rewritten_is_named(tmp_path: Path) -> None:
    text = refusal(training().model(9), tmp_path)
    assert (
        "m.onnx: node 'the_op' (BatchNormalization) of opset 9 cannot be written in opset 21: it gives the st" in text
    )
    assert text.endswith("; export the model with opset 21")
    broadcasting = OperatorCase("Add", (floats(2, 3), floats(3)), {"axis": 1, "broadcast": 1})
    assert "node 'the_op' (Add) of opset 6 cannot be written" in refusal(broadcasting.model(6), tmp_path)


def test_operators_that_an_opset_has_not_are_named(tmp_path: Path) -> None:
    text = refusal(OperatorCase("Mish", (floats(2, 3),)).model(13), tmp_path)
    assert "node 'the_op' (Mish) is not an operator of opset 13 (ONNX has it from opset 18 on)" in text
    text = refusal(OperatorCase("Upsample", (floats(1, 1, 2, 2), fixed([1.0, 1.0, 2.0, 2.0]))).model(11), tmp_path)
    assert "(ONNX has it from opset 1 to 9)" in text
    text = refusal(OperatorCase("Relu", (floats(2, 3),)).model(NEWEST + 1), tmp_path)
    assert f"opset {NEWEST + 1} is newer than the installed onnx, which knows {NEWEST}" in text


@pytest.mark.parametrize(("opset", "own"), [(17, 11), (11, 17), (21, 9)])
def test_functions_of_another_opset(tmp_path: Path, opset: int, own: int) -> None:
    """The runtime reads its nodes as of the model's opset, where Softmax has another meaning; Abs has not."""
    proto = in_a_function(OperatorCase("Softmax", (floats(2, 3, 4),), {"axis": 1}).model(opset))
    proto.functions[0].opset_import[0].version = own
    with pytest.raises(
        UnsupportedModelError, match=rf"\(Softmax\) in function 'Wrapped', of opset {own}, is another op"
    ):
        loaded(proto, tmp_path)
    x = floats(2, 3, 4)
    proto = in_a_function(OperatorCase("Abs", (x,)).model(opset))
    proto.functions[0].opset_import[0].version = own
    found = loaded(proto, tmp_path)
    assert [each.op_type for each in found.graph.node] == ["Abs"]
    np.testing.assert_array_equal(run(found, x)[0], run(proto, x)[0])


def training() -> OperatorCase:
    constants = [fixed(floats(3)) for _ in range(3)] + [fixed(floats(3) ** 2 + 1)]
    return OperatorCase("BatchNormalization", (floats(4, 3, 5), *constants), outputs=5)


@pytest.mark.parametrize("opset", [7, 9, 11, 13])
def test_further_outputs_of_a_normalisation_were_its_training_mode(tmp_path: Path, opset: int) -> None:
    case = training()
    proto = case.model(opset)
    del proto.graph.output[3:]
    found = loaded(proto, tmp_path)
    same(outputs(found, case.feeds()), outputs(proto, case.feeds()), opset)
    assert helper.get_node_attr_value(found.graph.node[0], "training_mode") == 1


def test_names_that_a_rule_makes_up_are_new(tmp_path: Path) -> None:
    nodes = [
        node("Softmax", "x", "s", "act", axis=1),
        node("Neg", "s", "s/rows", "act/flatten"),
        node("Abs", "s/rows", "s/flatten", "act/shape"),
    ]
    proto = build(nodes, {"x": [2, 3, 4]}, {"s/flatten": [2, 3, 4]}, {}, opset=11)
    x = floats(2, 3, 4)
    same(outputs(loaded(proto, tmp_path), {"x": x}), outputs(proto, {"x": x}), "names")


def test_the_targets() -> None:
    assert TARGET_OPSET == 21
    assert all(since <= TARGET_OPSET or op in ("Scatter", "Upsample") for op, (since, _) in UPGRADES.items())
    assert gs.import_onnx(CASES[0].model(17)).opset == 17


@pytest.mark.parametrize("op", OPERATORS)
def test_inferred_shapes_are_those_of_the_runtime(op: str) -> None:
    """In every version, and whether constants are known or not."""
    for case, opset in calls(op):
        for each in (case, case.thawed()):
            found = given(each, opset)
            for value, array in zip(with_shapes(each.model(opset)).graph.output, found or [], strict=False):
                kind = value.type.tensor_type
                assert not kind.elem_type or helper.tensor_dtype_to_np_dtype(kind.elem_type) == array.dtype
                if kind.HasField("shape"):
                    sizes = [size.dim_value if size.HasField("dim_value") else None for size in kind.shape.dim]
                    assert len(sizes) == array.ndim, (each, opset)
                    assert all(one in (None, size) for one, size in zip(sizes, array.shape, strict=True)), (each, opset)

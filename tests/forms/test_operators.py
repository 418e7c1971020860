"""The function bodies on a stock onnxruntime, against maths.neuron. Counts compare exactly."""

import functools

import numpy as np
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from graphpass.forms import operators
from graphpass.forms.neurons import PARAMETERS
from graphpass.forms.operators import (
    COUNT_NEURON,
    FOLDED_NEURON,
    THRESHOLD_NEURON,
    THRESHOLD_TRAIN,
    TIME_MEAN,
    TIME_REPEAT,
    TRAIN_NEURON,
)
from graphpass.graph.domains import SPIKING_DOMAIN
from graphpass.maths.neuron import CODINGS, Neuron, ThresholdNeuron, count_of, levels_of, spike_train, time_mean

TYPES = {"float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16, "bfloat16": TensorProto.BFLOAT16}
DTYPES = {"float32": np.float32, "float16": np.float16}
PARTS = ("threshold", "shift", "amplitude", "offset")
CASES = [(time_steps, coding) for coding in CODINGS for time_steps in range(1, 9)]


@functools.cache
def session(op, shape, dtype, opset, **attributes):
    """One operator over the body of its function; the parameters are inputs."""
    coding = attributes["coding"]
    wanted = PARAMETERS.get(op, 0)
    inputs = [helper.make_tensor_value_info("x", TYPES[dtype], [None, *shape])]
    inputs += [helper.make_tensor_value_info(part, TensorProto.FLOAT, None) for part in PARTS[:wanted]]
    nodes = [helper.make_node(op, [each.name for each in inputs], ["y"], domain=SPIKING_DOMAIN, **attributes)]
    kind = TensorProto.UINT8 if op == COUNT_NEURON else TYPES[dtype]
    graph = helper.make_graph(nodes, "one", inputs, [helper.make_tensor_value_info("y", kind, None)])
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", opset), operators.opset_import()],
        functions=operators.functions(coding, opset),
        ir_version=10,
    )
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def call(op, x, *parameters, opset=21, **attributes):
    names = ["x", *PARTS[: len(parameters)]]
    return session(op, x.shape[1:], str(x.dtype), opset, **attributes).run(
        None, dict(zip(names, (x, *parameters), strict=True))
    )[0]


BODIES = [("float32", 15), ("float32", 17), ("float32", 21), ("float16", 21)]


def attributes_of(time_steps, coding):
    return {"time_steps": time_steps, "levels": levels_of(time_steps, coding), "coding": coding}


def cell(rng, levels, shape=(3, 1, 1)):
    """Neurons of which about half of standard normal inputs fall between the ends."""
    threshold = rng.uniform(1, 3, shape).astype(np.float32) / levels
    return Neuron(threshold, threshold / 2, *(rng.normal(size=shape).astype(np.float32) for _ in range(2)), levels)


def inputs(rng, shape, dtype):
    """Random numbers with every kind of special one, and the borders between counts of threshold 1/4."""
    x = rng.normal(0.5, 1, shape).astype(dtype)
    special = np.array([np.nan, np.inf, -np.inf, 0, -0.0, 0.125, 0.375, 6e4, -6e4, 6e-8], dtype)
    x.reshape(-1)[: len(special)] = special
    return x


@pytest.mark.parametrize(("kind", "opset"), BODIES)
@pytest.mark.parametrize(("time_steps", "coding"), CASES)
def test_folded_neuron(time_steps, coding, kind, opset):
    dtype = DTYPES[kind]
    rng = np.random.default_rng(time_steps)
    attributes = attributes_of(time_steps, coding)
    neuron = cell(rng, attributes["levels"])
    x = inputs(rng, (2, 3, 4, 5), dtype)
    fields = [getattr(neuron, part) for part in PARTS]
    y = call(FOLDED_NEURON, x, *fields, opset=opset, **attributes)
    assert y.dtype == dtype
    assert np.isnan(y[0, 0, 0, 0])
    # A·n + o in float32: the runtime may contract the two roundings into one
    tolerance = 2.0**-22 if dtype == np.float32 else 2.0**-10
    np.testing.assert_allclose(y, neuron.fire(x), rtol=tolerance, atol=tolerance)
    plain = [*fields[:2], np.ones_like(fields[2]), np.zeros_like(fields[3])]
    counts = call(FOLDED_NEURON, x, *plain, opset=opset, **attributes)
    np.testing.assert_array_equal(np.nan_to_num(counts, nan=0), neuron.count(x))
    counts = call(COUNT_NEURON, x, *fields[:2], opset=opset, **attributes)
    assert counts.dtype == np.uint8
    np.testing.assert_array_equal(counts, neuron.count(x))


@pytest.mark.parametrize(("kind", "opset"), BODIES)
@pytest.mark.parametrize(("time_steps", "coding"), CASES)
def test_train_neuron(time_steps, coding, kind, opset):
    """From one current for all steps, and from a current a step: the same train, spikes exactly 0 or 1."""
    dtype = DTYPES[kind]
    rng = np.random.default_rng(time_steps)
    attributes = attributes_of(time_steps, coding)
    neuron = cell(rng, attributes["levels"])
    x = inputs(rng, (2, 3, 4, 5), dtype)
    train = call(TRAIN_NEURON, x, neuron.threshold, neuron.shift, opset=opset, input_steps=1, **attributes)
    assert train.dtype == dtype
    assert train.shape == (time_steps * 2, 3, 4, 5)
    np.testing.assert_array_equal(train.reshape(time_steps, *x.shape), spike_train(neuron.count(x), time_steps, coding))

    # multiples of 1/16: the mean over 2^k − 1 or T steps rounds, so compare with the same mean in float32
    currents = (rng.integers(-16, 32, (time_steps, 2, 3, 4, 5)) / 16).astype(dtype)
    flat = currents.reshape(-1, 3, 4, 5)
    mean = call(TIME_MEAN, flat.astype(np.float32), opset=opset, time_steps=time_steps, coding=coding)
    # weights and product are summed in another order than in numpy: 8 roundings of values up to 2
    np.testing.assert_allclose(mean, time_mean(currents, coding), rtol=0, atol=2e-6)
    train = call(TRAIN_NEURON, flat, neuron.threshold, neuron.shift, opset=opset, input_steps=time_steps, **attributes)
    np.testing.assert_array_equal(
        train.reshape(time_steps, *x.shape), spike_train(neuron.count(mean), time_steps, coding)
    )


@pytest.mark.parametrize(("kind", "opset"), BODIES)
@pytest.mark.parametrize(("time_steps", "coding"), CASES)
@pytest.mark.parametrize("along", [(3, 1, 1), (1,)])
def test_thresholds_of_every_step(along, time_steps, coding, kind, opset):
    dtype, rng, attributes = DTYPES[kind], np.random.default_rng(time_steps), attributes_of(time_steps, coding)
    rising = np.sort(rng.normal(0.5, 1, (attributes["levels"] - 1, *along)), axis=0).astype(np.float32)
    falling = rising[:1] - np.cumsum(rng.uniform(0, 1, rising.shape), axis=0).astype(np.float32)
    falling[len(falling) // 2 :] = -np.inf
    neuron = ThresholdNeuron(rising, falling, *rng.normal(size=(2, *along)).astype(np.float32))
    x = inputs(rng, (2, 3, 4, 5), dtype)
    parts = [neuron.rising, neuron.falling, neuron.amplitude, neuron.offset]
    y = call(THRESHOLD_NEURON, x, *parts, opset=opset, **attributes)
    assert y.dtype == dtype
    tolerance = 2.0**-22 if dtype == np.float32 else 2.0**-10
    np.testing.assert_allclose(y, neuron.fire(x), rtol=tolerance, atol=tolerance)
    counts = call(
        THRESHOLD_NEURON, x, *parts[:2], np.ones(1, np.float32), np.zeros(1, np.float32), opset=opset, **attributes
    )
    np.testing.assert_array_equal(np.nan_to_num(counts, nan=0), neuron.count(x))
    train = call(THRESHOLD_TRAIN, x, *parts[:2], opset=opset, input_steps=1, **attributes)
    np.testing.assert_array_equal(train.reshape(time_steps, *x.shape), spike_train(neuron.count(x), time_steps, coding))


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
@pytest.mark.parametrize(("time_steps", "coding"), CASES)
def test_repeat_then_mean_and_count_then_mean(time_steps, coding, dtype):
    """TimeMean undoes TimeRepeat; of a train it is the count by the largest count."""
    rng = np.random.default_rng(0)
    over_time = {"time_steps": time_steps, "coding": coding}
    x = rng.normal(size=(2, 3, 5)).astype(dtype)
    repeated = call(TIME_REPEAT, x, **over_time)
    np.testing.assert_array_equal(repeated, np.tile(x, (time_steps, 1, 1)))
    # the weighted sum rounds in float32, then to the type of x
    tolerance = 1e-6 if dtype == np.float32 else 2.0**-11
    np.testing.assert_allclose(call(TIME_MEAN, repeated, **over_time), x, rtol=tolerance, atol=0)
    levels = levels_of(time_steps, coding)
    n = rng.integers(0, levels, (2, 3, 5))
    train = spike_train(n, time_steps, coding).astype(dtype).reshape(-1, 3, 5)
    np.testing.assert_allclose(call(TIME_MEAN, train, **over_time), n / (levels - 1), rtol=tolerance)


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (7, 4), (2, 6, 5), (9,)])
def test_parameters_on_any_axis(shape, coding):
    attributes = attributes_of(4, coding)
    for axis in (None, *range(1, len(shape))):
        rng = np.random.default_rng(1)
        wide = [1] * len(shape)
        if axis is not None:
            wide[axis] = shape[axis]
        neuron = cell(rng, attributes["levels"], wide if axis is not None else (1,))
        x = rng.normal(0.5, 1, shape).astype(np.float32)
        y = call(FOLDED_NEURON, x, *(getattr(neuron, part) for part in PARTS), **attributes)
        # as in test_folded_neuron
        np.testing.assert_allclose(y, neuron.fire(x), rtol=2.0**-22, atol=2.0**-22)
        train = call(TRAIN_NEURON, x, neuron.threshold, neuron.shift, input_steps=1, **attributes)
        np.testing.assert_array_equal(count_of(train.reshape(4, *shape), coding), neuron.count(x))


@pytest.mark.parametrize("coding", CODINGS)
def test_special_numbers_in_a_train(coding):
    neuron = Neuron(*(np.float32([v]) for v in (0.25, 0.125, 1, 0)), levels_of(4, coding))
    x = np.array([[np.nan, np.inf, -np.inf, 0.125, 0.124999]], np.float32)
    train = call(TRAIN_NEURON, x, neuron.threshold, neuron.shift, input_steps=1, **attributes_of(4, coding))
    assert count_of(train.reshape(4, 1, 5), coding).tolist() == [[0, neuron.levels - 1, 0, 1, 0]]


def test_the_folded_neuron_of_an_empty_batch():
    neuron = cell(np.random.default_rng(0), 5)
    fields = [getattr(neuron, part) for part in PARTS]
    assert call(FOLDED_NEURON, np.zeros((0, 3, 4, 5), np.float32), *fields, **attributes_of(4, "rate")).shape == (
        0,
        3,
        4,
        5,
    )


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("op", [TRAIN_NEURON, TIME_MEAN, TIME_REPEAT])
@pytest.mark.parametrize("inner", [(3, 4), (0, 4), (3, 0)])
@pytest.mark.parametrize("batch", [0, 8])
def test_the_steps_of_an_empty_tensor(batch, inner, op, coding):
    over_time = {"time_steps": 4, "coding": coding}
    x = np.zeros((batch, *inner), np.float32)
    if op == TRAIN_NEURON:
        one = np.ones(1, np.float32)
        y = call(op, x, one, one, input_steps=1, levels=levels_of(4, coding), **over_time)
    else:
        y = call(op, x, **over_time)
    assert y.shape == (batch // 4 if op == TIME_MEAN else batch * 4, *inner)


@pytest.mark.parametrize("coding", CODINGS)
def test_bfloat16(coding):
    """onnxruntime hands no bfloat16 to numpy, so the type is cast inside the model."""
    attributes = attributes_of(3, coding)
    neuron = cell(np.random.default_rng(0), attributes["levels"], (1,))
    constants = [numpy_helper.from_array(getattr(neuron, part), part) for part in PARTS]
    nodes = [
        helper.make_node("Cast", ["x32"], ["x"], to=TensorProto.BFLOAT16),
        helper.make_node(FOLDED_NEURON, ["x", *PARTS], ["y"], domain=SPIKING_DOMAIN, **attributes),
        helper.make_node(TRAIN_NEURON, ["x", *PARTS[:2]], ["s"], domain=SPIKING_DOMAIN, input_steps=1, **attributes),
        helper.make_node("Cast", ["y"], ["y32"], to=TensorProto.FLOAT),
        helper.make_node("Cast", ["s"], ["s32"], to=TensorProto.FLOAT),
    ]
    graph = helper.make_graph(
        nodes,
        "bfloat16",
        [helper.make_tensor_value_info("x32", TensorProto.FLOAT, [None, 4])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("y32", "s32")],
        constants,
    )
    opsets = [helper.make_opsetid("", 21), operators.opset_import()]
    model = helper.make_model(graph, opset_imports=opsets, functions=operators.functions(coding, 21), ir_version=10)
    # multiples of 1/8 are bfloat16 numbers
    x = np.arange(-8, 16, dtype=np.float32).reshape(6, 4) / 8
    one = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    y, train = one.run(None, {"x32": x})
    np.testing.assert_array_equal(count_of(train.reshape(3, 6, 4), coding), neuron.count(x))
    np.testing.assert_allclose(y, neuron.fire(x), rtol=2.0**-8)  # bfloat16 keeps 8 bits


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("opset", [15, 18, 21, 23])
def test_every_operator_has_a_body_of_standard_operators(coding, opset):
    functions = operators.functions(coding, opset)
    assert {each.name for each in functions} == {
        FOLDED_NEURON,
        COUNT_NEURON,
        TRAIN_NEURON,
        THRESHOLD_NEURON,
        THRESHOLD_TRAIN,
        TIME_MEAN,
        TIME_REPEAT,
    }
    for function in functions:
        assert function.domain == SPIKING_DOMAIN
        assert [(entry.domain, entry.version) for entry in function.opset_import] == [("", opset)]
        assert {node.domain for node in function.node} == {""}


@pytest.mark.parametrize("coding", CODINGS)
def test_float_constants_have_a_type(coding):
    """Tools that read `value_float` as a number of Python write it back as float64, as onnxslim does."""
    values = [
        each
        for function in operators.functions(coding, 21)
        for node in function.node
        if node.op_type == "Constant"
        for each in node.attribute
    ]
    assert {each.name for each in values} == {"value", "value_int", "value_ints"}
    tensors = {each.t.data_type for each in values if each.name == "value"}
    assert tensors == {TensorProto.FLOAT, TensorProto.BOOL}

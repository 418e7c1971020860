"""The CUDA kernels and whole networks on a GPU: `scripts/test -m cuda`. Skipped without one."""

import functools
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from hypothesis import given
from onnx import numpy_helper

import graphpass
from graphpass.forms.operators import TIME_REPEAT
from graphpass.runtime import native
from graphpass.runtime.session import open_session
from tests.properties import examples
from tests.runtime.test_native import (
    X,
    call,
    cases,
    check_neurons_and_counts,
    check_threshold_neurons,
    check_trains,
    equal,
    model,
    threshold_cases,
)

CUDA = "CUDAExecutionProvider"
GPU = (CUDA, "CPUExecutionProvider")
EXAMPLE = Path(__file__).parents[3] / "examples" / "fashion_mnist"


@functools.cache
def has_gpu() -> bool:
    """Whether a session starts on CUDA: onnxruntime lists its GPUs as devices only in some of its builds."""
    if CUDA not in native.providers() or CUDA not in ort.get_available_providers():
        return False
    options = ort.SessionOptions()
    options.log_severity_level = 4
    nothing = model(TIME_REPEAT, np.float32, (), time_steps=1, coding="rate")
    options.register_custom_ops_library(str(native.library()))
    session = ort.InferenceSession(nothing.SerializeToString(), options, providers=GPU)
    return bool(session.get_providers()[0] == CUDA)


pytestmark = [pytest.mark.cuda, pytest.mark.skipif(not has_gpu(), reason="no NVIDIA GPU, or no CUDA kernels")]


@given(cases())
@examples(200)
def test_neurons_and_counts_bit_for_bit(case):
    check_neurons_and_counts(case, providers=GPU)


@given(cases())
@examples(200)
def test_trains_bit_for_bit(case):
    check_trains(case, providers=GPU)


@given(threshold_cases())
@examples(200)
def test_thresholds_of_every_step_bit_for_bit(case):
    check_threshold_neurons(case, providers=GPU)


def test_repeating():
    equal(call("TimeRepeat", X, providers=GPU, time_steps=3, coding="rate"), np.tile(X, (3, 1, 1)))


@pytest.mark.parametrize("form", ["folded", "unrolled"])
def test_a_whole_network(form):
    """Sums of the convolutions differ between the providers, which flips a count now and then."""
    done = graphpass.convert(
        EXAMPLE / "fashion_mnist.onnx", EXAMPLE / "calibration.npz", time_steps=8, form=form, method="max"
    )
    with np.load(EXAMPLE / "evaluation.npz") as data:
        feeds = {name: data[name] for name in data.files if name != "labels"}
    gpu, cpu = open_session(done.proto, GPU), open_session(done.proto)
    assert gpu.neurons == "native"
    assert gpu.get_providers()[0] == CUDA
    ours, theirs = (session.run(None, feeds)[0] for session in (gpu, cpu))
    assert (ours.argmax(1) == theirs.argmax(1)).mean() > 0.99


def test_float16_parameters_stay_float32():
    """The converted network of a float16 network keeps float32 thresholds: kernels take no other."""
    done = graphpass.convert(
        EXAMPLE / "fashion_mnist.onnx", EXAMPLE / "calibration.npz", time_steps=4, method="max", precision="float16"
    )
    stored = done.proto.graph.initializer
    kinds = {numpy_helper.to_array(each).dtype for each in stored if "threshold" in each.name}
    assert kinds == {np.dtype(np.float32)}
    assert np.float16 in {numpy_helper.to_array(each).dtype for each in stored}

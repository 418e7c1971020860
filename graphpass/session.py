"""The only module that opens onnxruntime sessions, with the native operators where they cover the providers."""

import tempfile
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray

from graphpass import native
from graphpass.datasets.parts import InputSpec
from graphpass.errors import SessionError
from graphpass.graph.model import LARGEST_PROTOBUF, save

CPU = "CPUExecutionProvider"
_NUMPY = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(float16)": np.float16,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(int16)": np.int16,
    "tensor(int8)": np.int8,
    "tensor(uint8)": np.uint8,
    "tensor(uint16)": np.uint16,
    "tensor(uint32)": np.uint32,
    "tensor(uint64)": np.uint64,
    "tensor(bool)": np.bool_,
}


class ProviderWarning(UserWarning):
    """An execution provider that was asked for is not the one that runs, or has no native neurons."""


class Session(ort.InferenceSession):  # type: ignore[misc]
    """An onnxruntime session that knows what its neurons run as.

    neurons: "native", the kernels of graphpass's library, or "function bodies" of standard operators; the same for
    every neuron of the session.
    """

    neurons: str


def open_session(
    model: str | Path | onnx.ModelProto,
    providers: Sequence[str] | None = None,
    threads: int = 0,
    use_native: bool = True,
) -> Session:
    """A session over a model file or proto.

    providers: in order of preference; default the CPU. threads: intra-op threads, 0 for all cores. use_native: register
    the library of native operators where there is one and it has kernels for the first provider.
    Raises SessionError when onnxruntime cannot load the model; warns (ProviderWarning) when a provider that was asked
    for is not used, which onnxruntime itself only logs, and when the library is there but not for that provider.
    """
    wanted = list(providers or [CPU])
    unknown = [name for name in wanted if name not in ort.get_available_providers()]
    if unknown:
        raise SessionError(
            f"execution provider {unknown[0]!r} is not in this onnxruntime",
            f"choose from {', '.join(ort.get_available_providers())}, or run `graphpass doctor`",
        )
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads
    registered = use_native and native.covers(wanted[0])
    if registered:
        options.register_custom_ops_library(str(native.library()))
    try:
        session = _create(model, options, wanted)
    except Exception as error:  # onnxruntime raises a dozen pybind exception types without a common base
        name = model if isinstance(model, str | Path) else "the model"
        raise SessionError(f"{name}: onnxruntime cannot load it ({_line(error)})", "see `graphpass doctor`") from error
    session.neurons = "native" if registered else "function bodies"
    if session.get_providers()[0] != wanted[0]:
        warnings.warn(
            f"{wanted[0]} could not be started, {session.get_providers()[0]} runs instead",
            ProviderWarning,
            stacklevel=2,
        )
    elif use_native and native.library() and not registered:
        warnings.warn(
            f"the native operators have no kernels for {wanted[0]}, neurons run as function bodies; to build some for "
            "CUDA: GRAPHPASS_CUDA=ON pip install --force-reinstall graphpass",
            ProviderWarning,
            stacklevel=2,
        )
    return session


def _create(model: str | Path | onnx.ModelProto, options: ort.SessionOptions, providers: list[str]) -> Session:
    if isinstance(model, str | Path):
        return Session(str(model), options, providers)
    if model.ByteSize() < LARGEST_PROTOBUF:
        return Session(model.SerializeToString(), options, providers)
    with tempfile.TemporaryDirectory(prefix="graphpass-") as folder:
        save(model, path := Path(folder) / "model.onnx")
        return Session(str(path), options, providers)


def input_specs(session: ort.InferenceSession) -> tuple[InputSpec, ...]:
    """Names, dtypes and shapes of a model's inputs; None for free dimensions.

    Raises SessionError for inputs that are not numeric tensors.
    """
    specs = []
    for value in session.get_inputs():
        if value.type not in _NUMPY:
            raise SessionError(f"input {value.name!r} is a {value.type}, not a numeric tensor")
        shape = tuple(size if isinstance(size, int) and size > 0 else None for size in value.shape)
        specs.append(InputSpec(value.name, np.dtype(_NUMPY[value.type]), shape))
    return tuple(specs)


def fixed_batch(specs: Sequence[InputSpec]) -> int | None:
    """The batch size a model insists on, None where it is free."""
    sizes = {spec.shape[0] for spec in specs if spec.shape} - {None}
    return sizes.pop() if len(sizes) == 1 else None


def run(
    session: ort.InferenceSession, inputs: Mapping[str, NDArray[Any]], names: Sequence[str] | None = None
) -> dict[str, NDArray[Any]]:
    """Outputs by name. Raises SessionError with the runtime's own words, which name the failing node."""
    names = list(names) if names is not None else [value.name for value in session.get_outputs()]
    try:
        values = session.run(names, dict(inputs))
    except Exception as error:  # as above: no common base
        raise SessionError(
            f"onnxruntime failed ({_line(error)})", "check the data against `graphpass inspect`"
        ) from error
    return dict(zip(names, values, strict=True))


def run_padded(
    session: ort.InferenceSession,
    inputs: Mapping[str, NDArray[Any]],
    batch: int | None,
    names: Sequence[str] | None = None,
) -> dict[str, NDArray[Any]]:
    """As run, for a model of fixed batch: a short batch is filled up with its last sample and the outputs cut back."""
    size = len(next(iter(inputs.values())))
    if batch is None or size == batch:
        return run(session, inputs, names)
    if size > batch:
        raise SessionError(f"{size} samples do not fit a model of fixed batch {batch}", "run them in smaller batches")
    outputs = run(session, pad_inputs(inputs, batch), names)
    return {name: value[:size] if value.ndim and len(value) == batch else value for name, value in outputs.items()}


def pad_inputs(inputs: Mapping[str, NDArray[Any]], batch: int | None) -> dict[str, NDArray[Any]]:
    """Every input filled up to a fixed batch with its last sample; as they are where the batch is free."""
    if batch is None:
        return dict(inputs)
    return {name: values if len(values) == batch else pad_batch(values, batch) for name, values in inputs.items()}


def pad_batch(values: NDArray[Any], batch: int) -> NDArray[Any]:
    """The array with its last sample repeated up to `batch` samples."""
    return np.concatenate([values, np.repeat(values[-1:], batch - len(values), axis=0)])


def _line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:400]

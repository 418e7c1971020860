"""The only module that opens onnxruntime sessions, with the native operators where they cover the providers."""

import functools
import re
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray

from graphpass.datasets.parts import InputSpec
from graphpass.errors import OptionError, SessionError, says_no_memory
from graphpass.graph.model import Source, save_apart
from graphpass.graph.stubs import WEIGHTS, with_external_weights
from graphpass.graph.tensors import LARGE, fits_a_message, graphs_of, walk
from graphpass.runtime import native, tables
from graphpass.runtime import nchwc as blocked
from graphpass.runtime.heap import tidy
from graphpass.runtime.nchwc import NotBlocked
from graphpass.runtime.providers import CPU, CUDA, TF32, Provider, Providers, providers_of
from graphpass.wording import counted

MORE_MEMORY = "there was not enough memory: run fewer samples at a time, or take more memory"
LARGEST_IN_BYTES = 2**25  # of a model; onnxruntime holds the bytes of one three times over while it opens
LARGEST_BLOCKED = 2**30  # bytes of a model; its weights are written twice to temporary files
# CUDA has no kernels for layers of integers: without this, their weights would be made floats at every run.
NO_INTEGER_LAYERS = ("session.disable_quant_qdq", "1")
TYPED = frozenset(["value", "to"])  # attributes of Constant and Cast that say what type is made
HARMFUL = "MatmulTransposeFusion"  # onnxruntime 1.32 dies in it, of a float16 MatMul behind Transpose(1, 0, 2)
# in the words of onnxruntime: its codes, where it failed in its own source, and the calls that led there
NOISE = re.compile(
    r"\[ONNXRuntimeError\] : \d+ : \w+ : |/\S*onnxruntime\S*:\d+ \S[^()]*\([^)]*\) (?:const )?|\s*Stacktrace:.*"
)
LISTED = 4  # inputs whose shapes an error names
ROUNDS = 6  # of optimising with stand-ins, at most, until all of them stay in blocks
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
    """Another execution provider runs than the one that was asked for, or it has no native neurons."""


class Session(ort.InferenceSession):  # type: ignore[misc]
    """An onnxruntime session that knows what its neurons run as.

    neurons: "native", the kernels of graphpass's library, or "function bodies" of standard operators; the same for
    every neuron of the session.
    layout: "blocked" where neurons work in the layout in which onnxruntime convolves on the CPU, which saves reordering
    around them; "plain" elsewhere. reason: why the layout is plain, or how many neurons work in blocks.
    tables: how many chains of nodes from uint8 to uint8, value by value, are looked up in tables.
    tf32: whether a GPU may round the operands of float32 products to TF32; only if the options of CUDA ask for it.
    """

    neurons: str
    layout: str = "plain"
    reason: str = ""
    tables: int = 0
    tf32: bool = False

    def set_providers(self, providers: Any = None, provider_options: Any = None) -> None:
        """Not supported. Raises OptionError: a session does not keep the model that it would have to read again."""
        raise OptionError("a session cannot change its providers", "open another one: open_session(model, providers)")


def open_session(
    model: str | Path | onnx.ModelProto | Source,
    providers: Providers | None = None,
    threads: int = 0,
    use_native: bool = True,
    use_blocked: bool = True,
    profile: Path | None = None,
) -> Session:
    """A session over a model file or proto; for a Source, over the model as it was given.

    providers: names, or pairs of a name and options, in order of preference; default the CPU. CUDA does not round
    float32 to TF32 unless its options say so (`use_tf32`). threads: intra-op threads, 0 for all cores. use_native:
    register the library of native operators where there is one and it has kernels for the first provider. use_blocked:
    let its neurons on the CPU work in the layout of onnxruntime's convolutions where that is possible, and look up what
    makes uint8 of uint8 in tables; the outputs are the same, opening takes longer (docs/native.md). profile: how the
    path of a profile begins, if one is wanted.
    Raises SessionError when onnxruntime cannot load the model, and when it does not take the options of a provider;
    warns (ProviderWarning) when a provider that was asked for is not used, which onnxruntime itself only logs, and when
    the library has no kernels for that provider.
    """
    name = str(model.path if isinstance(model, Source) else model if isinstance(model, str | Path) else "the model")
    model = model.proto if isinstance(model, Source) else model
    wanted = providers_of(providers)
    _require_available(wanted)
    first = wanted[0].name
    registered = use_native and native.covers(first)
    options = _options(threads, registered)
    if first == CUDA:
        options.add_session_config_entry(*NO_INTEGER_LAYERS)
    if profile:
        options.enable_profiling, options.profile_file_prefix = True, str(profile)
    try:
        if not (registered and use_blocked and wanted == (Provider(CPU),) and not profile):
            raise NotBlocked("only native neurons on the CPU alone work in blocks, unless use_blocked is False")
        return _rewritten_session(model, threads)
    except NotBlocked as why:
        reason = str(why)
    failed = ""
    try:
        session = _create(model, options, wanted)
    except Exception as error:  # onnxruntime raises a dozen pybind exception types without a common base
        failed = _line(error)
        if first == CPU or any(each.given for each in wanted):
            raise _unopened(name, failed, wanted) from error
    if failed:  # the provider, or the model; on the CPU the second is seen
        try:
            session = _create(model, options, (Provider(CPU),))
        except Exception as error:
            raise _unopened(name, _line(error), wanted) from error
    session.neurons, session.reason = "native" if registered else "function bodies", reason
    session.tf32 = session.get_provider_options().get(CUDA, {}).get(TF32) == "1"
    if session.get_providers()[0] != first:
        because = f" ({failed})" if failed else ""
        warnings.warn(
            f"{first} could not be started{because}, {session.get_providers()[0]} runs instead",
            ProviderWarning,
            stacklevel=2,
        )
    elif use_native and native.library() and not registered:
        warnings.warn(
            f"the native operators have no kernels for {first}, neurons run as function bodies; to build some for "
            "CUDA: GRAPHPASS_CUDA=ON pip install --force-reinstall --no-deps --no-binary graphpass graphpass",
            ProviderWarning,
            stacklevel=2,
        )
    return session


def _require_available(wanted: Sequence[Provider]) -> None:
    available = ort.get_available_providers()
    if unknown := next((each.name for each in wanted if each.name not in available), None):
        raise SessionError(
            f"execution provider {unknown!r} is not in this onnxruntime",
            f"choose from {', '.join(available)}, or run `graphpass doctor`",
        )


def _unopened(name: str, line: str, wanted: Sequence[Provider]) -> SessionError:
    """The error of a session that does not open. wanted: options of providers may be the cause."""
    given = "; ".join(f"{each.name}: {', '.join(each.given)}" for each in wanted if each.given)
    remedy = f"check the options of {given}" if given else "export the model again"
    remedy = MORE_MEMORY if says_no_memory(line) else f"{remedy}, or see `graphpass doctor`"
    return SessionError(f"{name}: onnxruntime cannot load it ({line})", remedy)


@contextmanager
def required(providers: Providers | None, remedy: str = "see `graphpass doctor`") -> Iterator[None]:
    """Inside, a session that cannot run on the provider raises OptionError instead of running on another one."""
    if not providers:
        yield
        return
    first = providers_of(providers)[0].name
    if first not in ort.get_available_providers():
        raise OptionError(f"provider: {first} is not in this onnxruntime", remedy)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", ".* could not be started", ProviderWarning)
        try:
            yield
        except ProviderWarning as warning:
            raise OptionError(f"provider: {warning}", remedy) from warning


def available_providers() -> tuple[str, ...]:
    """Execution providers that the installed onnxruntime has."""
    return tuple(ort.get_available_providers())


def _options(threads: int, registered: bool) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.log_severity_level = 4  # errors are raised, in one line
    options.intra_op_num_threads = threads
    if registered:
        options.register_custom_ops_library(str(native.library()))
    return options


def _rewritten_session(model: str | Path | onnx.ModelProto, threads: int) -> Session:
    """A session whose neurons work in blocks of channels, or one with tables in place of chains of uint8.

    Raises NotBlocked where neither is possible, whatever the cause: what onnxruntime makes of a model is internal to
    it, and the model can always run as it is. Large weights are in files meanwhile, so that the steps in between do not
    copy them, and the session maps the file of the weights that onnxruntime reordered.
    """
    try:
        if isinstance(model, onnx.ModelProto):
            fits = fits_a_message(model, LARGEST_BLOCKED)
        else:
            fits = Path(model).stat().st_size < LARGEST_BLOCKED
        if not fits:
            raise NotBlocked(f"the model is larger than {LARGEST_BLOCKED >> 20} MiB")
        if not isinstance(model, onnx.ModelProto):
            model = onnx.load(model, load_external_data=False)
        if any(value.data_location == onnx.TensorProto.EXTERNAL for value in model.graph.initializer):
            raise NotBlocked("the model has external data")
        small = fits_a_message(model, LARGEST_IN_BYTES)
        with nullcontext() if small else tidy(), tempfile.TemporaryDirectory(prefix="graphpass-") as temporary:
            folder = Path(temporary)
            if tables.has_chains(model):
                proto, count = _with_tables(model, folder)
                layout, told = "plain", f"{count} chains of uint8 run as tables"
            else:
                proto, told = _in_blocks(model, folder)
                layout, count = "blocked", 0
            path = folder / "rewritten.onnx"
            path.write_bytes(proto.SerializeToString())
            options = _options(threads, registered=True)
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
            session = Session(str(path), options, [CPU])
    except NotBlocked:
        raise
    except Exception as error:  # as in open_session; the session over the model as it is says what is wrong with it
        raise NotBlocked(_line(error)) from error
    session.neurons, session.layout, session.tables, session.reason = "native", layout, count, told
    return session


def _in_blocks(model: onnx.ModelProto, folder: Path) -> tuple[onnx.ModelProto, str]:
    """The optimised model with neurons in blocks of channels, and how many of what width. Raises NotBlocked.

    onnxruntime optimises the model twice, as the reference and with stand-ins.
    """
    parameters, block = blocked.candidates(model), _channel_block()
    model = blocked.named(with_external_weights(model, folder / WEIGHTS))
    reference, wanted = _optimised(model, folder), frozenset(parameters)
    for _ in range(ROUNDS):
        stand = blocked.stand_in(model, {name: parameters[name] for name in wanted}, reference)
        optimised = _optimised(stand.proto, folder)
        found = blocked.blocked_outputs(stand, optimised, block)
        if found == wanted:
            break
        wanted = found
    else:
        raise NotBlocked("onnxruntime does not settle on neurons in blocks")
    if not wanted:
        raise NotBlocked("onnxruntime convolves none of the neurons' inputs in blocks")
    if not blocked.same_arithmetic(reference, optimised):
        raise NotBlocked("onnxruntime would compute in another order around neurons in blocks")
    return blocked.finished(stand, optimised, block), f"{counted(len(wanted), 'neuron')} in blocks of {block}"


def _with_tables(model: onnx.ModelProto, folder: Path) -> tuple[onnx.ModelProto, int]:
    """The optimised model with tables in place of its chains of uint8, and how many. Raises NoTables."""
    optimised = _optimised(with_external_weights(model, folder / WEIGHTS), folder)
    chains = tables.chains_of(optimised)
    path = folder / "questions.onnx"
    path.write_bytes(tables.questions(optimised, chains).SerializeToString())
    options = _options(1, registered=False)
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    answers = run(ort.InferenceSession(str(path), options, [CPU]), {})
    return tables.with_tables(optimised, chains, answers)


def _optimised(proto: onnx.ModelProto, folder: Path) -> onnx.ModelProto:
    """The model as onnxruntime optimises it on this machine. Large weights, before and after, are in the folder."""
    given, made, weights = (folder / name for name in ("given.onnx", "optimised.onnx", "optimised.weights"))
    weights.unlink(missing_ok=True)  # of the model before
    given.write_bytes(proto.SerializeToString())
    options = _options(1, registered=True)
    options.optimized_model_filepath = str(made)
    options.add_session_config_entry("session.disable_prepacking", "1")
    options.add_session_config_entry("session.optimized_model_external_initializers_file_name", weights.name)
    options.add_session_config_entry("session.optimized_model_external_initializers_min_size_in_bytes", str(LARGE))
    ort.InferenceSession(str(given), options, [CPU], disabled_optimizers=_harmful(proto))
    return onnx.load(made, load_external_data=False)


@functools.cache
def _channel_block() -> int:
    """How many channels are in a block of onnxruntime's layout on this machine. Raises NotBlocked."""
    x = np.arange(128, dtype=np.float32).reshape(1, 64, 1, 2)
    session = ort.InferenceSession(blocked.reordering(64).SerializeToString(), _options(1, registered=False), [CPU])
    block = blocked.channel_block(x, session.run(None, {"x": x})[0])
    if not block:
        raise NotBlocked("onnxruntime has another layout than blocks of 8 or 16 channels on this machine")
    return block


def _create(model: str | Path | onnx.ModelProto, options: ort.SessionOptions, providers: Sequence[Provider]) -> Session:
    """Without onnxruntime's own fallback, which prints, and forgets the options."""
    pairs = [each.pair for each in providers]
    more = {"enable_fallback": 0, "disabled_optimizers": _harmful(model) if providers[0].name == CPU else []}
    if isinstance(model, str | Path):
        return Session(str(model), options, pairs, **more)
    if not fits_a_message(model, LARGEST_IN_BYTES):
        try:
            with tidy(), tempfile.TemporaryDirectory(prefix="graphpass-") as folder:
                return Session(str(save_apart(model, Path(folder))), options, pairs, **more)
        except OSError:  # no room for files
            if not fits_a_message(model):
                raise
    session = Session(model.SerializeToString(), options, pairs, **more)
    session._model_bytes = None  # onnxruntime keeps them for `set_providers`: as much memory again as the weights
    return session


def _harmful(model: str | Path | onnx.ModelProto) -> list[str]:
    """The optimisers that onnxruntime has to do without on the CPU, or it dies: HARMFUL, where a model has float16."""
    if not isinstance(model, onnx.ModelProto):
        try:
            model = onnx.load(model, format="protobuf", load_external_data=False)
        except Exception:  # of many types; onnxruntime says what is wrong with the file
            return []
    held = {value.data_type for graph in graphs_of(model.graph) for value in graph.initializer}
    given = {value.type.tensor_type.elem_type for value in model.graph.input}
    made = {each.t.data_type or each.i for node in walk(model.graph) for each in node.attribute if each.name in TYPED}
    return [HARMFUL] if onnx.TensorProto.FLOAT16 in held | given | made else []


def input_specs(model: ort.InferenceSession | onnx.ModelProto | Source) -> tuple[InputSpec, ...]:
    """Names, dtypes and shapes of a model's inputs; None for free dimensions. No session is opened for a model.

    Raises SessionError for inputs that are not numeric tensors.
    """
    if isinstance(model, ort.InferenceSession):
        found = [(value.name, value.type, value.shape) for value in model.get_inputs()]
    else:
        graph = (model.proto if isinstance(model, Source) else model).graph
        weights = {tensor.name for tensor in (*graph.initializer, *(each.values for each in graph.sparse_initializer))}
        found = [(value.name, *_type_of(value)) for value in graph.input if value.name not in weights]
    specs = []
    for name, kind, sizes in found:
        if kind not in _NUMPY:
            raise SessionError(f"input {name!r} is a {kind}, not a numeric tensor")
        shape = tuple(size if isinstance(size, int) and size > 0 else None for size in sizes)
        specs.append(InputSpec(name, np.dtype(_NUMPY[kind]), shape))
    return tuple(specs)


def _type_of(value: onnx.ValueInfoProto) -> tuple[str, list[int]]:
    """The type as onnxruntime names it, and the sizes, 0 for free ones."""
    tensor, kind = value.type.tensor_type, value.type.WhichOneof("value") or "value of unknown type"
    if kind != "tensor_type":
        return kind.removesuffix("_type"), []
    name = onnx.TensorProto.DataType.Name(tensor.elem_type).lower()
    return f"tensor({name})", [size.dim_value for size in tensor.shape.dim]


def fixed_batch(specs: Sequence[InputSpec]) -> int | None:
    """The batch size that a model requires, None where it is free."""
    sizes = {spec.shape[0] for spec in specs if spec.shape} - {None}
    return sizes.pop() if len(sizes) == 1 else None


def run(
    session: ort.InferenceSession, inputs: Mapping[str, NDArray[Any]], names: Sequence[str] | None = None
) -> dict[str, NDArray[Any]]:
    """Outputs by name. Raises SessionError with the runtime's own words, which name the failing node."""
    names = list(names) if names is not None else [value.name for value in session.get_outputs()]
    if not names:  # which onnxruntime would take for all
        return {}
    try:
        values = session.run(names, dict(inputs))
    except Exception as error:  # as above: no common base
        line = _line(error, None)  # shapes are named last
        remedy = MORE_MEMORY if says_no_memory(line) else "check the data against `graphpass inspect`"
        given = ", ".join(f"{name} {list(np.shape(values))}" for name, values in [*inputs.items()][:LISTED])
        raise SessionError(f"onnxruntime failed{given and f' on {given}'} ({line})", remedy) from error
    return dict(zip(names, values, strict=True))


def pad_inputs(inputs: Mapping[str, NDArray[Any]], batch: int | None) -> dict[str, NDArray[Any]]:
    """Every input, filled up to a fixed batch with its last sample; unchanged where the batch is free."""
    if batch is None:
        return dict(inputs)
    return {name: values if len(values) == batch else pad_batch(values, batch) for name, values in inputs.items()}


def pad_batch(values: NDArray[Any], batch: int) -> NDArray[Any]:
    """The array with its last sample repeated up to `batch` samples."""
    return np.concatenate([values, np.repeat(values[-1:], batch - len(values), axis=0)])


def _line(error: Exception, lines: int | None = 1) -> str:
    """The runtime's own words, of so many of their lines, without its error codes and the places in its source."""
    words = " ".join(str(error).strip().splitlines()[:lines]) or type(error).__name__
    return NOISE.sub("", words)[:400]

"""PyTorch modules as ONNX networks, by PyTorch's own exporter."""

import ast
import inspect
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import onnx
import torch
from onnx import NodeProto, TensorProto, numpy_helper
from torch.utils._pytree import tree_leaves, tree_map

from graphpass.datasets.parts import SAMPLES_FIRST
from graphpass.errors import DataError, ModelError, OptionError, UnsupportedModelError, wrong_type
from graphpass.graph.refusals import line
from graphpass.graph.tensors import walk
from graphpass.pytorch.attention import FourAxes
from graphpass.pytorch.refusals import refuse_modules, refuse_state, unwrapped
from graphpass.wording import counted

BATCH = "batch"  # name of the free axis
FEWEST = 2  # samples of an example: torch.export takes an axis of 1 for a constant
SCOPES = "pkg.torch.onnx.name_scopes"  # the modules around a node, from the outside, and the node itself
RANDOM = frozenset(
    "Bernoulli Multinomial RandomNormal RandomNormalLike RandomUniform RandomUniformLike".split()
)  # operators whose results differ from run to run


def exported(module: Any, example_inputs: Any, dynamic_batch: bool = True) -> onnx.ModelProto:
    """The module in evaluation mode as an ONNX network; the module itself stays as it is, its mode too.

    example_inputs: a tensor, a tuple of tensors in the order of the arguments of `forward`, or a mapping by their
    names; each may be a tuple, a list or a dict of tensors, too. Axis 0 counts the samples. dynamic_batch: whether that
    axis is free in the network.
    Nodes are named after the modules that they come from, as in "layer1.0.relu/Relu".

    Modules that only compile or spread another one (torch.compile, DataParallel) give the network of that one.

    Raises OptionError for what is no module, no example, or a module without weights, ModelError where PyTorch cannot
    export the module, and UnsupportedModelError for a quantised module, and for one whose outputs depend on chance, on
    the other samples, or on those before, even in evaluation mode.
    """
    if not isinstance(module, torch.nn.Module):
        raise wrong_type("a module", module, "a torch.nn.Module")
    module = unwrapped(module)
    refuse_modules(module)
    arguments, named = _arguments(example_inputs)
    shapes: Any = None
    last: tuple[Any, ...] = ({},) if arguments and isinstance(arguments[-1], dict) else ()  # else taken for named ones
    if dynamic_batch:
        axis = torch.export.Dim(BATCH)
        arguments, named = tree_map(_two_samples, (arguments, named))
        _require_one_batch(tree_leaves((arguments, named)))
        shapes = _free_axes(module, arguments, named, axis)
    with _evaluating(module), FourAxes(), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of PyTorch about its own parts
        try:
            program = torch.onnx.export(
                module, (*arguments, *last), kwargs=named or None, dynamic_shapes=shapes, dynamo=True, verbose=False
            )
        except Exception as error:  # many types, from the exporter and from the module's own code
            raise ModelError(
                f"PyTorch cannot export the module ({_cause(error)})",
                "correct what the message names, or export it yourself and give the .onnx to graphpass.convert",
            ) from error
    refuse_state(program.exported_program)
    proto: onnx.ModelProto = program.model_proto
    if dynamic_batch:
        _require_free_batch(proto)
    _refuse_chance(proto)
    _name_by_modules(proto)
    return proto


def _arguments(example: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Positional and named arguments of an example."""
    if isinstance(example, torch.Tensor):
        return (example,), {}
    named = {str(key): each for key, each in example.items()} if isinstance(example, Mapping) else {}
    arguments = tuple(example) if isinstance(example, list | tuple) else ()
    if not arguments and not named:
        wanted = "a tensor, a tuple of tensors, or a dict of tensors by the names of forward's arguments"
        raise wrong_type("example inputs", example, wanted)
    return arguments, named


def _two_samples(value: Any) -> Any:
    one = isinstance(value, torch.Tensor) and value.ndim > 0 and len(value) == 1
    return torch.cat([value] * FEWEST) if one else value


def _free_axes(module: Any, arguments: tuple[Any, ...], named: Mapping[str, Any], axis: Any) -> dict[str, Any]:
    """The free axis of each argument of `forward`, by name; those of `*args` and of `**kwargs` are one argument each,
    and those of a tuple, a list or a dict lie in one.

    Raises OptionError where `forward` does not take these arguments.
    """
    signature = inspect.signature(module.forward)
    try:
        bound = signature.bind(*arguments, **named).arguments
    except TypeError as error:
        raise OptionError(
            f"forward of the module does not take the example inputs ({error})",
            f"give what it takes: {', '.join(signature.parameters)}",
        ) from error
    shapes: dict[str, Any] = {}
    for name, value in bound.items():
        match signature.parameters[name].kind:
            case inspect.Parameter.VAR_POSITIONAL:
                shapes[name] = tuple(_free(each, axis) for each in value)
            case inspect.Parameter.VAR_KEYWORD:
                shapes[name] = {key: _free(each, axis) for key, each in value.items()}
            case _:
                shapes[name] = _free(value, axis)
    return shapes


def _free(value: Any, axis: Any) -> Any:
    return tree_map(lambda each: {0: axis} if isinstance(each, torch.Tensor) and each.ndim else None, value)


def _require_one_batch(values: Sequence[Any]) -> None:
    sizes = {len(each) for each in values if isinstance(each, torch.Tensor) and each.ndim}
    if len(sizes) > 1:
        raise DataError(
            f"the example inputs have {' and '.join(map(str, sorted(sizes)))} samples on axis 0",
            f"give as many of each, or dynamic_batch=False; if they are on another axis, {SAMPLES_FIRST}",
        )


def _require_free_batch(proto: onnx.ModelProto) -> None:
    """The exporter leaves an axis as it is in the example where the module works with that size alone."""
    for value in proto.graph.input:
        sizes = value.type.tensor_type.shape.dim
        if sizes and sizes[0].HasField("dim_value"):
            raise ModelError(
                f"the module works with {counted(sizes[0].dim_value, 'sample')} alone, as input {value.name!r} of the "
                "example has",
                "keep the size of axis 0 open in forward, or give dynamic_batch=False and an example of that size",
            )


@contextmanager
def _evaluating(module: Any) -> Iterator[None]:
    """Inside, the module and all modules in it are in evaluation mode; then each has its own mode again."""
    modes = [(each, each.training) for each in module.modules()]
    try:
        try:
            module.eval()
        except Exception as error:  # of the module's own code
            raise ModelError(
                f"the module cannot be put into evaluation mode ({_cause(error)})",
                "give a module whose eval() works; for one of torch.export, that which it was made from",
            ) from error
        yield
    finally:
        for each, mode in modes:
            each.training = mode


def _refuse_chance(proto: onnx.ModelProto) -> None:
    """What is left of dropout in evaluation mode was written to stay."""
    constants = {tensor.name: tensor for tensor in proto.graph.initializer}
    for node in walk(proto.graph):
        if node.op_type in RANDOM or (node.op_type == "Dropout" and _is_training(node, constants)):
            raise UnsupportedModelError(
                f"{_module_of(node) or 'the module'!r} computes {node.op_type} also in evaluation mode, so its outputs "
                "depend on chance",
                "call functional.dropout with training=self.training, and draw no random numbers in forward",
            )


def _is_training(node: NodeProto, constants: Mapping[str, TensorProto]) -> bool:
    if len(node.input) < 3 or not node.input[2]:
        return False
    mode = constants.get(node.input[2])
    return mode is None or bool(numpy_helper.to_array(mode))


def _module_of(node: NodeProto) -> str:
    """The path of the module that a node comes from; empty for the outermost."""
    for entry in node.metadata_props:
        if entry.key == SCOPES:
            return str((["", *ast.literal_eval(entry.value)[:-1]])[-1])
    return ""


def _name_by_modules(proto: onnx.ModelProto) -> None:
    """Names from modules in place of numbers, and no traces of the exporter, which hold paths of this machine."""
    seen: Counter[str] = Counter()
    for node in proto.graph.node:
        name = f"{_module_of(node)}/{node.op_type}".lstrip("/")
        seen[name] += 1
        node.name = name if seen[name] == 1 else f"{name}_{seen[name]}"
    for entry in (*walk(proto.graph), *proto.graph.value_info, *proto.graph.input, *proto.graph.output):
        entry.ClearField("metadata_props")
        entry.ClearField("doc_string")
    for tensor in proto.graph.initializer:
        tensor.ClearField("metadata_props")
    proto.graph.ClearField("metadata_props")


def _cause(error: BaseException) -> str:
    """The first error of a chain, in one line."""
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {line(error)}"

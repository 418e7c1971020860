"""Modules that have no network: what makes their weights unknown, or their outputs depend on more than the sample.

PyTorch's exporter takes some of them without a word: it writes first weights for those that are not there yet, the
running statistics where a batch normalisation uses those of the batch, and the first value for what a module remembers.
"""

from typing import Any

import torch
from torch.nn.parameter import is_lazy

from graphpass.errors import OptionError, UnsupportedModelError
from graphpass.wording import counted

QUANTISED = tuple(
    f"torch.ao.{each}"
    for each in "nn.quantized nn.intrinsic.quantized nn.sparse.quantized nn.qat nn.intrinsic.qat "
    "quantization.fake_quantize quantization.observer".split()
)  # modules of Python whose classes are layers with integers, or prepared for them
WRAPPERS = {"DataParallel": "module", "DistributedDataParallel": "module", "OptimizedModule": "_orig_mod"}


def unwrapped(module: Any) -> Any:
    """The module inside those that only spread it over devices or compile it, by the attribute that holds it."""
    while type(module).__module__.startswith("torch.") and type(module).__name__ in WRAPPERS:
        module = getattr(module, WRAPPERS[type(module).__name__])
    return module


def refuse_modules(module: Any) -> None:
    """Raises OptionError for modules of TorchScript and for weights without values, UnsupportedModelError for
    quantised ones. Names the first that is in the way.
    """
    for name, each in module.named_modules():
        which = _called(name, type(each).__name__)
        if isinstance(each, torch.jit.ScriptModule):
            raise OptionError(
                f"{which} is of TorchScript, which PyTorch does not export", "give the module that it was made from"
            )
        if type(each).__module__.startswith(QUANTISED):
            raise UnsupportedModelError(
                f"{which} is quantised",
                "give the float module it was made from; graphpass makes integers of it with form='integer'",
            )
        weights = [*each.parameters(recurse=False), *each.buffers(recurse=False)]
        if any(map(is_lazy, weights)):
            raise OptionError(f"{which} has no weights before its first batch", "run it on one, and train it, first")
        if without := sum(weight.device.type == "meta" for weight in weights):
            raise OptionError(
                f"{counted(without, 'weight')} of {which} {'is' if without == 1 else 'are'} on the device meta, "
                "without values",
                "load the weights first: module.to_empty(device='cpu') and load_state_dict",
            )


def refuse_state(program: Any) -> None:
    """Raises UnsupportedModelError for an exported program whose outputs depend on the other samples of a batch, or on
    those before it: on statistics of the batch, or on buffers that change in `forward`.
    """
    signature = program.graph_signature
    mutated = set(signature.buffers_to_mutate.values())
    changed = {name: buffer for name, buffer in signature.inputs_to_buffers.items() if buffer in mutated}
    nodes = _before(program.graph, set(signature.user_outputs))
    for node in nodes:
        if node.op == "call_function" and "batch_norm" in str(node.target) and _is_training(node):
            raise UnsupportedModelError(
                f"{_place(node)} normalises with the statistics of each batch, also in evaluation mode",
                "let it use its running statistics: train it with track_running_stats=True, and call "
                "functional.batch_norm with training=self.training",
            )
    for node in nodes:
        if node.name in changed:
            raise UnsupportedModelError(
                f"buffer {changed[node.name]!r} changes in forward also in evaluation mode, and the outputs depend "
                "on it, so on the samples before",
                "let forward change buffers only if self.training",
            )


def _before(graph: Any, names: set[str]) -> list[Any]:
    """The nodes with these names, and all that they depend on, in the order of the graph."""
    needed = set(names)
    for node in reversed(graph.nodes):
        if node.name in needed:
            needed.update(each.name for each in node.all_input_nodes)
    return [node for node in graph.nodes if node.name in needed]


def _is_training(node: Any) -> bool:
    """Whether the argument `training` of an operator is true; an operator without it is for evaluation."""
    names = [argument.name for argument in node.target._schema.arguments]
    given = dict(zip(names, node.args, strict=False)) | node.kwargs
    return bool(given.get("training"))


def _place(node: Any) -> str:
    """The innermost module that a node comes from, as messages name it."""
    name, kind = [*node.meta["nn_module_stack"].values()][-1]
    return _called(name, str(kind).rsplit(".", 1)[-1])


def _called(name: str, kind: str) -> str:
    return f"module {name!r} ({kind})" if name else f"the module ({kind})"

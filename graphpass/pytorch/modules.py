"""A network that onnxruntime runs, as a PyTorch module."""

from collections.abc import Mapping
from typing import Any, NoReturn

import torch
from numpy.typing import NDArray

from graphpass.datasets.parts import InputSpec
from graphpass.errors import DataError, OptionError
from graphpass.runtime.session import Session, input_specs, run
from graphpass.wording import counted


class SessionModule(torch.nn.Module):  # type: ignore[misc]
    """outputs = module(*inputs): tensors in the order of the network's inputs, or by their names.

    One output is a tensor, several are a tuple in the network's order. onnxruntime reads the memory of the inputs and
    PyTorch that of the outputs, as views: nothing is copied, except an input that is not contiguous. There are no
    parameters, and no gradients flow through it. torch.compile leaves it as it is. session: what runs the network.

    Raises DataError for inputs that are not those of the network, SessionError where onnxruntime fails, OptionError
    where it is copied or pickled.
    """

    def __init__(self, session: Session):
        super().__init__()
        self.session = session
        self._specs = input_specs(session)

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def forward(self, *inputs: Any, **named: Any) -> Any:
        names = [spec.name for spec in self._specs]
        given: Mapping[str, Any] = dict(zip(names, inputs, strict=False)) | named
        if len(given) != len(inputs) + len(named) or sorted(given) != sorted(names):
            raise DataError(
                f"{', '.join([counted(len(inputs), 'input'), *named])} for a network of {len(names)}",
                f"give {', '.join(names)}",
            )
        outputs = run(self.session, {spec.name: _array(given[spec.name], spec) for spec in self._specs})
        found = tuple(map(torch.from_numpy, outputs.values()))
        return found[0] if len(found) == 1 else found

    def __reduce__(self) -> NoReturn:
        raise OptionError(
            "a module that runs a session of onnxruntime cannot be copied or pickled",
            "keep the network (conversion.save), and call conversion.to_torch again for another module",
        )


def _array(tensor: Any, spec: InputSpec) -> NDArray[Any]:
    """A view of the tensor's memory."""
    wanted = f"torch.{spec.dtype.name}"
    if not isinstance(tensor, torch.Tensor) or str(tensor.dtype) != wanted or tensor.device.type != "cpu":
        what = f"{tensor.dtype} on {tensor.device}" if isinstance(tensor, torch.Tensor) else type(tensor).__name__
        raise DataError(f"input {spec.name!r} is {what}", f"give a tensor of {wanted} on the CPU")
    view: NDArray[Any] = tensor.contiguous().numpy(force=True)  # without its gradient, and as it reads
    return view

"""From a PyTorch module to a conversion."""

from typing import Any

from graphpass.api.conversions import convert
from graphpass.conversion import Conversion
from graphpass.inputs import Data, PathLike
from graphpass.pytorch import require_torch


def from_torch(
    module: Any,
    example_inputs: Any,
    calibration: Data | None = None,
    output: PathLike | None = None,
    *,
    dynamic_batch: bool = True,
    **options: Any,
) -> Conversion:
    """Convert a PyTorch module: it is exported to ONNX by PyTorch and given to `convert`.

        conversion = graphpass.from_torch(model, torch.zeros(2, 3, 224, 224), loader, time_steps=4, limit=512)
        snn = conversion.to_torch()

    module: a torch.nn.Module. It is exported in evaluation mode, whatever its mode is, and keeps its own. Nodes are
    named after its modules, as in "layer1.0.relu/Relu", which is what include and exclude match.
    example_inputs: a tensor, a tuple of tensors in the order of the arguments of `forward`, or a dict by their names;
    their values do not matter, their sizes do. dynamic_batch: whether the number of samples (axis 0 of all of them) is
    free in the network; False for a module that works with the example's number alone.
    calibration, output and all options: as for `convert`. A DataLoader that yields (images, labels) is data, too.

    `conversion.network` is the exported network, for `evaluate(conversion.network, conversion, loader)`.
    Raises the errors of `convert`, and OptionError where PyTorch is not installed, ModelError where it cannot export
    the module, UnsupportedModelError for quantised modules, and where outputs depend on chance, on the batch or on
    samples before even in evaluation mode.
    """
    require_torch("from_torch")
    from graphpass.pytorch.exporting import exported  # loads torch

    return convert(exported(module, example_inputs, dynamic_batch), calibration, output, **options)

"""fuse_padding: zeros that are padded in front of a convolution become the convolution's own padding."""

import numpy as np
import onnx_graphsurgeon as gs

from graphpass.graph.edit import used_once
from graphpass.graph.time_axis import constant_values, given, given_pads
from graphpass.graph.weights import is_op
from graphpass.passes.base import Rewriting


def fuse_padding(work: Rewriting) -> None:
    """Conv(Pad(x, p)) → Conv(x) with pads + p, where Pad adds zeros, and only along the kernel's axes."""
    for node in work.nodes("Pad"):
        readers = node.outputs[0].outputs
        if not any(is_op(reader, "Conv") for reader in readers):
            continue
        reason = _no_padding_of(node, work.edit.held)
        if reason is None:
            (layer,) = readers
            rank = len(layer.inputs[1].shape)
            own = np.reshape(layer.attrs.get("pads", [0] * 2 * (rank - 2)), (2, rank - 2))
            layer.attrs["pads"] = (own + given_pads(node, rank)[:, 2:]).ravel().tolist()  # type: ignore[index]
            layer.attrs.pop("auto_pad", None)
            work.edit.bypass(node)
        work.settle(node, reason)


def _no_padding_of(node: gs.Node, held: frozenset[str]) -> str | None:
    """Why a Pad in front of a Conv cannot become the convolution's padding; None where it can."""
    output = node.outputs[0]
    layer = output.outputs[0]
    if not used_once(output, held) or layer.inputs[0] is not output or layer.inputs[1].shape is None:
        return "something else than one convolution's data reads it"
    pads = given_pads(node, len(layer.inputs[1].shape))
    if pads is None or pads[:, :2].any() or (pads < 0).any():
        return "its pads are computed, negative or along samples or channels"
    value = constant_values(node, 2) if given(node, 2) else np.asarray(node.attrs.get("value", 0.0))
    if node.attrs.get("mode", "constant") not in ("constant", b"constant") or value is None or value.any():
        return "it adds other values than zero"
    if layer.attrs.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID", ""):
        return "the convolution's own padding depends on the size"
    return None

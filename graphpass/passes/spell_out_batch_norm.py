"""spell_out_batch_norm: a BatchNormalization that no weight layer can take becomes a product and a sum."""

import numpy as np
import onnx_graphsurgeon as gs

from graphpass.graph.weights import FLOATS, ranks_of
from graphpass.passes.base import Rewriting
from graphpass.passes.fusing import batch_norms


def spell_out_batch_norm(work: Rewriting) -> None:
    """BN(x) → x·s + t, s = γ/σ, t = β − μ·s, of shape [1, C, 1 …]."""
    edit, ranks = work.edit, ranks_of(work.graph)
    for norm, affine in batch_norms(work):
        x, y = norm.inputs[0], norm.outputs[0]
        rank = ranks.get(x.name, ranks.get(y.name))
        # x has the dtype of y; γ, β may be kept in a wider one
        dtype = next((t.dtype for t in (x, y) if t.dtype is not None), norm.inputs[1].dtype)
        if isinstance(affine, str):
            work.miss(norm, affine)
            continue
        if rank is None:
            work.miss(norm, "the number of axes of its input is not known")
            continue
        if dtype not in FLOATS or not all(np.all(np.abs(each) <= np.finfo(dtype).max) for each in affine):
            work.miss(norm, f"its scale or shift does not fit {dtype}")
            continue
        shape = (1, -1, *(1,) * (rank - 2)) if rank > 1 else (-1,)
        scale, shift = (
            gs.Constant(edit.names.fresh(f"{norm.name}_{part}"), values.astype(dtype).reshape(shape))
            for part, values in zip(("scale", "shift"), affine, strict=True)
        )
        scaled = gs.Variable(edit.names.fresh(f"{norm.name}_scaled"), y.dtype, y.shape)
        mul = gs.Node("Mul", edit.names.fresh(f"{norm.name}_mul"), inputs=[x, scale], outputs=[scaled])
        add = gs.Node("Add", edit.names.fresh(f"{norm.name}_add"), inputs=[scaled, shift])
        edit.insert_after(norm, mul)
        edit.insert_after(mul, add)
        edit.remove(norm)
        add.outputs.append(y)
        work.done()

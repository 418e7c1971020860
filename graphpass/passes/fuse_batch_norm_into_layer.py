"""fuse_batch_norm_into_layer: a BatchNormalization goes into the weights of the layer in front of it."""

from graphpass.graph.weights import layer_ending_at, ranks_of
from graphpass.passes.base import Rewriting
from graphpass.passes.fusing import batch_norms, fuse_into_layer


def fuse_batch_norm_into_layer(work: Rewriting) -> None:
    """BN(W·x + b):  W' = W·γ/σ, b' = (b − μ)·γ/σ + β, σ = √(variance + ε)."""
    ranks = ranks_of(work.graph)
    for norm, affine in batch_norms(work):
        layer = layer_ending_at(norm.inputs[0], work.edit.held)
        if layer is not None and not isinstance(affine, str):
            work.settle(norm, fuse_into_layer(work, layer, norm, *affine, ranks))

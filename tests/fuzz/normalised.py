"""Steps of random networks with normalisations as exporters spell them, and activations that other nodes follow.

They are not among `networks.IMAGE`, so that the seeds of these networks keep their meaning.
"""

import numpy as np

from tests.fuzz.networks import Draft, Step, activation, branches, conv, gate, pool, pyramid, residual, scale


def _scales(draft: Draft, *shape: int) -> str:
    """Scales of channels that differ as those of trained normalisations do."""
    return draft.constant(np.exp(draft.random.standard_normal(shape)).astype(np.float32))


def group_norm(draft: Draft) -> None:
    """GroupNormalization as exporters spell it and an activation, beside what came before."""
    channels, *sizes = draft.shape
    if draft.free or channels > 8 or channels % 2:
        return
    before, ones = draft.tensor, [1] * len(sizes)
    batch = -1 if isinstance(draft.batch, str) else draft.batch
    groups, back = (draft.constant(np.array(v, np.int64)) for v in ([0, 2, -1], [batch, channels, *sizes]))
    one, zero = (draft.constant(np.full(2, v, np.float32)) for v in (1, 0))
    draft.add("Reshape", f"{before} {groups}", draft.shape)
    draft.add("InstanceNormalization", f"{draft.tensor} {one} {zero}", draft.shape)
    draft.add("Reshape", f"{draft.tensor} {back}", (channels, *sizes))
    draft.add("Mul", f"{draft.tensor} {_scales(draft, channels, *ones)}", draft.shape)
    draft.add("Add", f"{draft.tensor} {_scales(draft, channels, *ones)}", draft.shape)
    draft.add(draft.pick("Relu", "HardSwish", "Gelu"), draft.tensor, draft.shape)
    draft.add("Concat", f"{draft.tensor} {before}", (2 * channels, *sizes), axis=1)


def channel_norm(draft: Draft) -> None:
    """LayerNormalization over the channels, spelled out on the last axis, with an activation in front of a pooling."""
    channels, *sizes = draft.shape
    if min(sizes) < 2:
        return
    rank = len(sizes) + 2
    last, two = draft.constant(np.array([-1], np.int64)), draft.constant(np.float32(2))
    draft.add("Transpose", draft.tensor, draft.shape, perm=[0, *range(2, rank), 1])
    x = draft.tensor
    centred = draft.add("Sub", f"{x} {draft.add('ReduceMean', f'{x} {last}', draft.shape)}", draft.shape)
    draft.add("ReduceMean", f"{draft.add('Pow', f'{centred} {two}', draft.shape)} {last}", draft.shape)
    draft.add("Sqrt", draft.add("Add", f"{draft.tensor} {draft.constant(np.float32(1e-3))}", draft.shape), draft.shape)
    draft.add(
        "Mul", f"{draft.add('Div', f'{centred} {draft.tensor}', draft.shape)} {_scales(draft, channels)}", draft.shape
    )
    draft.add("Transpose", draft.tensor, draft.shape, perm=[0, rank - 1, *range(1, rank - 1)])
    draft.add(draft.pick("Relu", "Gelu"), draft.tensor, draft.shape)
    after = tuple(size - 1 for size in sizes)
    draft.add("MaxPool", draft.tensor, (channels, *after), kernel_shape=[2] * len(sizes))


def two_sided(draft: Draft) -> None:
    """A softplus spelled as log(1 + exp(−|x|)) + max(x, 0): two activations of one sum."""
    x, one = draft.tensor, draft.constant(np.float32(1))
    negative = draft.add("Neg", draft.add("Abs", x, draft.shape), draft.shape)
    tail = draft.add(
        "Log", draft.add("Add", f"{draft.add('Exp', negative, draft.shape)} {one}", draft.shape), draft.shape
    )
    draft.add("Add", f"{tail} {draft.add('Relu', x, draft.shape)}", draft.shape)


def pooled_gate(draft: Draft) -> None:
    """An activation of means over positions, scaled, whose layer gates the channels."""
    channels, *sizes = draft.shape
    before, axes = draft.tensor, draft.constant(np.arange(2, 2 + len(sizes)))
    draft.add("ReduceMean", f"{before} {axes}", (channels,), keepdims=0)
    draft.add("Relu", draft.tensor, draft.shape)
    draft.add("Mul", f"{draft.tensor} {draft.constant(np.float32(1.7))}", draft.shape)
    draft.add("MatMul", f"{draft.tensor} {draft.weight(channels, channels, inputs=channels)}", draft.shape)
    gate = draft.add("Unsqueeze", f"{draft.add('Sigmoid', draft.tensor, draft.shape)} {axes}", draft.shape)
    draft.add("Mul", f"{before} {gate}", (channels, *sizes))


NORMALISED: tuple[Step, ...] = (group_norm, channel_norm, two_sided, pooled_gate)
CHANNELS = (conv, conv, activation, pool, residual, branches, scale, gate, pyramid, *NORMALISED)  # always on axis 1

"""Where the samples are in the outputs of a network: usually along axis 0, but not always.

    scores [N, C]          axis 0
    text   [frames, N, C]  axis 1, whatever the number of frames
    count  [4]             nowhere, even if a batch has 4 samples

The size of an axis does not show that. Instead, samples are swapped in the inputs, and the axis along which the outputs
are swapped is the axis of samples. A network may mix its samples nevertheless, as x − mean over axis 0 does.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphpass.errors import SessionError
from graphpass.runtime.session import pad_inputs, run
from graphpass.wording import counted

Array = NDArray[Any]
Axes = Mapping[str, int | None]

NEAR = 1e-3  # relative to the largest value: sums may be rounded otherwise at another place of the batch


def sample_axes(session: Any, inputs: Mapping[str, Array]) -> dict[str, int | None]:
    """The axis of each output along which samples lie, None where there is none.

    inputs: a batch, filled up if the model's batch is fixed. Runs the network twice. If several axes are possible,
    because all values along them are equal, the first one counts.
    """
    size = len(next(iter(inputs.values())))
    before = _distinct(inputs)
    moved = {name: np.roll(values, 1, axis=0) for name, values in before.items()}
    return {
        name: _axis(run_one, run_two, size)
        for (name, run_one), run_two in zip(run(session, before).items(), run(session, moved).values(), strict=True)
    }


def mixed(session: Any, inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> list[str]:
    """Names of the outputs in which a sample depends on the other samples of its batch, by more than NEAR.

    inputs: a batch; outputs: what the network makes of it. Runs the network on a batch of one sample alone, repeated,
    and twice more where that changes what it makes of this sample. Finds no dependence on the order of the batch alone.
    """
    size = len(next(iter(inputs.values())))
    kept = size // 2
    try:
        alone = run(
            session, {name: np.repeat(values[kept : kept + 1], size, axis=0) for name, values in inputs.items()}
        )
    except SessionError:  # as where a network takes no batch in which nothing is detected
        return []

    def differs(name: str, axis: int) -> bool:
        return _difference(*(each[name].take(kept, axis) for each in (outputs, alone))) > NEAR

    suspects = [
        name
        for name, values in outputs.items()
        if values.shape == alone[name].shape
        and any(differs(name, axis) for axis, n in enumerate(values.shape) if n == size)
    ]
    axes = sample_axes(session, inputs) if suspects else {}
    return [name for name in suspects if (axis := axes[name]) is not None and differs(name, axis)]


def _distinct(inputs: Mapping[str, Array]) -> dict[str, Array]:
    """The batch; if all its samples are equal, the first is reversed along its last axis, which keeps values legal."""
    if any((values != values[:1]).any() for values in inputs.values()):
        return dict(inputs)
    turned = {name: values.copy() for name, values in inputs.items()}
    for values in turned.values():
        if values.ndim > 1:
            values[0] = np.flip(values[0], -1)
    return turned


def _axis(before: Array, after: Array, size: int) -> int | None:
    if before.shape != after.shape:
        return None
    apart = {axis: _difference(np.roll(before, 1, axis), after) for axis, n in enumerate(before.shape) if n == size}
    axis = min(apart, key=lambda each: apart[each], default=None)
    return axis if axis is not None and apart[axis] <= NEAR else None


def _difference(one: Array, two: Array) -> float:
    """Largest difference relative to the largest value; infinite where only one of the two is not a number."""
    if one.dtype.kind not in "fiub":
        return 0.0 if (one == two).all() else np.inf
    if one.dtype.kind == "f" and not np.array_equal(np.isfinite(one), np.isfinite(two)):
        return np.inf
    a, b = (np.nan_to_num(values.astype(np.float64), posinf=0, neginf=0) for values in (one, two))
    largest = np.abs(a).max(initial=0)
    return float(np.abs(a - b).max(initial=0) / largest) if largest else float(np.abs(b).max(initial=0))


def cut(outputs: Mapping[str, Array], size: int, axes: Axes) -> dict[str, Array]:
    """The outputs of the first `size` samples; an output without an axis of samples stays whole."""
    kept = {}
    for name, values in outputs.items():
        axis = axes.get(name)
        kept[name] = values if axis is None else values[(slice(None),) * axis + (slice(size),)]
    return kept


def run_padded(session: Any, inputs: Mapping[str, Array], batch: int | None, axes: Axes) -> dict[str, Array]:
    """As `run`, for a model of fixed batch: a short batch is filled up with its last sample, and the outputs are cut.

    axes: what `sample_axes` returned for this network or for its original.
    """
    size = len(next(iter(inputs.values())))
    if batch is None or size == batch:
        return run(session, inputs)
    if size > batch:
        given = f"a batch of {counted(size, 'sample')}"
        raise SessionError(f"{given} does not fit a model of fixed batch {batch}", "run them in smaller batches")
    return cut(run(session, pad_inputs(inputs, batch)), size, axes)

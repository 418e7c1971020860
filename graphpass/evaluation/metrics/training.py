"""Metrics that are fitted before they measure: on what the ANN makes of a part of the data, which they leave out then.

Sample i is of the training part if i is a multiple of k: k = 2, or what leaves TRAINING_SAMPLES of them. All parts of
an evaluation fit the same, since they all run the ANN over the same training part.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphpass.datasets.dataset import Dataset
from graphpass.evaluation.metrics.registry import Metrics
from graphpass.runtime.samples import Axes, run_padded

TRAINING_SAMPLES = 2048  # at most, where the data tells its length


def training_stride(dataset: Dataset, limit: int | None) -> int:
    """k of the first `limit` samples."""
    if dataset.samples is None:
        return 2
    return max(2, -(-min(dataset.samples, limit or dataset.samples) // TRAINING_SAMPLES))


def of_training(start: int, size: int, every: int) -> NDArray[np.bool_]:
    """Which samples of a batch that begins with number `start` are of the training part, bool [size]."""
    return np.asarray((start + np.arange(size)) % every == 0)


def fitted(
    metrics: Metrics,
    ann: Any,
    dataset: Dataset,
    batches: tuple[int, int | None],
    fixed: int | None,
    axes: Axes,
    progress: Callable[[str, int, int], None],
) -> Metrics:
    """The metrics, fitted where they want to be and there are labels. ann: its session. batches: size and limit.

    fixed: the batch that the network insists on. axes: where the samples are in its outputs.
    """
    if not dataset.labelled or not any(metric.trained for metric in metrics.by_name.values()):
        return metrics
    every, seen = training_stride(dataset, batches[1]), 0
    outputs: dict[str, list[NDArray[Any]]] = {}
    labels: list[NDArray[Any]] = []
    for batch in dataset.batches(*batches):
        rows = of_training(seen, batch.size, every)
        seen += batch.size
        if batch.labels is not None and rows.any():
            labels.append(batch.labels[rows])
            found = run_padded(ann, {name: values[rows] for name, values in batch.inputs.items()}, fixed, axes)
            for name, values in found.items():
                outputs.setdefault(name, []).append(np.atleast_1d(values))
        progress("fitting the probe", seen, max(seen, min(dataset.samples or 0, batches[1] or seen)))
    joined = {name: np.concatenate(parts) for name, parts in outputs.items()}
    known = np.concatenate(labels)
    by_name = {text: m.fitted(joined, known) if m.trained else m for text, m in metrics.by_name.items()}
    return replace(metrics, by_name=by_name)

"""Metrics that are fitted before they measure: on the ANN's outputs for a training part of the data, which they then
do not measure.

Sample i belongs to the training part if i is a multiple of k; k is 2, or larger so that at most TRAINING_SAMPLES belong
to it. All parts of an evaluation fit the same metric, since they all run the ANN over the same training part.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphpass.datasets.dataset import Batch, Dataset
from graphpass.evaluation.metrics.registry import Metrics

TRAINING_SAMPLES = 2048  # at most, if the length of the data is known


def training_stride(dataset: Dataset, limit: int | None) -> int:
    """k of the first `limit` samples."""
    if dataset.samples is None:
        return 2
    return max(2, -(-min(dataset.samples, limit or dataset.samples) // TRAINING_SAMPLES))


def of_training(start: int, size: int, every: int) -> NDArray[np.bool_]:
    """Which samples of a batch that begins with sample `start` belong to the training part, bool [size]."""
    return np.asarray((start + np.arange(size)) % every == 0)


def fitted(
    metrics: Metrics,
    outputs_of: Callable[[int, Batch, NDArray[np.bool_]], Mapping[str, NDArray[Any]]],
    dataset: Dataset,
    batches: tuple[int, int | None],
    progress: Callable[[str, int, int], None],
) -> Metrics:
    """The metrics, fitted if they have to be and there are labels. batches: size and limit.

    outputs_of: of the ANN, for some samples of a batch that begins with so many samples before it.
    """
    if not dataset.labelled or not any(metric.trained for metric in metrics.by_name.values()):
        return metrics
    every, seen = training_stride(dataset, batches[1]), 0
    outputs: dict[str, list[NDArray[Any]]] = {}
    labels: list[NDArray[Any]] = []
    for batch in dataset.batches(*batches):
        rows = of_training(seen, batch.size, every)
        if batch.labels is not None and rows.any():
            labels.append(batch.labels[rows])
            for name, values in outputs_of(seen, batch, rows).items():
                outputs.setdefault(name, []).append(np.atleast_1d(values))
        seen += batch.size
        progress("fitting the probe", seen, max(seen, min(dataset.samples or 0, batches[1] or seen)))
    joined = {name: np.concatenate(parts) for name, parts in outputs.items()}
    known = np.concatenate(labels)
    by_name = {text: m.fitted(joined, known) if m.trained else m for text, m in metrics.by_name.items()}
    return replace(metrics, by_name=by_name)

"""Modules that mix the samples of a batch are converted with a warning; ordinary ones without."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import graphpass
from graphpass.verification.source import SourceWarning

torch = pytest.importorskip("torch", reason="PyTorch is not installed (pip install 'graphpass[torch]')")
pytest.importorskip("onnxscript")
from torch import nn  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:torch.*", "ignore::DeprecationWarning:onnxscript.*")
RNG = np.random.default_rng(0)
ROWS = torch.from_numpy(RNG.standard_normal((32, 6, 8), np.float32))


class Computes(nn.Module):
    """A hidden layer on what a function makes of the inputs."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        super().__init__()
        self.function, self.inner, self.outer = function, nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, x: Any) -> Any:
        return self.outer(torch.relu(self.inner(self.function(x))))


class Attends(nn.Module):
    def __init__(self, batch_first: bool) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=batch_first)

    def forward(self, x: Any) -> Any:
        return self.attention(x, x, x, need_weights=False)[0]


def converted(module: nn.Module) -> Any:
    torch.manual_seed(0)
    return graphpass.from_torch(module, ROWS[:2], ROWS, time_steps=4, method="max")


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x - x.mean(0),
        lambda x: x.softmax(0),
        lambda x: x / x.abs().max(),
        Attends(batch_first=False),  # samples lie along axis 0 in the data, the module takes it for time
    ],
    ids=["mean", "softmax", "largest", "attention"],
)
def test_a_module_that_mixes_samples_is_warned_of(function: Any) -> None:
    with pytest.warns(SourceWarning, match=r"output '.*' of a sample depends on the other samples of its batch"):
        converted(Computes(function))


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x - x.mean(1, keepdim=True),
        nn.BatchNorm1d(6),
        nn.LayerNorm(8),
        nn.GroupNorm(2, 6),
        Attends(batch_first=True),
        nn.TransformerEncoderLayer(8, 2, 16, batch_first=True),
        nn.Dropout(),
    ],
    ids=["mean", "batch", "layer", "group", "attention", "transformer", "dropout"],
)
def test_ordinary_modules_are_not(function: Any) -> None:
    converted(Computes(function))  # a warning is an error here

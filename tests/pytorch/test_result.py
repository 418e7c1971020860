"""The module that a conversion gives back: inside other modules, and what may not be done with it."""

import copy
import io
import pickle
from typing import Any

import pytest

import graphpass
from graphpass.errors import OptionError

torch = pytest.importorskip("torch", reason="PyTorch is not installed (pip install 'graphpass[torch]')")
pytest.importorskip("onnxscript")
from torch import nn  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:torch.*", "ignore::DeprecationWarning:onnxscript.*")


@pytest.fixture(scope="module")
def snn() -> Any:
    """[N, 4] → [N, 3]."""
    module = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))
    return graphpass.from_torch(module, torch.zeros(2, 4), torch.randn(16, 4), threads=1).to_torch(threads=1)


def test_the_result_runs_in_compiled_modules_and_on_views_that_only_look_negative(snn: Any) -> None:
    """Dynamo inside a session ended the process."""
    rows = torch.randn(3, 4)
    doubled = nn.Sequential(nn.Identity(), snn)
    assert torch.equal(torch.compile(doubled, backend="eager")(rows), snn(rows))
    assert torch.equal(snn(torch._neg_view(rows)), snn(-rows))


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, pickle.dumps, lambda snn: torch.save(snn, io.BytesIO())])
def test_the_result_is_not_copied(snn: Any, copied: Any) -> None:
    with pytest.raises(OptionError, match=r"cannot be copied or pickled; keep the network \(conversion.save\)"):
        copied(snn)

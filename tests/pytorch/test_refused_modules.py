"""Modules that have no network are refused by name; what only wraps a module is looked through."""

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphpass
from graphpass.errors import ModelError, OptionError, UnsupportedModelError

torch = pytest.importorskip("torch", reason="PyTorch is not installed (pip install 'graphpass[torch]')")
pytest.importorskip("onnxscript")
from torch import nn  # noqa: E402
from torch.nn import functional  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:torch.*", "ignore::DeprecationWarning:onnxscript.*")


class Remembers(nn.Module):
    """Its outputs depend on the mean of all samples before; or it counts calls alone."""

    def __init__(self, used: bool) -> None:
        super().__init__()
        self.used, self.inner, self.outer = used, nn.Linear(4, 4), nn.Linear(4, 3)
        self.register_buffer("mean", torch.zeros(4))

    def forward(self, x: Any) -> Any:
        self.mean.mul_(0.9).add_(0.1 * x.mean(0))
        return self.outer(functional.relu(self.inner(x - self.mean if self.used else x)))


class NormalisesAlways(nn.BatchNorm1d):
    def train(self, mode: bool = True) -> Any:
        return super().train(True)


class NormalisesByFunction(nn.Module):
    def __init__(self, running: bool) -> None:
        super().__init__()
        self.inner, self.running = nn.Linear(4, 4), running
        self.register_buffer("mean", torch.zeros(4))
        self.register_buffer("deviation", torch.ones(4))

    def forward(self, x: Any) -> Any:
        statistics = (self.mean, self.deviation) if self.running else (None, None)
        return self.inner(functional.relu(functional.batch_norm(x, *statistics, training=True)))


class Stays(nn.Linear):
    def train(self, mode: bool = True) -> Any:
        raise RuntimeError("its mode stays")


def quantised() -> Any:
    return torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.Linear(4, 4)).eval(), {nn.Linear})


def prepared() -> Any:
    layer = nn.Sequential(nn.Linear(4, 4)).eval()
    layer.qconfig = torch.ao.quantization.get_default_qconfig("x86")
    return torch.ao.quantization.prepare(layer)


def within(module: Any) -> Any:
    return nn.Sequential(nn.ReLU(), module)


@pytest.mark.filterwarnings("ignore")  # of PyTorch, about what it will give up
@pytest.mark.parametrize(
    ("made", "error", "words"),
    [
        (lambda: torch.jit.script(nn.Linear(4, 4)), OptionError, "the module (RecursiveScriptModule) is of"),
        (lambda: within(torch.jit.script(nn.Linear(4, 4))), OptionError, "module '1' (RecursiveScriptModule) is of"),
        (lambda: within(torch.jit.trace(nn.Linear(4, 4), torch.zeros(2, 4))), OptionError, "module '1' (TopLevel"),
        (quantised, UnsupportedModelError, "module '0' (Linear) is quantised; give the float module"),
        (prepared, UnsupportedModelError, "Observer) is quantised; give the float module"),
        (lambda: within(nn.LazyLinear(4)), OptionError, "module '1' (LazyLinear) has no weights before its first"),
        (lambda: within(nn.Linear(4, 4, device="meta")), OptionError, "2 weights of module '1' (Linear) are on"),
        (lambda: within(nn.Linear(4, 4, False, device="meta")), OptionError, "1 weight of module '1' (Linear) is on"),
        (lambda: Remembers(True), UnsupportedModelError, "buffer 'mean' changes in forward also in evaluation mode"),
        (lambda: within(NormalisesAlways(4)), UnsupportedModelError, "module '1' (NormalisesAlways) normalises with"),
        (lambda: NormalisesByFunction(True), UnsupportedModelError, "the module (NormalisesByFunction) normalises"),
        (lambda: NormalisesByFunction(False), UnsupportedModelError, "the module (NormalisesByFunction) normalises"),
        (lambda: Stays(4, 4), ModelError, "cannot be put into evaluation mode (RuntimeError: its mode stays)"),
        (lambda: torch.export.export(nn.Linear(4, 4), (torch.zeros(2, 4),)).module(), ModelError, "evaluation mode ("),
    ],
)  # fmt: skip
def test_modules_that_have_no_network(made: Any, error: type[Exception], words: str) -> None:
    module = made()
    with pytest.raises(error) as caught:
        graphpass.from_torch(module, torch.zeros(2, 4), np.zeros((2, 4), np.float32))
    assert words in str(caught.value) and "; " in str(caught.value)


def test_a_lazy_module_stays_without_weights() -> None:
    module = within(nn.LazyLinear(4))
    with pytest.raises(OptionError):
        graphpass.from_torch(module, torch.zeros(2, 4), np.zeros((2, 4), np.float32))
    assert module[1].has_uninitialized_params()


def test_buffers_that_no_output_depends_on_may_change() -> None:
    module, data = Remembers(False).eval(), torch.randn(16, 4)
    made = graphpass.from_torch(module, data[:2], data.numpy(), time_steps=128, threads=1)
    assert torch.equal(module.mean, torch.zeros(4))
    with torch.no_grad():
        assert torch.allclose(made.to_torch(threads=1)(data), module(data), atol=0.05)


def test_a_normalisation_in_evaluation_mode_may_have_any_name() -> None:
    """As in SegFormer of transformers: weights with the name of an operator."""
    layers = {"first": nn.Linear(4, 6), "batch_norm": nn.BatchNorm1d(6), "relu": nn.ReLU(), "last": nn.Linear(6, 3)}
    made = graphpass.from_torch(
        nn.Sequential(OrderedDict(layers)), torch.zeros(2, 4), torch.randn(16, 4).numpy(), threads=1
    )
    assert [site.name for site in made.plan.sites] == ["relu/Relu"]


@contextmanager
def spread(module: Any, folder: Path) -> Iterator[Any]:
    """In DistributedDataParallel, as the only process of a group."""
    distributed = torch.distributed
    distributed.init_process_group("gloo", init_method=f"file://{folder}/group", rank=0, world_size=1)
    try:
        yield nn.parallel.DistributedDataParallel(module)
    finally:
        distributed.destroy_process_group()


@pytest.mark.parametrize("wrapper", ["compile", "DataParallel", "DistributedDataParallel"])
def test_what_only_wraps_a_module_changes_nothing(wrapper: str, tmp_path: Path) -> None:
    module, data = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)), torch.randn(16, 4).numpy()
    with ExitStack() as stack:
        wrapped = {
            "compile": lambda: torch.compile(nn.DataParallel(torch.compile(module))),
            "DataParallel": lambda: nn.DataParallel(module),
            "DistributedDataParallel": lambda: stack.enter_context(spread(module, tmp_path)),
        }[wrapper]()
        made, plain = (graphpass.from_torch(each, torch.zeros(2, 4), data, threads=1) for each in (wrapped, module))
    assert made.proto == plain.proto

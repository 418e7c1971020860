"""A PyTorch module in, a PyTorch module out."""

import importlib.util
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import graphpass
from graphpass.errors import DataError, ModelError, OptionError, UnsupportedModelError
from graphpass.verification.source import SourceWarning

torch = pytest.importorskip("torch", reason="PyTorch is not installed (pip install 'graphpass[torch]')")
pytest.importorskip("onnxscript")
from torch import nn  # noqa: E402
from torch.nn import functional  # noqa: E402
from torch.utils.data import DataLoader, TensorDataset  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:torch.*", "ignore::DeprecationWarning:onnxscript.*")


class Small(nn.Module):
    """image [N, 3, 8, 8] → 10 scores."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.block = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.Dropout(0.5))
        self.head = nn.Linear(8, 10)

    def forward(self, image: Any) -> Any:
        return self.head(self.block(self.stem(image)).mean((2, 3)))


class Two(nn.Module):
    """tokens int64 [N, 5], mask float32 [N, 5] → scores [N, 3], mean [N]."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.one, self.two = nn.Embedding(7, 6), nn.Linear(6, 6), nn.Linear(6, 3)

    def forward(self, tokens: Any, mask: Any) -> Any:
        hidden = functional.relu(self.one(self.table(tokens) * mask[..., None]))
        return self.two(functional.relu(self.one(hidden)).mean(1)), hidden.mean((1, 2))


@pytest.fixture(scope="module")
def module() -> Any:
    torch.manual_seed(0)
    module = Small()
    with torch.no_grad():
        module(torch.randn(64, 3, 8, 8))  # statistics of the normalisation
    return module


@pytest.fixture(scope="module")
def loader() -> Any:
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(40, 3, 8, 8, generator=generator)
    return DataLoader(TensorDataset(images, torch.arange(40) % 10), batch_size=16)


@pytest.fixture(scope="module")
def conversion(module: Any, loader: Any) -> Any:
    return graphpass.from_torch(module, torch.zeros(1, 3, 8, 8), calibration=loader, time_steps=64, threads=1)


def test_the_result_is_close_to_the_module_for_any_number_of_samples(module: Any, conversion: Any) -> None:
    images = torch.randn(5, 3, 8, 8)
    snn = conversion.to_torch(threads=1)
    assert module.training  # it was, and it is again
    with torch.no_grad():
        expected = module.eval()(images)
    module.train()
    found = snn(images)
    assert isinstance(snn, nn.Module) and isinstance(found, torch.Tensor) and not found.requires_grad
    assert float((found - expected).norm() / expected.norm()) < 0.05
    assert torch.equal(snn(images[2:3]), found[2:3]) and torch.equal(snn(image=images), found)


def test_sites_are_named_after_modules(conversion: Any) -> None:
    assert [site.name for site in conversion.plan.sites] == ["stem.2/Relu", "block.1/Relu"]


def test_a_loader_is_data_for_an_evaluation_too(conversion: Any, loader: Any) -> None:
    found = graphpass.evaluate(conversion.network, conversion, loader, threads=1)
    assert found.samples == 40 and found.ann.top1 is not None


def test_a_loader_calibrates_as_its_arrays_do(module: Any, conversion: Any, loader: Any, tmp_path: Path) -> None:
    images = loader.dataset.tensors[0].numpy()
    same = graphpass.convert(conversion.network, {"image": images}, tmp_path / "snn.onnx", time_steps=64, threads=1)
    assert same.proto.graph == conversion.proto.graph


def test_modes_of_single_modules_stay(module: Any) -> None:
    module.train()
    module.stem[1].eval()
    modes = [each.training for each in module.modules()]
    graphpass.from_torch(module, torch.zeros(2, 3, 8, 8), np.zeros((2, 3, 8, 8), np.float32), method="max", threads=1)
    assert [each.training for each in module.modules()] == modes
    module.train()


def test_nothing_of_this_machine_is_in_the_file(conversion: Any) -> None:
    text = conversion.network.source.proto.SerializeToString()
    assert b".py" not in text and str(Path(__file__).parent).encode() not in text


def test_the_same_module_gives_the_same_bytes_twice(module: Any, loader: Any) -> None:
    made = [
        graphpass.from_torch(module, torch.zeros(2, 3, 8, 8), loader, method="max", threads=1).proto.SerializeToString(
            deterministic=True
        )
        for _ in range(2)
    ]
    assert made[0] == made[1]


@pytest.mark.parametrize("form", ["folded", "integer"])
def test_options_are_those_of_convert(module: Any, loader: Any, form: str, tmp_path: Path) -> None:
    made = graphpass.from_torch(
        module, torch.zeros(2, 3, 8, 8), loader, tmp_path / "snn.onnx", form=form, limit=20, exclude="stem", threads=1
    )
    assert (made.form, made.plan.samples, [site.name for site in made.plan.sites]) == (form, 20, ["block.1/Relu"])
    assert onnx.load(tmp_path / "snn.onnx") == made.proto
    with pytest.raises(TypeError, match="time_stpes"):
        graphpass.from_torch(module, torch.zeros(2, 3, 8, 8), loader, time_stpes=4)


@pytest.mark.parametrize("by_name", [False, True])
def test_several_inputs_and_outputs(by_name: bool) -> None:
    torch.manual_seed(0)
    module, tokens, mask = Two(), torch.randint(0, 7, (12, 5)), torch.rand(12, 5)
    example = {"tokens": tokens, "mask": mask} if by_name else (tokens, mask)
    data = DataLoader(TensorDataset(tokens, mask), batch_size=5)
    made = graphpass.from_torch(module, example, data, time_steps=128, threads=1)
    expected, mean = module(tokens, mask)
    scores, found = made.to_torch(threads=1)(tokens, mask=mask)
    assert torch.allclose(scores, expected, atol=0.05) and torch.allclose(found, mean, atol=0.05)


def test_memory_is_shared_and_inputs_stay_as_they_are(conversion: Any) -> None:
    snn, images = conversion.to_torch(threads=1), torch.randn(3, 8, 8, 3)
    turned, before = images.permute(0, 3, 1, 2), images.clone()
    assert not turned.is_contiguous()
    assert torch.equal(snn(turned), snn(turned.contiguous().requires_grad_()))
    assert torch.equal(images, before)


@pytest.mark.parametrize(
    ("inputs", "named", "words"),
    [
        ((), {}, "0 inputs for a network of 1; give image"),
        (("image", "image"), {}, "2 inputs for a network of 1; give image"),
        (("image",), {"image": "image"}, "1 input, image for a network of 1"),
        ((), {"picture": "image"}, "picture for a network of 1"),
        (("double",), {}, "'image' is torch.float64 on cpu; give a tensor of torch.float32 on the CPU"),
        (("array",), {}, "'image' is ndarray"),
    ],
)
def test_wrong_inputs_of_the_result(conversion: Any, inputs: Any, named: Any, words: str) -> None:
    values = {"image": torch.zeros(1, 3, 8, 8), "array": np.zeros((1, 3, 8, 8), np.float32)}
    values["double"] = values["image"].double()
    with pytest.raises(DataError) as caught:
        conversion.to_torch(threads=1)(*(values[each] for each in inputs), **{k: values[v] for k, v in named.items()})
    assert words in str(caught.value)


class Chance(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(4, 4)

    def forward(self, x: Any) -> Any:
        return functional.dropout(functional.relu(self.inner(x)), 0.5, training=True)


class Noise(nn.Module):
    def forward(self, x: Any) -> Any:
        return functional.relu(x + torch.randn_like(x))


class Branch(nn.Module):
    def forward(self, x: Any) -> Any:
        return functional.relu(x) if float(x.sum()) > 0 else x


class OneSample(nn.Module):
    def forward(self, x: Any) -> Any:
        return functional.relu(x.reshape(2, 4))


@pytest.mark.parametrize(
    ("module", "example", "error", "words"),
    [
        (Chance(), torch.zeros(2, 4), UnsupportedModelError, "computes Dropout also in evaluation mode"),
        (Noise(), torch.zeros(2, 4), UnsupportedModelError, "computes RandomNormalLike also in evaluation mode"),
        (nn.Sequential(nn.BatchNorm1d(4, track_running_stats=False)), torch.zeros(2, 4), UnsupportedModelError,
         "module '0' (BatchNorm1d) normalises with the statistics of each batch"),
        (Branch(), torch.zeros(2, 4), ModelError, "PyTorch cannot export the module ("),
        (OneSample(), torch.zeros(2, 4), ModelError, "dynamic_batch=False"),
        (nn.Linear(4, 4), torch.zeros(2, 5), ModelError, "PyTorch cannot export the module (RuntimeError: "),
        (nn.Linear(4, 4), 3, OptionError, "example inputs cannot be of type int; give a tensor"),
        (nn.Linear(4, 4), (), OptionError, "example inputs cannot be of type tuple"),
        (nn.Bilinear(4, 4, 4), (torch.zeros(2, 4), torch.zeros(3, 4)), DataError, "2 and 3 samples on axis 0"),
        ("resnet18", torch.zeros(2, 4), OptionError, "a module cannot be of type str; give a torch.nn.Module"),
    ],
)  # fmt: skip
def test_refusals(module: Any, example: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error) as caught:
        graphpass.from_torch(module, example, np.zeros((2, 4), np.float32))
    assert words in str(caught.value) and "\n" not in str(caught.value) and "; " in str(caught.value)


def test_a_fixed_number_of_samples() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    data = torch.randn(8, 4)
    made = graphpass.from_torch(module, data[:2], data.numpy(), dynamic_batch=False, time_steps=32, threads=1)
    assert made.to_torch(threads=1)(data[:2]).shape == (2, 3)
    assert made.network.source.proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value == 2


@pytest.mark.parametrize("missing", ["torch", "onnxscript"])
def test_without_pytorch_the_error_says_what_to_install(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr("graphpass.pytorch.find_spec", lambda name: None if name == missing else find(name))
    with pytest.raises(OptionError, match=rf"{missing} is not installed, and from_torch needs it; pip install 'graph"):
        graphpass.from_torch(None, None)


class Sum(nn.Module):
    """Inputs [N, 6] → [N, 2] of their sum."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(6, 8), nn.Linear(8, 2)

    def of(self, *parts: Any) -> Any:
        return self.two(functional.relu(self.one(sum(parts))))


class SumOfAll(Sum):
    def forward(self, *parts: Any) -> Any:
        return self.of(*parts)


class SumOfMore(Sum):
    def forward(self, first: Any, *more: Any) -> Any:
        return self.of(first, *more)


class SumByName(Sum):
    def forward(self, **parts: Any) -> Any:
        return self.of(*parts.values())


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("wrapped", [SumOfAll, SumOfMore, SumByName, lambda: nn.DataParallel(SumOfAll())])
def test_any_number_of_arguments(wrapped: Any, count: int) -> None:
    """As `forward(*inputs)` of wrappers takes them: each is an input of the network with a free batch."""
    module, parts = wrapped().eval(), [torch.randn(16, 6) for _ in range(count)]
    by_name = isinstance(module, SumByName)
    example = {f"part{number}": part for number, part in enumerate(parts)} if by_name else tuple(parts)
    data = [tuple(part[row].numpy() for part in parts) for row in range(16)]
    done = graphpass.from_torch(module, example, calibration=data, time_steps=64, threads=1)
    assert [value.type.tensor_type.shape.dim[0].dim_param for value in done.proto.graph.input] == ["batch"] * count
    session = graphpass.open_session(done.proto)
    found = session.run(
        None, {value.name: part.numpy() for value, part in zip(session.get_inputs(), parts, strict=True)}
    )
    with torch.no_grad():
        np.testing.assert_allclose(found[0], module.of(*parts) if isinstance(module, Sum) else module(*parts), atol=0.1)


def test_example_inputs_that_forward_does_not_take() -> None:
    image = torch.zeros(2, 3, 8, 8)
    for example in ((image, image), {"picture": image}, {"image": image, "more": image}):
        with pytest.raises(OptionError, match=r"does not take the example inputs .*; give what it takes: image"):
            graphpass.from_torch(Small().eval(), example)


class Attending(nn.Module):
    """x [N, 6, 8] → attention within windows of `shape`, so that queries have as many axes; then scores [N, 3]."""

    def __init__(self, shape: tuple[int, ...], masked: bool) -> None:
        super().__init__()
        self.shape, self.masked = shape, masked
        self.first = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 24))
        self.last = nn.Linear(8, 3)

    def forward(self, x: Any) -> Any:
        query, key, value = (each.reshape(x.shape[0], *self.shape) for each in self.first(x).chunk(3, -1))
        mask = torch.ones(*query.shape[-2:-1] * 2).tril().bool() if self.masked else None
        found = functional.scaled_dot_product_attention(query, key, value, mask)
        return self.last(found.reshape(x.shape)).mean(1)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("shape", [(6, 8), (2, 6, 4), (3, 2, 2, 4), (3, 1, 2, 2, 4)])
def test_attention_with_any_number_of_axes(shape: tuple[int, ...], masked: bool) -> None:
    """PyTorch's exporter takes four alone."""
    torch.manual_seed(0)
    module, x = Attending(shape, masked).eval(), torch.randn(16, 6, 8)
    made = graphpass.from_torch(module, x[:2], x, time_steps=255, threads=1)
    with torch.no_grad():
        expected = module(x)
    away = (made.to_torch(threads=1)(x) - expected).norm() / (expected - expected.mean(0)).norm()
    assert away < 0.01


def encoder(batch_first: bool) -> Any:
    torch.manual_seed(3)
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=batch_first)
    return nn.Sequential(nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), nn.Linear(8, 3)).eval()


def test_sequence_first_networks_convert_as_batch_first_ones_do() -> None:
    """[time, samples, features]: the same sites and layers, outputs as close; time is taken for samples that mix."""
    x = torch.randn(6, 40, 8, generator=torch.Generator().manual_seed(1))
    found = []
    for batch_first in (False, True):
        module, given = encoder(batch_first), x.transpose(0, 1).contiguous() if batch_first else x
        with (
            nullcontext() if batch_first else pytest.warns(SourceWarning, match="the other samples .*batch_first=True")
        ):
            made = graphpass.from_torch(
                module,
                given,
                {"input": given.numpy()},
                identity_sites=True,
                time_steps=64,
                threads=1,
                dynamic_batch=False,
            )
        with torch.no_grad():
            expected = module(given).numpy()
        apart = np.linalg.norm(made.to_torch(threads=1)(given).numpy() - expected) / np.linalg.norm(expected)
        assert apart < 0.05
        found.append((len(made.plan.sites), made.network.coverage.spiking_layers, made.network.coverage.weight_layers))
    assert found[0] == found[1] == (8, 8, 9)


@pytest.mark.filterwarnings("ignore:enable_nested_tensor is True:UserWarning")  # PyTorch's about its own default
def test_inputs_with_their_samples_on_another_axis() -> None:
    module = nn.Transformer(8, 2, 1, 1, 16, dropout=0.0).eval()
    example = torch.zeros(6, 2, 8), torch.zeros(5, 2, 8)
    with pytest.raises(DataError, match=r"5 and 6 samples on axis 0; .* on another axis, .*batch_first=True"):
        graphpass.from_torch(module, example, synthetic=True, threads=1)
    with pytest.raises(DataError, match=r"different sizes there: 6 of 'src', 5 of 'tgt'; .*batch_first=True"):
        graphpass.from_torch(module, example, synthetic=True, threads=1, dynamic_batch=False)


class Batch(nn.Module):
    """batch: x [N, 6] and y [N, 1] in a dict or a list → scores [N, 3]; a factor, optionally."""

    def __init__(self, *keys: Any) -> None:
        super().__init__()
        self.keys, self.layers = keys, nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))

    def forward(self, batch: Any, factor: float = 1.0) -> Any:
        x, y = (batch[key] for key in self.keys)
        return self.layers(x + y) * factor


@pytest.mark.parametrize(
    ("example", "names"),
    [
        (lambda x, y: ({"x": x, "y": y},), ("x", "y")),
        (lambda x, y: ({"x": x, "y": y}, 2.0), ("x", "y")),
        (lambda x, y: {"batch": {"x": x, "y": y}}, ("x", "y")),
        (lambda x, y: {"batch": {"x": x, "y": y}, "factor": 2.0}, ("x", "y")),
        (lambda x, y: ([x, y],), (0, 1)),
        (lambda x, y: {"batch": (x, y)}, (0, 1)),
    ],
    ids=["dict", "dict and number", "named dict", "named dict and number", "list", "named tuple"],
)
@pytest.mark.parametrize("free", [True, False], ids=["free", "fixed"])
def test_tensors_in_an_argument_are_inputs(example: Any, names: tuple[Any, ...], free: bool) -> None:
    torch.manual_seed(0)
    module, x, y = Batch(*names), torch.randn(16, 6), torch.randn(16, 1)
    given = example(x[:2], y[:2])
    data = {f"batch_{name}": value.numpy() for name, value in zip(names, (x, y), strict=True)}
    conversion = graphpass.from_torch(module, given, calibration=data, time_steps=64, dynamic_batch=free)
    arguments, named = (given, {}) if isinstance(given, tuple) else ((), given)
    with torch.no_grad():
        wanted = module(*arguments, **named)
    # 64 steps of rate: each of 8 currents is within one of 65 levels, a few percent of the outputs
    torch.testing.assert_close(conversion.to_torch()(x[:2], y[:2]), wanted, rtol=0.05, atol=0.1)


def test_tensors_in_an_argument_have_one_number_of_samples() -> None:
    example = ({"x": torch.randn(2, 6), "y": torch.randn(3, 1)},)
    with pytest.raises(DataError, match="the example inputs have 2 and 3 samples on axis 0"):
        graphpass.from_torch(Batch("x", "y"), example, calibration={}, time_steps=4)

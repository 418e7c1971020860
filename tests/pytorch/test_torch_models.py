"""All classifiers of torchvision, and some of timm: close, or as far off as rounding in PyTorch brings them.

All of them take hours: `scripts/test -m slow --explore 1`, as .ci/run has it, takes a few.
"""

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed (pip install --group torch)")
pytest.importorskip("torchvision")

from benchmarks import torch_models  # noqa: E402
from benchmarks.torch_models import CLOSE, TorchModel  # noqa: E402

FEW = ("resnet18", "squeezenet1_0", "convnextv2_atto", "edgenext_xx_small", "lcnet_050", "vit_tiny_patch16_224")


@pytest.mark.slow
@pytest.mark.parametrize(("library", "name"), torch_models.names())
def test_a_network_is_converted(library: str, name: str, request: pytest.FixtureRequest) -> None:
    if request.config.option.explore == 1 and name not in FEW:
        pytest.skip("one of the networks that --explore 1 leaves out")
    pytest.importorskip(library)
    row = torch_models.apart(library, name)
    assert row.error is not None, row.refused
    assert row.error <= CLOSE or row.as_moved, row


def test_rounding_makes_256_levels_of_activations_alone() -> None:
    values = torch.randn(3, 4, 50, 50, generator=torch.Generator().manual_seed(0))
    with torch_models.rounding():
        rounded, plain = torch.relu(values), values * 2
        modules = torch.nn.SiLU()(values)
    for each, exact in ((rounded, torch.relu(values)), (modules, torch.nn.functional.silu(values))):
        counts = [len(each[:, channel].unique()) for channel in range(4)]
        assert min(counts) > 150 and max(counts) <= 256  # rare levels may be empty
        spans = exact.amax((0, 2, 3)) - exact.amin((0, 2, 3))
        assert bool(((each - exact).abs().amax((0, 2, 3)) <= spans / 255 / 2 + 1e-6).all())
    assert torch.equal(plain, values * 2)


def test_the_page_counts_what_is_close_moved_far_refused_and_missing() -> None:
    rows = {
        "resnet18": TorchModel("torchvision", "resnet18", 64, 17, "19 of 21", 0.01, 0.02),
        "resnet34": TorchModel("torchvision", "resnet34", 64, 17, "19 of 21", 0.03, 0.02),
        "resnet50": TorchModel("torchvision", "resnet50", 64, 17, "19 of 21", 0.05, 0.02),
        "swin_t": TorchModel("torchvision", "swin_t", 64, refused="model: cannot"),
    }
    text = torch_models.page(rows)
    assert f"* error of at most 2%: 1 of {len(torch_models.names())} networks" in text
    assert "* more, but at most 2 times what rounding does in PyTorch: 1" in text
    assert "* further off: `resnet50`" in text and "* refused, or not measured: `swin_t`" in text
    assert "* not run yet: `" in text and "| torchvision | `resnet18` | 64 | 17 | 19 of 21 | 1.00 | 2.00 |  |" in text


def test_branches_whose_scale_begins_near_0_reach_the_outputs() -> None:
    module, side = torch_models.build("torchvision", "convnext_tiny")
    torch_models.settle(module, torch.randn(2, 3, side, side))
    scales = [value for name, value in module.named_parameters() if name.endswith("layer_scale")]
    assert scales and all(scale.min() == 1 for scale in scales)

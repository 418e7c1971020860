"""What identity sites would bring is said where they were not asked for, and only where they bring something."""

import numpy as np
import onnx
import pytest

import graphpass
from graphpass.errors import UnsupportedModelError
from tests.models import build, node

RANDOM = np.random.default_rng(0)
SHAPES = {"q": (8, 8), "o": (8, 8), "g": (8, 16), "u": (8, 16), "d": (16, 8), "h": (8, 5)}
WEIGHTS = {name: RANDOM.normal(size=shape).astype(np.float32) / 3 for name, shape in SHAPES.items()}
CONSTANTS = {"two": np.float32(2), "tiny": np.float32(1e-5), "scale": np.ones(8, np.float32)}


def norm(x: str, y: str) -> list[onnx.NodeProto]:
    """x / √(mean x² + ε) · scale, as PyTorch exports it."""
    return [
        node("Pow", f"{x} two", f"{y}_p", f"{y}_pow"),
        node("ReduceMean", f"{y}_p", f"{y}_m", f"{y}_mean", axes=[-1]),
        node("Add", f"{y}_m tiny", f"{y}_e", f"{y}_add"),
        node("Sqrt", f"{y}_e", f"{y}_s", f"{y}_sqrt"),
        node("Div", f"{x} {y}_s", f"{y}_d", f"{y}_div"),
        node("Mul", f"{y}_d scale", y, f"{y}_scale"),
    ]


def language_model() -> onnx.ModelProto:
    """Root mean square norms, attention with one projection, SwiGLU: no activation feeds a weight layer."""
    nodes = [
        *norm("x", "n"),
        node("MatMul", "n q", "projected", "query"),
        node("Transpose", "projected", "turned", "turn", perm=[0, 2, 1]),
        node("MatMul", "projected turned", "scores", "scores"),
        node("Softmax", "scores", "shares", "softmax", axis=-1),
        node("MatMul", "shares projected", "mix", "mix"),
        node("MatMul", "mix o", "attended", "out"),
        node("Add", "x attended", "r", "residual"),
        *norm("r", "k"),
        node("MatMul", "k g", "gated", "gate"),
        node("Sigmoid", "gated", "sigmoid", "sigmoid"),
        node("Mul", "gated sigmoid", "silu", "silu"),
        node("MatMul", "k u", "upper", "up"),
        node("Mul", "silu upper", "product", "product"),
        node("MatMul", "product d", "lower", "down"),
        node("Add", "r lower", "s", "sum"),
        node("MatMul", "s h", "logits", "head"),
    ]
    return build(nodes, {"x": ["N", 6, 8]}, {"logits": None}, {**WEIGHTS, **CONSTANTS})


def chain() -> onnx.ModelProto:
    """Three layers, no activation."""
    nodes = [node("MatMul", "x q", "a", "one"), node("MatMul", "a o", "b", "two"), node("MatMul", "b h", "y", "three")]
    return build(nodes, {"x": ["N", 8]}, {"y": None}, WEIGHTS)


def refusal(model: onnx.ModelProto, data: dict[str, np.ndarray], **options) -> UnsupportedModelError:
    with pytest.raises(UnsupportedModelError) as caught:
        graphpass.convert(model, data, time_steps=4, **options)
    return caught.value


def test_a_language_model_says_what_identity_sites_would_bring_and_converts_with_them():
    data = {"x": RANDOM.normal(size=(32, 6, 8)).astype(np.float32)}
    error = refusal(language_model(), data)
    assert error.remedy == "--identity-sites adds 5 sites: spikes would reach 6 of 6 weight layers"
    assert "'query' (MatMul) and 5 more: no activation feeds it; --identity-sites puts neurons in front" in str(error)
    assert "'silu' (silu): its output reaches no weight layer as spikes (a gate" in str(error)
    found = graphpass.inspect(language_model())
    assert (found.with_identity_sites.added, found.with_identity_sites.spiking_layers) == (5, 6)
    there = graphpass.inspect(language_model(), identity_sites=True)
    assert there.with_identity_sites is None
    assert {site.name: site.layers for site in there.sites}["product/identity"] == ("down",)  # SwiGLU's product
    assert sorted(entry.node for entry in there.left) == ["mix", "scores", "silu"]
    done = graphpass.convert(language_model(), data, time_steps=8, coding="phase", identity_sites=True)
    ann, snn = (graphpass.open_session(each).run(None, data)[0] for each in (language_model(), done))
    assert np.linalg.norm(snn - ann) < 0.02 * np.linalg.norm(ann)  # 256 levels on the data they were fitted to


def test_a_chain_of_layers_without_activations():
    data = {"x": RANDOM.normal(size=(32, 8)).astype(np.float32)}
    error = refusal(chain(), data)
    assert error.remedy == "--identity-sites adds 2 sites: spikes would reach 2 of 3 weight layers"
    assert "'one' (MatMul): its input is the network's own analogue input" in str(error)
    assert len(graphpass.convert(chain(), data, time_steps=4, identity_sites=True).plan.sites) == 2


def test_nothing_is_promised_where_identity_sites_bring_nothing():
    """One layer on the network's input; products of two activations."""
    data = {"x": RANDOM.normal(size=(8, 8)).astype(np.float32)}
    one = build([node("MatMul", "x q", "y", "one")], {"x": ["N", 8]}, {"y": None}, {"q": WEIGHTS["q"]})
    for options in ({}, {"identity_sites": True}):
        assert "identity" not in refusal(one, data, **options).remedy
    assert graphpass.inspect(one).with_identity_sites is None


def test_with_the_option_reasons_do_not_advise_it():
    """A pattern keeps one identity site away: its layer's reason does not say to use the option that is in use."""
    found = graphpass.inspect(language_model(), identity_sites=True, exclude="product")
    reasons = {entry.node: entry.reason for entry in found.left}
    assert reasons["down"] == "no activation feeds it"
    assert reasons["product/identity"] == "excluded by --exclude"


def test_a_selection_that_leaves_no_site_says_so():
    nodes = [node("MatMul", "x q", "a", "one"), node("Relu", "a", "r", "act"), node("MatMul", "r o", "y", "two")]
    model = build(nodes, {"x": ["N", 8]}, {"y": None}, WEIGHTS)
    data = {"x": RANDOM.normal(size=(8, 8)).astype(np.float32)}
    assert refusal(model, data, exclude="act").remedy == (
        "let --include and --exclude leave a site; "
        "or: --identity-sites adds 1 site: spikes would reach 1 of 2 weight layers"
    )
    assert refusal(model, data, exclude=".").remedy == "let --include and --exclude leave a site"

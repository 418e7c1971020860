"""Small networks of every structure that calibration knows, and one calibrated case of each."""

import numpy as np
import onnx_graphsurgeon as gs

from graphpass.calibration.calibrate import CalibrationOptions, calibrate
from graphpass.datasets.sources import from_arrays
from graphpass.forms import operators
from graphpass.forms.folded import fold
from graphpass.graph.domains import opset_of
from graphpass.graph.model import export
from graphpass.passes.normalise import normalise
from graphpass.runtime.session import fixed_batch, input_specs, open_session
from graphpass.sites.sites import Selection, find_sites
from tests.models import build, node

PARTS = ("threshold", "shift", "amplitude", "offset")


def weights(*shape, seed=0):
    values = np.random.default_rng((seed, *shape)).normal(size=shape)
    return (values / np.sqrt(np.prod(shape[1:]))).astype(np.float32)


def images(count=12, channels=3, size=6):
    """Samples with structure: random mixtures of four patterns, and a little noise."""
    rng = np.random.default_rng(1)
    patterns = rng.normal(size=(4, channels * size * size))
    mixed = rng.normal(size=(count, 4)) @ patterns + 0.2 * rng.normal(size=(count, channels * size * size))
    return mixed.reshape(count, channels, size, size).astype(np.float32)


def vectors(count=40, width=8):
    return images(count, width, 1).reshape(count, width)


C1, C2, C3 = weights(6, 3, 3, 3), weights(6, 6, 3, 3), weights(6, 6, 3, 3, seed=1)
B = weights(6, 1).ravel()
HEAD = weights(6, 5)
POOLED = [
    node("GlobalAveragePool", "last", "g", "mean"),
    node("Flatten", "g", "f", "flat"),
    node("MatMul", "f head", "y", "head"),
]
PAD = {"pads": [1, 1, 1, 1]}
IMAGE = {"x": ["N", 3, 6, 6]}


def image_net(*nodes, batch="N", **constants):
    known = {"c1": C1, "c2": C2, "c3": C3, "b": B, "head": HEAD, **constants}
    used = {name for each in (*nodes, *POOLED) for name in each.input}
    return build([*nodes, *POOLED], {"x": [batch, 3, 6, 6]}, {"y": None}, {k: v for k, v in known.items() if k in used})


def plain(batch="N"):
    return image_net(
        node("Conv", "x c1 b", "h1", "conv1", **PAD), node("Relu", "h1", "a1", "act1"),
        node("Conv", "a1 c2", "h2", "conv2", **PAD), node("Relu", "h2", "last", "act2"), batch=batch,
    )  # fmt: skip


def residual():
    """Two branches join, one of them straight from an activation with two readers."""
    return image_net(
        node("Conv", "x c1 b", "h1", "conv1", **PAD), node("Relu", "h1", "a1", "act1"),
        node("Conv", "a1 c2 b", "h2", "conv2", **PAD), node("Relu", "h2", "a2", "act2"),
        node("Conv", "a2 c3", "h3", "conv3", **PAD), node("Add", "h3 a1", "h4", "join"),
        node("Relu", "h4", "last", "act3"),
    )  # fmt: skip


def projected():
    """Both branches of the join end in a convolution: they are corrected together."""
    return image_net(
        node("Conv", "x c1 b", "h1", "conv1", **PAD), node("Relu", "h1", "a1", "act1"),
        node("Conv", "a1 c2", "h2", "conv2", **PAD), node("Conv", "a1 c3 b", "h3", "conv3", **PAD),
        node("Add", "h2 h3", "h4", "join"), node("LeakyRelu", "h4", "last", "act2", alpha=0.2),
    )  # fmt: skip


def preactivated():
    """The join feeds a convolution directly, ahead of the (longer) activation that it feeds too."""
    return image_net(
        node("Conv", "x c1 b", "h1", "conv1", **PAD), node("Relu", "h1", "a1", "act1"),
        node("Conv", "a1 c2", "h2", "conv2", **PAD), node("Add", "h2 a1", "j", "join"),
        node("Conv", "j c3", "s", "shortcut", **PAD), node("Sigmoid", "j", "gate", "sigmoid"),
        node("Mul", "j gate", "a2", "act2"), node("Conv", "a2 c2b", "h3", "conv3", **PAD),
        node("Add", "h3 s", "h4", "join2"),
        node("Relu", "h4", "last", "act3"), c2b=C2[::-1].copy(),
    )  # fmt: skip


def overtaken():
    """The join feeds a convolution that ends in a gate, ahead of the activation that it feeds too."""
    return image_net(
        node("Conv", "x c1 b", "h1", "conv1", **PAD), node("Relu", "h1", "a1", "act1"),
        node("Conv", "a1 c2", "h2", "conv2", **PAD), node("Add", "h2 a1", "j", "join"),
        node("Conv", "j c3", "s", "side", **PAD), node("Softmax", "s", "p", "softmax", axis=1),
        node("Sigmoid", "j", "gate", "sigmoid"), node("Mul", "j gate", "a2", "act2"),
        node("Conv", "a2 c2b", "h3", "conv3", **PAD), node("Mul", "h3 p", "h4", "weigh"),
        node("Relu", "h4", "last", "act3"), c2b=C2[::-1].copy(),
    )  # fmt: skip


def grouped():
    return image_net(
        node("Conv", "x c1 b", "h1", "conv1", **PAD), node("Relu", "h1", "a1", "act1"),
        node("Conv", "a1 d", "h2", "depthwise", group=6, **PAD), node("Relu", "h2", "a2", "act2"),
        node("Conv", "a2 pairs", "h3", "grouped", group=2), node("Relu", "h3", "last", "act3"),
        d=weights(6, 1, 3, 3), pairs=weights(6, 3, 1, 1),
    )  # fmt: skip


def two_activations():
    """One tensor, two activations, each with its reader."""
    return image_net(
        node("Conv", "x c1 b", "h1", "conv1", **PAD), node("Relu", "h1", "a1", "act1"),
        node("Tanh", "h1", "t1", "act2"),
        node("Conv", "a1 c2", "u", "conv2", **PAD), node("Conv", "t1 c3", "v", "conv3", **PAD),
        node("Add", "u v", "h2", "join"), node("Sigmoid", "h2", "last", "act3"),
    )  # fmt: skip


def transformer():
    return build(
        [
            node("LayerNormalization", "x one", "n", "norm"), node("MatMul", "n wq", "q", "q"),
            node("MatMul", "n wk", "k", "k"),
            node("MatMul", "n wv", "v", "v"), node("Transpose", "k", "kt", "turn", perm=[0, 2, 1]),
            node("MatMul", "q kt", "s", "scores"), node("Softmax", "s", "p", "softmax"),
            node("MatMul", "p v", "m", "mix"),
            node("MatMul", "m wo", "o", "out"), node("Add", "o x", "r", "residual"),
            node("LayerNormalization", "r one", "n2", "norm2"), node("MatMul", "n2 up", "h", "up"),
            node("Add", "h bu", "hb", "up_bias"),
            node("Gelu", "hb", "e", "gelu"), node("MatMul", "e down", "d", "down"),
            node("Add", "d r", "y", "residual2"),
        ],
        {"x": ["N", 5, 8]}, {"y": None},
        {"one": np.ones(8, np.float32), "up": weights(8, 16), "bu": weights(16, 1).ravel(), "down": weights(16, 8),
         **{name: weights(8, 8, seed=seed) for seed, name in enumerate(("wq", "wk", "wv", "wo"))}},
        opset=20,
    )  # fmt: skip


def tokens(count=12):
    return vectors(count * 5, 8).reshape(count, 5, 8)


NETWORKS = {
    "plain": (plain, images), "residual": (residual, images), "projected": (projected, images),
    "preactivated": (preactivated, images), "grouped": (grouped, images),
    "overtaken": (overtaken, images), "two_activations": (two_activations, images),
    "transformer": (transformer, tokens),
}  # fmt: skip


class CalibrationCase:
    """A network, normalised, with its sites and its data."""

    def __init__(self, model, x, selection=None):
        self.model, self.x, self.selection = model, x, selection or Selection()
        self.specs = input_specs(open_session(model, threads=1))

    def graph(self):
        graph = gs.import_onnx(self.model)
        graph.toposort()
        normalise(graph)
        return graph

    def coverage(self):
        return find_sites(self.graph(), self.selection)

    def plan(self, **options):
        settings = CalibrationOptions(**{"time_steps": 4, "threads": 1, "batch": 5, **options})
        dataset = from_arrays({self.specs[0].name: self.x}, self.specs)
        return calibrate(self.graph(), self.coverage(), dataset, settings, fixed_batch(self.specs))

    def spiking(self, plan, fetch=()):
        """The folded network as a model; fetch: tensors that become outputs too."""
        graph = fold(self.graph(), plan)
        tensors = graph.tensors()
        graph.outputs += [tensors[name] for name in fetch if name not in {each.name for each in graph.outputs}]
        for tensor in graph.outputs:
            tensor.dtype = tensor.dtype or np.dtype(np.float32)
        proto = export(graph)
        proto.functions.extend(operators.functions(plan.coding, opset_of(proto)))
        proto.opset_import.append(operators.opset_import())
        return proto


def case(name):
    model, data = NETWORKS[name]
    return CalibrationCase(model(), data(), Selection(identity_sites=name == "transformer"))


def finite(plan):
    for site in plan.sites:
        assert site.error is None or np.isfinite(site.error)
        assert (site.threshold > 0).all()
        assert all(np.isfinite(getattr(site, part)).all() for part in PARTS)
    for layer in plan.layers:
        assert np.isfinite(layer.weight).all()
        assert np.isfinite(layer.bias_change).all()
    return True

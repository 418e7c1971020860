"""The integer form: counts travel as uint8 between integer layers, the threshold is the scale of their sums.

    y = A·n + o        n is the tensor y/count; the tensor y itself exists where something reads floats

Shape-only nodes, max pooling and concatenation work on counts; what they owe (A and o, graph.pending) travels on and
ends in the weights and bias of the next layers. A neuron's current is the sum of one or two terms:

    layer                 QLinearConv or QGemm, y_scale 1, then Clip(0, L)                 graph.integer_layers
    layer + layer         one convolution over concatenated counts, where positions correspond
    layer + A·n + o       QLinearAdd of both, the layer's sum in steps of COARSEST or less; an A·n whose A/θ
                          differs between channels goes through a convolution of one tap first
    float layer           W/θ and (b + ψ)/θ − 1/2 in the float layer, then QuantizeLinear
    anything else         ParallelNeuronCount on the float current

Everything else stays float, and is listed with its reason.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from graphpass.graph import operators
from graphpass.graph.integer_layers import scalar
from graphpass.graph.integer_sums import Counts, Sum, integer_nodes
from graphpass.graph.layers import WeightLayer, weight_layer
from graphpass.graph.pending import Affine, joined, neuron_affine, through
from graphpass.graph.preparation import compute_constants, infer_shapes
from graphpass.graph.sites import Left
from graphpass.graph.time_axis import POOLS, rank_of
from graphpass.graph.weights import held_names

COUNT = "/count"
CARRIES = frozenset(
    "Identity Reshape Flatten Squeeze Unsqueeze Transpose Slice Split Gather Pad Expand Tile DepthToSpace "
    "SpaceToDepth".split()
)  # they have kernels for uint8


def to_integers(graph: gs.Graph) -> tuple[gs.Graph, tuple[Left, ...]]:
    """Rewrite a graph in folded form into the integer form, in place; also what stays float, and why."""
    graph.toposort()
    compute_constants(graph)
    infer_shapes(graph)
    walk = _Walk(graph)
    walk.run()
    graph.cleanup(remove_unused_graph_inputs=False).toposort()
    return graph, tuple(walk.left)


class _Walk:
    """One walk over the sorted nodes; `counts` says what is known of a float tensor as counts."""

    def __init__(self, graph: gs.Graph):
        self._graph = graph
        self._held = held_names(graph)
        self._nodes: list[gs.Node] = []
        self._counts: dict[str, Counts] = {}
        self._paid: set[str] = set()
        self._currents: set[int] = set()  # nodes that wait for the neuron they alone feed
        self.left: list[Left] = []

    def run(self) -> None:
        nodes = list(self._graph.nodes)
        for node in nodes:
            if node.op == operators.FOLDED_NEURON:
                self._claim(node.inputs[0])
        for node in nodes:
            if id(node) in self._currents:
                continue
            if node.op == operators.FOLDED_NEURON:
                self._fire(node)
            elif not self._carry(node):
                layer = weight_layer(node)
                if layer and layer.data.name in self._counts:
                    self._stay(node.name, node.op, "its output is not the current of one neuron alone")
                self._float(node)
        for tensor in self._graph.outputs:
            self._pay(tensor)
        self._graph.nodes = self._nodes

    # ---- currents of neurons

    def _claim(self, current: gs.Tensor, depth: int = 0) -> None:
        """Hold back the layers and sums that make a current and nothing else."""
        node = current.inputs[0] if current.inputs else None
        if node is None or len(current.outputs) != 1 or current.name in self._held:
            return
        if weight_layer(node):
            self._currents.add(id(node))
        elif node.op == "Add" and not node.domain and depth < 3:
            self._currents.add(id(node))
            for tensor in node.inputs:
                if not isinstance(tensor, gs.Constant):
                    self._claim(tensor, depth + 1)

    def _terms(self, current: gs.Tensor) -> Sum | str:
        node = current.inputs[0] if current.inputs else None
        if node is None or id(node) not in self._currents:
            known = self._counts.get(current.name)
            return Sum(counts=(known,)) if known else f"it adds {current.name!r}, which is not made of counts"
        layer = weight_layer(node)
        if layer:
            known = self._counts.get(layer.data.name)
            return Sum(layers=((layer, known),)) if known else f"{layer.data.name!r} is not made of counts"
        total = Sum()
        for tensor in node.inputs:
            if isinstance(tensor, gs.Constant):
                total = replace(total, constants=(*total.constants, np.asarray(tensor.values, np.float32)))
                continue
            part = self._terms(tensor)
            if isinstance(part, str):
                return part
            total = Sum(total.layers + part.layers, total.counts + part.counts, total.constants + part.constants)
        return total

    def _fire(self, node: gs.Node) -> None:
        """A neuron: its counts, computed in integers where the current is made of counts."""
        x, y, parts = node.inputs[0], node.outputs[0], [np.asarray(tensor.values) for tensor in node.inputs[1:]]
        largest = int(node.attrs["levels"]) - 1
        rank = rank_of(x)
        count = gs.Variable(f"{y.name}{COUNT}", np.uint8, y.shape)
        total = self._terms(x)
        if isinstance(total, Sum) and rank is not None:
            made = integer_nodes(total, rank, parts[0], parts[1], largest, count)
        else:
            made = total if isinstance(total, str) else "its number of axes is not known"
        if isinstance(made, str):
            layers = self._release(x)
            for name, op in layers or [(node.name, operators.COUNT_NEURON)]:
                self._stay(name, op, f"the current of {node.name!r} is not integer: {made}")
            y, count = self._fire_on_float(node, parts, largest)
        else:
            self._nodes.extend(made)
        node.inputs.clear()
        node.outputs.clear()
        if rank is not None and all(part.ndim < rank or part.shape[0] == 1 for part in parts):
            self._counts[y.name] = Counts(count, neuron_affine(parts[2], parts[3], 1.0, rank), largest)
        else:
            self._scale(count, parts[2], parts[3], y)

    def _release(self, current: gs.Tensor) -> list[tuple[str, str]]:
        """Emit the nodes of a current as floats; returns the layers among them as (name, op)."""
        node = current.inputs[0] if current.inputs else None
        if node is None or id(node) not in self._currents:
            self._pay(current)
            return []
        layers = [(node.name, node.op)] if weight_layer(node) else []
        for tensor in node.inputs if not layers else []:
            layers += self._release(tensor)
        self._currents.discard(id(node))
        self._float(node)
        return layers

    def _fire_on_float(
        self, node: gs.Node, parts: Sequence[NDArray[np.float32]], largest: int
    ) -> tuple[gs.Variable, gs.Variable]:
        """Counts of a float current: (what they stand for, counts).

        Where one layer makes the current, and the neuron alone reads it, 1/θ goes into the layer. A max pooling that
        alone reads the neurons comes before them: max n(x) = n(max x).
        """
        x, y, rank = node.inputs[0], node.outputs[0], rank_of(node.inputs[0])
        maker = x.inputs[0] if x.inputs else None
        layer = weight_layer(maker) if maker is not None and len(x.outputs) == 1 and x.name not in self._held else None
        owed = None if rank is None else neuron_affine(parts[0], parts[1], 1.0, rank)
        pool = y.outputs[0] if len(y.outputs) == 1 and y.name not in self._held and y.outputs[0].op in POOLS else None
        current = self._scaled_layer(layer, owed) if layer and owed else None
        rounded = current is not None
        current = current or x
        if pool is not None and len(pool.outputs) == 1 and _rises_by_channel(parts, rank):
            y = pool.outputs[0]
            pooled = gs.Variable(f"{y.name}/current", x.dtype, y.shape)
            pool.inputs, pool.outputs = [current], [pooled]
            self._currents.add(id(pool))
            self._nodes.append(pool)
            current = pooled
        count = gs.Variable(f"{y.name}{COUNT}", np.uint8, y.shape)
        if rounded:
            # in this order: onnxruntime would move a bare QuantizeLinear in front of the pooling, where it is slow
            limited = gs.Variable(f"{count.name}/limited", np.float32, y.shape)
            limits = [scalar(f"{count.name}/least", 0, np.float32), scalar(f"{count.name}/most", largest, np.float32)]
            steps = [scalar(f"{count.name}/scale", 1, np.float32), scalar(f"{count.name}/zero", 0, np.uint8)]
            self._nodes.append(gs.Node("Clip", limited.name, {}, [current, *limits], [limited]))
            self._nodes.append(gs.Node("QuantizeLinear", f"{count.name}/round", {}, [limited, *steps], [count]))
        else:
            inputs, name = [current, *node.inputs[1:3]], f"{count.name}/neuron"
            attributes = dict(node.attrs)
            neuron = gs.Node(operators.COUNT_NEURON, name, attributes, inputs, [count], domain=operators.DOMAIN)
            self._nodes.append(neuron)
        return y, count

    def _scaled_layer(self, layer: WeightLayer, owed: Affine) -> gs.Variable | None:
        """(layer + ψ)/θ − 1/2 as the layer's new output; None where the layer cannot take that in."""
        node = layer.node
        constant = layer.bias is None or isinstance(layer.bias, gs.Constant)
        if node.op != "Conv" or np.dtype(layer.weight.dtype) != np.float32 or owed.varying - {1} or not constant:
            return None
        output = node.outputs[0]
        weight = np.asarray(layer.weight.values, np.float64)
        theta, psi = (part.astype(np.float64) for part in owed.vectors(1, len(weight)))
        bias = 0.0 if layer.bias is None else np.asarray(layer.bias.values, np.float64)
        scaled = (weight / theta.reshape(-1, *(1,) * (weight.ndim - 1))).astype(np.float32)
        shifted = ((bias + psi) / theta - 0.5).astype(np.float32)
        current = gs.Variable(f"{output.name}/scaled", np.float32, output.shape)
        node.inputs = [
            node.inputs[0],
            gs.Constant(f"{current.name}/weight", scaled),
            gs.Constant(f"{current.name}/bias", shifted),
        ]
        node.outputs = [current]
        return current

    # ---- other nodes

    def _carry(self, node: gs.Node) -> bool:
        """A node that moves counts, or picks the largest: on the counts themselves, where they allow it."""
        entries = [self._counts.get(tensor.name) for tensor in node.inputs]
        if node.domain or not entries or entries[0] is None:
            return False
        first = entries[0]
        largest = max(entry.largest for entry in entries if entry)
        owed: list[Affine] | None = None
        if node.op == "Shape":
            node.inputs[0] = first.tensor
            self._nodes.append(node)
            return True
        if node.op == "Concat":
            known = [entry for entry in entries if entry is not None]
            affine = joined(node, [entry.affine for entry in known]) if len(known) == len(entries) else None
            owed = None if affine is None else [affine]
        elif node.op in POOLS:
            rising = (first.affine.scale >= 0).all() and not first.affine.varying - {1} and len(node.outputs) == 1
            owed = [first.affine] if rising else None
        elif node.op in CARRIES and (node.op != "Transpose" or "perm" in node.attrs):
            owed = through(node, first.affine)
        if owed is None or any(each.scale.ndim != rank_of(t) for each, t in zip(owed, node.outputs, strict=True)):
            return False
        inputs = [entry.tensor if entry else tensor for entry, tensor in zip(entries, node.inputs, strict=True)]
        if node.op == "Pad" and len(inputs) > 2:
            inputs[2] = gs.Variable.empty()  # it is zero, as a float
        outputs = [gs.Variable(f"{tensor.name}{COUNT}", np.uint8, tensor.shape) for tensor in node.outputs]
        for tensor, affine, output in zip(list(node.outputs), owed, outputs, strict=True):
            self._counts[tensor.name] = Counts(output, affine, largest)
        node.inputs, node.outputs = inputs, outputs
        self._nodes.append(node)
        return True

    def _float(self, node: gs.Node) -> None:
        """A node that reads floats; so do the bodies of If, Loop and Scan, by name."""
        for tensor in node.inputs:
            self._pay(tensor)
        for body in node.subgraphs():
            for inner in (body, *body.subgraphs(recursive=True)):
                for tensor in (t for reader in inner.nodes for t in reader.inputs):
                    self._pay(tensor)
                for tensor in inner.outputs:
                    self._pay(tensor)
        self._nodes.append(node)

    def _stay(self, node: str, op: str, reason: str) -> None:
        self.left.append(Left(node, op, reason, True))

    def _pay(self, tensor: gs.Tensor) -> None:
        """Make the float tensor that counts stand for, where it is one."""
        known = self._counts.get(tensor.name)
        if known is not None and tensor.name not in self._paid:
            self._paid.add(tensor.name)
            self._scale(known.tensor, known.affine.scale, known.affine.offset, tensor)

    def _scale(
        self, count: gs.Variable, scale: NDArray[np.float32], offset: NDArray[np.float32], output: gs.Variable
    ) -> None:
        """output = scale·count + offset, as nodes."""
        name, dtype = output.name, np.dtype(output.dtype or np.float32)
        output.inputs.clear()
        kind = int(onnx.helper.np_dtype_to_tensor_dtype(dtype))
        steps: list[tuple[str, str, NDArray[np.float32] | None]] = [("Cast", "", None)]
        steps += [("Mul", "scale", scale)] if np.any(scale != 1) else []
        steps += [("Add", "offset", offset)] if np.any(offset) else []
        data = count
        for number, (op, part, values) in enumerate(steps):
            last = number == len(steps) - 1
            result = output if last else gs.Variable(f"{name}/paid_{number}", dtype, output.shape)
            operand = [] if values is None else [gs.Constant(f"{name}/{part}", values.astype(dtype))]
            attributes = {"to": kind} if op == "Cast" else {}
            self._nodes.append(gs.Node(op, f"{name}/paid_{op}", attributes, [data, *operand], [result]))
            data = result


def _rises_by_channel(parts: Sequence[NDArray[np.float32]], rank: int | None) -> bool:
    """Whether all neurons of a channel are the same rising function of their current."""
    if rank is None or (parts[2] < 0).any():
        return False
    return not any(neuron_affine(one, two, 1.0, rank).varying - {1} for one, two in (parts[:2], parts[2:]))

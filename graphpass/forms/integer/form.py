"""The integer form: counts travel as uint8 between integer layers, the threshold is the scale of their sums.

    y = A·n + o        n is the tensor y/count; the tensor y itself exists where something reads floats

Nodes that move values, max pooling and concatenation work on counts; A and o (graph.affine) travel on with them, also
through products with constants, and end in the next layers. A neuron's current is the sum of one or two terms:

    layer                 the layer on integers, y_scale 1, then Clip(0, L)                quantised.py
    layer + layer         one convolution over concatenated counts, where positions correspond
    c·n + d               a convolution of one tap: counts or analogue tensors behind a normalisation       sums.py
    layer + A·n + o       an Add on integers, the layer's sum in steps of COARSEST or less; an A·n whose A/θ
                          differs between channels goes through a convolution of one tap first
    f(layer), f(sum)      layer or sum as uint8, f in floats, then QuantizeLinear                     curved.py
    float layer           W/θ and (b + ψ)/θ − 1/2 in the float layer, then QuantizeLinear
    anything else         ParallelNeuronCount on the float current

Analogue tensors of known range are encoded (tensors.py) and read like counts:

    layer, x + x'         a layer or Add on integers whose output scale and zero point are the encoding's
    mean of counts        in steps of a part of a count, with each channel's own scale               averages.py
    made by floats        QuantizeLinear
    product read by floats    a product of integers with a float output

Everything else stays float, and is listed with its reason. This is what the usual target gets; for those whose zero
points are 0, symmetric.py says what is written instead.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from graphpass.forms import operators
from graphpass.forms.integer import moves
from graphpass.forms.integer.averages import averaged
from graphpass.forms.integer.borders import as_float32, encoded_counts, rounded_nodes, scaled_floats, scaled_layer
from graphpass.forms.integer.counting import Counting, counting_of, stored
from graphpass.forms.integer.curved import curved_counts, curved_currents
from graphpass.forms.integer.layers import linear_of
from graphpass.forms.integer.offsets import hides_zero, without_offset
from graphpass.forms.integer.quantised import has_normal_scales, quantised, settled
from graphpass.forms.integer.sums import CountSum, CountTerm, adds_constant, is_sum
from graphpass.forms.integer.targets import TARGETS, USUAL
from graphpass.forms.integer.tensors import encodings, is_float32
from graphpass.forms.preparation import compute_constants, split_layers
from graphpass.graph.affine import neuron_affine
from graphpass.graph.domains import SPIKING_DOMAIN
from graphpass.graph.edit import held_names, tensors_read
from graphpass.graph.layers import WeightLayer, is_maximum, rank_of, weight_layer
from graphpass.graph.names import Stems
from graphpass.graph.plan import Left
from graphpass.graph.shapes import infer_shapes

COUNT = "/count"


def to_integers(
    graph: gs.Graph, ranges: Mapping[str, tuple[float, float]] | None = None, target: str = USUAL
) -> "Integers":
    """Rewrite a graph in folded form into the integer form, in place.

    ranges: least and largest value of analogue tensors, by name; those without one stay float. target: of TARGETS.
    """
    graph.toposort()
    compute_constants(graph)
    split_layers(graph)
    infer_shapes(graph)
    walk = _Walk(graph, ranges or {}, target)
    walk.run()
    moves.encode_behind_transposes(graph)
    graph.cleanup(remove_unused_graph_inputs=False).toposort()
    TARGETS[target].settle(graph, walk.stem)
    return Integers(graph, tuple(walk.left), tuple(walk.encoded), walk.sent, walk.zeros)


@dataclass(frozen=True)
class Integers:
    """A graph in the integer form: what stays float and why, and names of the analogue tensors that are encoded.

    counts: by the output of neurons, or of the max pooling that they moved behind, the tensor of their counts. zeros:
    by the same, what is subtracted from a count before it is stored, where that is not 0.
    """

    graph: gs.Graph
    floats: tuple[Left, ...]
    encoded: tuple[str, ...]
    counts: Mapping[str, str]
    zeros: Mapping[str, int]


class _Walk:
    """One walk over the sorted nodes; `counts` says what is known of a float tensor as counts."""

    def __init__(self, graph: gs.Graph, ranges: Mapping[str, tuple[float, float]], target: str):
        self._graph, self._target, self._numbers = graph, TARGETS[target], TARGETS[target].numbers
        self._held = held_names(graph)
        self._encodings = encodings(graph, ranges, self._numbers)
        self._curved = curved_currents(graph) if self._numbers.shifted else {}
        self._codes = self._encodings | {name: each.code for name, each in self._curved.items()}  # of what layers make
        self._nodes: list[gs.Node] = []
        self._counts: dict[str, CountTerm] = {}
        self._unshifted: dict[str, CountTerm] = {}
        self._decoded: set[str] = set()
        self._made_of_floats: set[str] = set()  # encoded tensors that exist as floats
        self._products: dict[str, tuple[gs.Node, list[gs.Tensor]]] = {}  # makers and inputs of products of these
        self._of_integers: set[str] = set()  # f(x), where x is uint8
        self._currents: set[int] = set()  # nodes that wait for the neuron they alone feed
        self.left: list[Left] = []
        self.encoded: list[str] = []
        self.sent: dict[str, str] = {}
        self.zeros: dict[str, int] = {}
        self.stem = Stems([*graph.tensors(), *(node.name for node in graph.nodes)]).fresh

    def run(self) -> None:
        nodes, curved = list(self._graph.nodes), self._curved
        for node in nodes:
            if node.op == operators.FOLDED_NEURON:
                self._claim(node.inputs[0])
            elif is_sum(node) and (y := node.outputs[0].name) in self._codes and (adds_constant(node) or y in curved):
                for tensor in node.inputs:
                    self._claim(tensor)
        for tensor in self._graph.inputs:
            self._encode(tensor)
        for node in nodes:
            if id(node) in self._currents:
                continue
            if node.op == operators.FOLDED_NEURON:
                self._fire(node)
            elif not (self._carry(node) or self._average(node) or self._go_on(node)):
                for tensor in node.inputs:
                    self._release(tensor)
                self._float(node)
                for tensor in node.outputs:
                    self._encode(tensor)
        for tensor in self._graph.outputs:
            self._decode(tensor)
        self._graph.nodes = self._nodes

    def _count(self, tensor: gs.Variable) -> gs.Variable:
        """The counts that stand for a float tensor."""
        return gs.Variable(self.stem(f"{tensor.name}{COUNT}"), self._numbers.dtype, tensor.shape)

    # ---- currents of neurons

    def _claim(self, current: gs.Tensor, depth: int = 0) -> None:
        """Hold back the layers and sums that make a current and nothing else."""
        node = current.inputs[0] if current.inputs else None
        if node is None or len(current.outputs) != 1 or current.name in self._held:
            return
        if weight_layer(node):
            self._currents.add(id(node))
        elif is_sum(node) and depth < 3:
            self._currents.add(id(node))
            for tensor in node.inputs:
                if not isinstance(tensor, gs.Constant):
                    self._claim(tensor, depth + 1)

    def _terms(self, current: gs.Tensor) -> CountSum | str:
        node = current.inputs[0] if current.inputs else None
        if node is None or id(node) not in self._currents:
            known = self._counts.get(current.name)
            return CountSum(counts=(known,)) if known else f"it adds {current.name!r}, which is not made of counts"
        return self._terms_of(node)

    def _terms_of(self, node: gs.Node) -> CountSum | str:
        layer = weight_layer(node)
        if layer:
            known = self._read(layer)
            unknown = f"{layer.data.name!r} is not made of counts, and its range is not known"
            return CountSum(layers=((layer, known),)) if known else unknown
        total = CountSum()
        for tensor in node.inputs:
            if isinstance(tensor, gs.Constant):
                total = replace(total, constants=(*total.constants, np.asarray(tensor.values, np.float32)))
                continue
            part = self._terms(tensor)
            if isinstance(part, str):
                return part
            total = CountSum(total.layers + part.layers, total.counts + part.counts, total.constants + part.constants)
        return total

    def _read(self, layer: WeightLayer) -> CountTerm | None:
        """The counts that stand for what a layer reads, as numbers of which one stands for the zeros of its padding."""
        name = layer.data.name
        known = self._counts.get(name)
        if known is None or not hides_zero(layer, known):
            return known
        if name not in self._unshifted:
            output = gs.Variable(self.stem(f"{name}/unshifted"), self._numbers.dtype, layer.data.shape)
            nodes, self._unshifted[name] = without_offset(layer, known, output, self._numbers, self._target.product)
            self._nodes.extend(nodes)
        return self._unshifted[name]

    def _fire(self, node: gs.Node) -> None:
        """A neuron: its counts, computed in integers where the current is made of counts."""
        x, y, parts = node.inputs[0], node.outputs[0], [np.asarray(tensor.values) for tensor in node.inputs[1:]]
        neurons = stored(parts, int(node.attrs["levels"]) - 1, self._numbers)
        counting, rank = neurons.counting, rank_of(x)
        count, total = self._count(y), self._terms(x)
        if isinstance(total, CountSum) and rank is not None:
            made = self._target.current(total, rank, counting, count)
        else:
            made = total if isinstance(total, str) else "its number of axes is not known"
        if isinstance(made, str):
            layers = self._release(x)
            if x.name in self._of_integers:
                made = f"{x.name!r} is an activation in floats of an integer current"
            for name, op in layers or [(node.name, operators.COUNT_NEURON)]:
                self.left.append(Left(name, op, f"the current of {node.name!r} is not integer: {made}", True))
            if x.name in self._of_integers:
                self._nodes.extend(curved_counts(x, counting, count))
            else:
                y, count = self._fire_on_float(node, parts, counting, count)
        else:
            self._nodes.extend(made)
        self.sent[y.name] = count.name
        if neurons.zero:
            self.zeros[y.name] = neurons.zero
        (maker,) = count.inputs
        maker.name = node.name  # as in the other forms, so that it keeps what the file says of the activation
        node.inputs.clear()
        node.outputs.clear()
        affine = neuron_affine(neurons.amplitude, neurons.offset, 1.0, rank or max(part.ndim for part in parts))
        known = CountTerm(count, affine, counting.largest, least=counting.least)
        if rank is not None and all(part.ndim < rank or part.shape[0] == 1 for part in parts):
            self._counts[y.name] = known
        else:
            self._scale(known, y)

    def _release(self, current: gs.Tensor) -> list[tuple[str, str]]:
        """Emit the nodes of a current as floats; returns the layers among them as (name, op)."""
        node = current.inputs[0] if current.inputs else None
        if node is None or id(node) not in self._currents:
            self._decode(current)
            return []
        layers = [(node.name, node.op)] if weight_layer(node) else []
        for tensor in node.inputs if not layers else []:
            layers += self._release(tensor)
        self._currents.discard(id(node))
        self._float(node)
        return layers

    def _fire_on_float(
        self, node: gs.Node, parts: Sequence[NDArray[np.float32]], counting: Counting, count: gs.Variable
    ) -> tuple[gs.Variable, gs.Variable]:
        """Counts of a float current: (what they stand for, counts).

        Where one layer makes the current, and the neuron alone reads it, 1/θ goes into the layer. A max pooling that
        alone reads the neurons comes before them: max n(x) = n(max x).
        """
        x, y, rank = node.inputs[0], node.outputs[0], rank_of(node.inputs[0])
        maker = x.inputs[0] if x.inputs else None
        layer = weight_layer(maker) if maker is not None and len(x.outputs) == 1 and x.name not in self._held else None
        transform = None if rank is None else neuron_affine(counting.threshold, counting.shift, 1.0, rank)
        pool = y.outputs[0] if len(y.outputs) == 1 and y.name not in self._held and is_maximum(y.outputs[0]) else None
        current = scaled_layer(layer, transform, self.stem) if layer and transform else None
        is_scaled = current is not None
        current = current or x
        if pool is not None and len(pool.outputs) == 1 and moves.rises_by_channel(parts, rank):
            y = pool.outputs[0]
            pooled = gs.Variable(self.stem(f"{y.name}/current"), x.dtype, y.shape)
            pool.inputs, pool.outputs = [current], [pooled]
            self._currents.add(id(pool))
            self._nodes.append(pool)
            current, count = pooled, self._count(y)
        if not is_scaled and not self._numbers.shifted:
            current = scaled_floats(as_float32(current, count, self._nodes), counting, count, self._nodes)
            is_scaled = True
        if is_scaled:
            self._nodes.extend(rounded_nodes(current, counting, count))
        else:
            inputs, name = [current, *node.inputs[1:3]], f"{count.name}/neuron"
            neuron = gs.Node(operators.COUNT_NEURON, name, dict(node.attrs), inputs, [count], domain=SPIKING_DOMAIN)
            self._nodes.append(neuron)
        return y, count

    # ---- analogue tensors

    def _encode(self, tensor: gs.Tensor) -> None:
        """A float tensor as uint8, where it has an encoding."""
        code, rank = self._encodings.get(tensor.name), rank_of(tensor)
        if code is None or rank is None or tensor.name in self._counts:
            return
        count = self._count(tensor)
        self._nodes.append(quantised(tensor, float(code.scale), code.zero, count))
        self._counts[tensor.name] = encoded_counts(count, code, rank, self._numbers)
        self.encoded.append(tensor.name)
        self._decoded.add(tensor.name)
        self._made_of_floats.add(tensor.name)

    def _go_on(self, node: gs.Node) -> bool:
        """A layer or sum of counts that no neuron follows: its encoding, or a product as floats."""
        layer = weight_layer(node)
        if not layer and not is_sum(node):
            return False
        output, total = node.outputs[0], self._terms_of(node)
        code, rank = self._codes.get(output.name), rank_of(output)
        of_floats = node.op == "Add" and any(tensor.name in self._made_of_floats for tensor in node.inputs)
        made: list[gs.Node] | str = "what it makes is read as floats"
        if isinstance(total, str):
            made = total
        elif code and rank is not None and output.name not in self._held and not of_floats:  # floats cost less there
            count = self._count(output)
            made = self._target.current(total, rank, counting_of(code, self._numbers), count)
            if not isinstance(made, str):
                self._counts[output.name] = encoded_counts(count, code, rank, self._numbers)
                self.encoded.append(output.name)
                if output.name in self._curved:
                    self._of_integers.add(self._curved[output.name].output)
        elif layer and (node.op != "Conv" or not self._numbers.shifted) and is_float32(output):
            ((_, known),) = total.layers
            linear = linear_of(layer, known.tensor, known.affine, (known.least, known.largest), known.zero)
            done = linear if isinstance(linear, str) else settled(linear)
            if isinstance(done, str):
                made = done
            elif has_normal_scales(done):
                made = self._target.product(done, output, self.stem(f"{output.name}/product"))
            else:
                made = "its weights are too small for scales in float32"
        if isinstance(made, str):
            if layer and layer.data.name in self._counts:
                self.left.append(Left(node.name, node.op, made, True))
            return False
        return self._replace(node, made)

    def _replace(self, node: gs.Node, made: Sequence[gs.Node]) -> bool:
        node.inputs.clear()
        node.outputs.clear()
        self._nodes.extend(made)
        return True

    # ---- other nodes

    def _carry(self, node: gs.Node) -> bool:
        """A node that moves counts, picks the largest, or rescales: on the counts themselves, where they allow it."""
        if product := moves.rescaled(node, self._counts, self._curved):
            self._counts[node.outputs[0].name] = product  # the same counts, which stand for other values
            if any(tensor.name in {*self._made_of_floats, *self._products} for tensor in node.inputs):
                self._products[node.outputs[0].name] = node, list(node.inputs)
            return self._replace(node, [])
        entries = [self._counts.get(tensor.name) for tensor in node.inputs]
        if node.domain or not entries or entries[0] is None:
            return False
        if node.op == "Shape":
            node.inputs[0] = entries[0].tensor
            self._nodes.append(node)
            return True
        moved = moves.moved_counts(node, entries)
        if moved is None:
            return False
        made, zero = moved
        node.inputs = [entry.tensor if entry else tensor for entry, tensor in zip(entries, node.inputs, strict=True)]
        moves.suit_counts(node, made[0].scale.ndim, zero, self.stem, self._numbers)
        outputs = [self._count(tensor) for tensor in node.outputs]
        largest = max(entry.largest for entry in entries if entry)
        least = min(entry.least for entry in entries if entry)
        for tensor, affine, output in zip(list(node.outputs), made, outputs, strict=True):
            self._counts[tensor.name] = CountTerm(output, affine, largest, zero, least)
        node.outputs = outputs
        self._nodes.append(node)
        return True

    def _average(self, node: gs.Node) -> bool:
        """A mean of neurons' counts whose result would become 8-bit numbers anyway."""
        known, output = self._counts.get(node.inputs[0].name) if node.inputs else None, node.outputs[0]
        wanted = output.name in self._encodings and output.name not in self._held
        made = averaged(node, known, self._count, self._numbers) if known and wanted else None
        if made is None:
            return False
        nodes, self._counts[output.name] = made
        self._nodes.extend(nodes)
        self.encoded.append(output.name)
        return True

    def _float(self, node: gs.Node) -> None:
        """A node that reads floats; so do the bodies of If, Loop and Scan, by name."""
        for tensor in tensors_read(node):
            self._decode(tensor)
        self._nodes.append(node)

    def _decode(self, tensor: gs.Tensor) -> None:
        """Make the float tensor that counts stand for, where it is one: of floats that exist, else of the counts."""
        known = self._counts.get(tensor.name)
        if known is None or tensor.name in self._decoded:
            return None
        self._decoded.add(tensor.name)
        if tensor.name not in self._products:
            return self._scale(known, tensor)
        node, inputs = self._products[tensor.name]
        node.inputs, node.outputs = inputs, [tensor]
        return self._float(node)

    def _scale(self, known: CountTerm, output: gs.Variable) -> None:
        """output = what counts stand for."""
        output.inputs.clear()
        self._nodes.extend(self._target.floats(known, output, self.stem(f"{output.name}/float")))

"""The unrolled form: time is explicit, neurons send binary spikes, weights see nothing else where they can.

    y = A·n + o = Σ_t (w_t/L_T)·(L_T·A·s_t + o)        L_T = Σ_t w_t: T (rate), 2^T − 1 (phase)

A tensor is *static*, [N, …] and the same at every step, or a *train*, [T·N, …], time-major. A neuron turns either
into a train of spikes s. Linear nodes run step by step; what the spikes still owe (L_T·A and o, graph.pending) travels
on with them and ends in a private copy of the next layer's weights and bias. Everything else, weight layers on what are
not spikes any more (sums, averages) among it, sees the mean over time:

    train, tensor X                    X, or X/train where that name stays with the mean
    mean of the train X                X/mean, and X itself where the network or a body of If, Loop, Scan reads it
    static X beside a train            X/repeated
    what a train owes, made explicit   X/scaled

Max pooling of rate trains is exact per step (trains are sorted, hence nested) for amplitudes from 0 up. In front of it
phase-coded neurons move behind it: both are monotone.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx_graphsurgeon as gs

from graphpass.forms import operators
from graphpass.forms.affine import Affine, Folded, arithmetic, fold_into, joined, neuron_affine, through
from graphpass.forms.preparation import compute_constants, infer_shapes, move_behind_pooling
from graphpass.forms.time_axis import (
    ELEMENTWISE,
    POOLS,
    constant_values,
    free_target,
    keeps_steps_apart,
    needs_repeat,
    rank_of,
)
from graphpass.graph.domains import SPIKING_DOMAIN
from graphpass.graph.layers import WeightLayer, copies, weight_layer, weight_layers
from graphpass.maths.neuron import step_weights

MEAN = "/mean"
SAMPLES = "/samples"  # suffix of the nodes that take T out of the shape of a train


@dataclass(frozen=True)
class Train:
    """A tensor at every step. pending: what it owes. spikes: made of spikes alone, so that rate trains are nested."""

    tensor: gs.Variable
    pending: Affine | None = None
    spikes: bool = False


def unroll(graph: gs.Graph) -> gs.Graph:
    """Rewrite a graph in folded form into the unrolled form, in place; returns it, cleaned up and sorted.

    A graph without neurons stays as it is.
    """
    neurons = [node for node in graph.nodes if node.op == operators.FOLDED_NEURON]
    if neurons:
        graph.toposort()
        compute_constants(graph)
        move_behind_pooling(graph)
        infer_shapes(graph)
        _Unroller(graph, neurons[0].attrs["time_steps"], neurons[0].attrs["coding"]).run()
        graph.cleanup(remove_unused_graph_inputs=False).toposort()
    return graph


class _Unroller:
    """One walk over the sorted nodes; `trains` says which tensors are trains, all others are static."""

    def __init__(self, graph: gs.Graph, time_steps: int, coding: str):
        self._graph = graph
        self._steps = time_steps
        self._coding = coding
        self._total = float(step_weights(time_steps, coding).sum())
        self._nodes: list[gs.Node] = []
        self._trains: dict[str, Train] = {}
        self._means: dict[str, gs.Variable] = {}
        self._repeats: dict[str, gs.Variable] = {}
        self._paid: dict[str, gs.Variable] = {}
        self._stretched: list[gs.Variable] = []
        bodies = [body for node in graph.nodes for body in node.subgraphs()]
        self._kept = {tensor.name for tensor in graph.outputs} | {n for body in bodies for n in _captured(body)}

    def run(self) -> None:
        for node in list(self._graph.nodes):
            trains = [k for k, tensor in enumerate(node.inputs) if tensor.name in self._trains]
            if node.op == operators.FOLDED_NEURON:
                self._fire(node)
            elif node.op in POOLS and trains:
                self._pool(node)
            elif node.op == "Shape" and trains:
                self._shape(node)
            elif trains and keeps_steps_apart(node, trains):
                self._step(node, trains)
            else:
                self._rest(node, trains)
        for tensor in self._graph.outputs:
            if tensor.name in self._trains:
                self._mean(tensor)
        for tensor in self._stretched:  # not before: proofs need the samples' sizes
            tensor.shape = [None, *tensor.shape[1:]] if tensor.shape else None
        self._graph.nodes = self._nodes

    # ---- one node

    def _fire(self, node: gs.Node) -> None:
        """A neuron: static or train in, spikes out. Parameters along axis 0 cannot travel with a train."""
        x, y = node.inputs[0], node.outputs[0]
        parts = [np.asarray(tensor.values) for tensor in node.inputs[1:]]
        amplitude, offset = parts[2], parts[3]
        entry = self._trains.get(x.name)
        data = self._pay(x) if entry else x
        rank = rank_of(x)
        node.op = operators.TRAIN_NEURON
        node.attrs["input_steps"] = self._steps if entry else 1
        node.inputs = [data, *node.inputs[1:3]]
        self._nodes.append(node)
        along = [part.ndim == rank and part.shape[0] > 1 for part in parts]
        if rank is None or any(along):
            spikes = self._renamed(node, 0, y, "/spikes")
            mean = self._operator(operators.TIME_MEAN, spikes, f"{y.name}/rate")
            self._scaled(mean, np.float32(self._total) * amplitude, offset, y)
            return
        pending = neuron_affine(amplitude, offset, self._total, rank)
        self._emit(node, [Train(y, pending, True)])

    def _pool(self, node: gs.Node) -> None:
        """Max pooling: per step where trains are nested, else of the mean."""
        train = self._trains[node.inputs[0].name]
        pending = train.pending
        nested = train.spikes and self._coding == "rate" and len(node.outputs) == 1
        if not nested or pending is None or (pending.scale < 0).any() or pending.varying - {1}:
            self._rest(node, [0])
            return
        node.inputs[0] = train.tensor
        self._nodes.append(node)
        self._emit(node, [Train(node.outputs[0], pending, True)])

    def _shape(self, node: gs.Node) -> None:
        """Shape of one step: that of the train with axis 0 divided by T."""
        train = self._trains[node.inputs[0].name]
        rank = rank_of(train.tensor)
        if rank is None:
            self._rest(node, [0])
            return
        output = node.outputs[0]
        steps = np.ones(rank, np.int64)
        steps[0] = self._steps
        steps = steps[slice(node.attrs.get("start", 0), node.attrs.get("end"))]
        whole = gs.Variable(f"{output.name}/train", np.int64, [len(steps)])
        node.inputs[0], node.outputs[0] = train.tensor, whole
        self._nodes.append(node)
        divisor = gs.Constant(f"{node.name}{SAMPLES}", steps)
        self._nodes.append(gs.Node("Div", f"{node.name}{SAMPLES}", {}, [whole, divisor], [output]))

    def _step(self, node: gs.Node, numbers: Sequence[int]) -> None:
        """A linear node, per step."""
        layer = weight_layer(node)
        if layer:
            self._layer(layer)
        elif node.op == "Concat":
            self._concat(node, numbers)
        elif node.op in ELEMENTWISE:
            self._elementwise(node, numbers)
        else:
            self._single(node)

    def _single(self, node: gs.Node) -> None:
        train = self._trains[node.inputs[0].name]
        if node.op == "Reshape":
            node.inputs[1] = gs.Constant(f"{node.name}/target", free_target(node))
        pending = None if train.pending is None else through(node, train.pending)
        if pending is None:
            node.inputs[0] = self._pay(node.inputs[0])
            entries = [Train(tensor) for tensor in node.outputs]
        else:
            node.inputs[0] = train.tensor
            spikes = train.spikes and copies(node)
            entries = [Train(t, p, spikes) for t, p in zip(node.outputs, pending, strict=True)]
        self._nodes.append(node)
        self._emit(node, entries)

    def _elementwise(self, node: gs.Node, numbers: Sequence[int]) -> None:
        """Operands of a sum or a scaling; a constant one goes into what its train owes."""
        output = node.outputs[0]
        train = self._trains[node.inputs[numbers[0]].name]
        if len(numbers) == 1 and train.pending is not None:
            pending = arithmetic(node, train.pending)
            if pending is not None:
                self._trains[output.name] = Train(train.tensor, pending, train.spikes)
                node.inputs.clear()
                node.outputs.clear()
                return
        rank = rank_of(node.inputs[numbers[0]])
        for number, tensor in enumerate(node.inputs):
            if number in numbers:
                node.inputs[number] = self._pay(tensor)
            elif rank is not None and needs_repeat(tensor, rank):
                node.inputs[number] = self._repeat(tensor)
        self._nodes.append(node)
        self._emit(node, [Train(output)])

    def _concat(self, node: gs.Node, numbers: Sequence[int]) -> None:
        entries = [self._trains[tensor.name] for tensor in node.inputs if tensor.name in self._trains]
        owed = [entry.pending for entry in entries if entry.pending is not None]
        pending = joined(node, owed) if len(owed) == len(node.inputs) else None
        if pending is not None:
            node.inputs = [entry.tensor for entry in entries]
        else:
            node.inputs = [
                self._pay(tensor) if number in numbers else self._repeat(tensor)
                for number, tensor in enumerate(node.inputs)
            ]
        self._nodes.append(node)
        spikes = pending is not None and all(entry.spikes for entry in entries)
        self._emit(node, [Train(node.outputs[0], pending, spikes)])

    def _layer(self, layer: WeightLayer) -> None:
        """A weight layer on spikes takes in what they owe; of another train it multiplies the mean, once."""
        node = layer.node
        train = self._trains[layer.data.name]
        folded = fold_into(layer, train.pending) if train.spikes and train.pending is not None else None
        if folded is None:
            self._rest(node, [layer.data_index])
            return
        node.inputs[layer.data_index] = train.tensor
        self._nodes.append(node)
        self._fold(layer, folded)
        self._emit(self._nodes[-1], [Train(self._nodes[-1].outputs[0])])

    def _fold(self, layer: WeightLayer, folded: Folded) -> None:
        node, dtype, output = layer.node, layer.weight.dtype, layer.node.outputs[0]
        old = layer.weight
        node.inputs[layer.weight_index] = gs.Constant(f"{node.name}/spike_weight", folded.weight)
        if folded.bordered is not None:
            border = self._border(layer, old, folded.bordered)
            node.inputs = node.inputs[:2]
            self._behind_layer(node, border, output)
        elif folded.bias is not None:
            bias = _new_bias(layer, folded.bias)
            if bias is not None:
                node.inputs = [*node.inputs[:2], gs.Constant(f"{node.name}/spike_bias", bias.astype(dtype))]
            else:
                shaped = folded.bias.reshape(-1, *(1,) * (len(old.shape) - 2)) if node.op[:4] == "Conv" else folded.bias
                self._behind_layer(node, gs.Constant(f"{node.name}/spike_bias", shaped.astype(dtype)), output)

    def _behind_layer(self, node: gs.Node, term: gs.Tensor, output: gs.Variable) -> None:
        inner = gs.Variable(f"{output.name}/product", output.dtype)
        node.outputs[0] = inner
        self._nodes.append(gs.Node("Add", f"{node.name}/add_offset", {}, [inner, term], [output]))

    def _border(self, layer: WeightLayer, weight: gs.Constant, offset: np.ndarray) -> gs.Variable:
        """The layer's response to the constant offset, [1, …]: the weighted sum of o misses what padding cuts off."""
        node, data = layer.node, layer.data
        name, taps = f"{node.name}/offset", len(weight.shape) - 2
        value = gs.Constant(f"{name}_value", offset.reshape(1, -1, *(1,) * taps).astype(weight.dtype))
        inner = list(data.shape[1:]) if data.shape else [None]
        if all(isinstance(size, int) for size in inner):
            target: gs.Tensor = gs.Constant(f"{name}_shape", np.array([1, *inner], np.int64))
        else:
            whole, rest = gs.Variable(f"{name}_whole", np.int64), gs.Variable(f"{name}_rest", np.int64)
            target = gs.Variable(f"{name}_shape", np.int64)
            one = gs.Constant(f"{name}_one", np.array([1], np.int64))
            self._nodes.append(gs.Node("Shape", f"{name}_whole", {}, [data], [whole]))
            end = gs.Constant(f"{name}_end", np.array([taps + 2], np.int64))
            self._nodes.append(gs.Node("Slice", f"{name}_rest", {}, [whole, one, end], [rest]))
            self._nodes.append(gs.Node("Concat", f"{name}_shape", {"axis": 0}, [one, rest], [target]))
        field, response = gs.Variable(f"{name}_map", weight.dtype), gs.Variable(f"{name}_response", weight.dtype)
        self._nodes.append(gs.Node("Expand", f"{name}_map", {}, [value, target], [field]))
        inputs = [field, weight, *node.inputs[2:]]
        self._nodes.append(gs.Node(node.op, name, dict(node.attrs), inputs, [response]))
        return response

    def _rest(self, node: gs.Node, numbers: Sequence[int]) -> None:
        """Any other node sees means; so do the bodies of If, Loop and Scan, which read them by name."""
        for number in numbers:
            node.inputs[number] = self._mean(node.inputs[number])
        for body in node.subgraphs():
            for tensor in _captured(body).values():
                if tensor.name in self._trains:
                    self._mean(tensor)
        self._nodes.append(node)

    # ---- tensors

    def _emit(self, node: gs.Node, entries: Sequence[Train]) -> None:
        """Register the outputs of a node as trains: axis 0 grows, and names that others read stay with the mean."""
        for number, entry in enumerate(entries):
            tensor = node.outputs[number]
            name = tensor.name
            own = self._renamed(node, number, tensor, "/train") if name in self._kept else tensor
            self._stretched.append(own)
            self._trains[name] = replace(entry, tensor=own)

    def _renamed(self, node: gs.Node, number: int, tensor: gs.Variable, suffix: str) -> gs.Variable:
        own = gs.Variable(tensor.name + suffix, tensor.dtype, tensor.shape)
        node.outputs[number] = own
        return own

    def _pay(self, tensor: gs.Variable) -> gs.Variable:
        """The train with what it owes applied to it."""
        train = self._trains[tensor.name]
        if train.pending is None:
            return train.tensor
        if tensor.name not in self._paid:
            paid = gs.Variable(f"{tensor.name}/scaled", train.tensor.dtype, train.tensor.shape)
            self._stretched.append(paid)
            self._scaled(train.tensor, train.pending.scale, train.pending.offset, paid)
            self._paid[tensor.name] = paid
        return self._paid[tensor.name]

    def _mean(self, tensor: gs.Variable) -> gs.Variable:
        """The mean over time of a train, by the name of the folded form's tensor."""
        name = tensor.name
        if name not in self._means:
            train = self._trains[name]
            shape = [*(tensor.shape or [])] or None
            mean = tensor if name in self._kept else gs.Variable(name + MEAN, tensor.dtype, shape)
            if train.pending is None:
                self._operator(operators.TIME_MEAN, train.tensor, mean)
            else:
                rate = self._operator(operators.TIME_MEAN, train.tensor, f"{name}/rate")
                self._scaled(rate, train.pending.scale, train.pending.offset, mean)
            self._means[name] = mean
        return self._means[name]

    def _repeat(self, tensor: gs.Tensor) -> gs.Variable:
        if tensor.name not in self._repeats:
            self._repeats[tensor.name] = self._operator(operators.TIME_REPEAT, tensor, f"{tensor.name}/repeated")
        return self._repeats[tensor.name]

    def _operator(self, op: str, tensor: gs.Tensor, output: str | gs.Variable) -> gs.Variable:
        """A TimeMean or TimeRepeat node on a tensor."""
        result = gs.Variable(output, tensor.dtype) if isinstance(output, str) else output
        attributes = {"time_steps": self._steps, "coding": self._coding}
        self._nodes.append(gs.Node(op, f"{result.name}/{op}", attributes, [tensor], [result], domain=SPIKING_DOMAIN))
        return result

    def _scaled(self, data: gs.Variable, scale: np.ndarray, offset: np.ndarray, output: gs.Variable) -> None:
        """output = scale·data + offset, as nodes."""
        dtype = output.dtype or np.float32
        inner = gs.Variable(f"{output.name}/product", dtype) if np.any(offset) else output
        factor = gs.Constant(f"{output.name}/scale", np.asarray(scale).astype(dtype))
        self._nodes.append(gs.Node("Mul", f"{output.name}/scale", {}, [data, factor], [inner]))
        if np.any(offset):
            term = gs.Constant(f"{output.name}/offset", np.asarray(offset).astype(dtype))
            self._nodes.append(gs.Node("Add", f"{output.name}/offset", {}, [inner, term], [output]))


def _new_bias(layer: WeightLayer, change: np.ndarray) -> np.ndarray | None:
    """b + change as float32, None where the layer has no constant bias of its own to change."""
    node = layer.node
    if node.op == "MatMul" or (layer.bias is not None and not isinstance(layer.bias, gs.Constant)):
        return None
    beta = float(node.attrs.get("beta", 1.0)) if node.op == "Gemm" else 1.0
    old = 0.0 if layer.bias is None else np.asarray(layer.bias.values, np.float32)
    return old + change / np.float32(beta) if beta else None


def _captured(body: gs.Graph) -> dict[str, gs.Variable]:
    """The outer variables that a body, or a body in it, reads."""
    made = {t.name for node in body.nodes for t in node.outputs} | {t.name for t in body.inputs}
    read: dict[str, gs.Variable] = {}
    for node in body.nodes:
        read.update({t.name: t for t in node.inputs if isinstance(t, gs.Variable) and not t.is_empty()})
        for inner in node.subgraphs():
            read.update(_captured(inner))
    read.update({t.name: t for t in body.outputs if isinstance(t, gs.Variable)})
    return {name: tensor for name, tensor in read.items() if name not in made}


def fold_back(graph: gs.Graph) -> gs.Graph:
    """An unrolled graph as an equivalent folded one, in place: neurons send n/L_T, time operators vanish."""
    for node in list(graph.nodes):
        if node.op == operators.TRAIN_NEURON:
            total = step_weights(node.attrs["time_steps"], node.attrs["coding"]).sum()
            node.op = operators.FOLDED_NEURON
            del node.attrs["input_steps"]
            parts = {"amplitude": 1 / total, "offset": 0.0}
            node.inputs += [gs.Constant(f"{node.name}/{k}", np.array([v], np.float32)) for k, v in parts.items()]
        elif node.op in (operators.TIME_MEAN, operators.TIME_REPEAT):
            node.op, node.domain, node.attrs = "Identity", None, {}
        elif node.op == "Div" and node.name.endswith(SAMPLES) and constant_values(node, 1) is not None:
            node.inputs[1] = gs.Constant(f"{node.name}/none", np.ones_like(constant_values(node, 1)))
    outputs = {tensor.name for tensor in graph.outputs}
    for tensor in graph.tensors().values():
        if isinstance(tensor, gs.Variable) and tensor.inputs and tensor.name not in outputs:
            tensor.shape = None
    graph.cleanup(remove_unused_graph_inputs=False).toposort()
    return graph


def spike_inputs(graph: gs.Graph) -> dict[str, bool]:
    """For each weight layer of an unrolled graph: whether it sees binary spikes and nothing else (accumulates only)."""
    return {layer.node.name: _made_of_spikes(layer.data) for layer in weight_layers(graph)}


def _made_of_spikes(tensor: gs.Tensor) -> bool:
    stack, seen = list[gs.Tensor]([tensor]), set[int]()
    while stack:
        current = stack.pop()
        if id(current) in seen:
            continue
        seen.add(id(current))
        if not isinstance(current, gs.Variable) or not current.inputs:
            return False
        node = current.inputs[0]
        if node.op == operators.TRAIN_NEURON:
            continue
        if not (copies(node) or node.op in POOLS):
            return False
        stack.extend(node.inputs if node.op == "Concat" else node.inputs[:1])
    return True

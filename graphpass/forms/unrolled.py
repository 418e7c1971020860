"""The unrolled form: time is explicit, neurons send binary spikes, weights see nothing else where they can.

    y = A·n + o = Σ_t (w_t/L_T)·(L_T·A·s_t + o)        L_T = Σ_t w_t: T (rate), 2^T − 1 (phase)

A tensor is *static*, [N, …] and the same at every step, or a *train*, [T·N, …], time-major. A neuron turns either
into a train of spikes s. Linear nodes run step by step; the scale and offset of spikes (L_T·A and o, graph.affine)
travel on with them and end in a private copy of the next layer's weights and bias. Neurons of a curved activation f get
a threshold on x for every step, and f goes. Everything else, weight layers on
what are not spikes any more (sums, averages) among it, sees the mean over time. What becomes of each node:
graph.trains. New tensors have names of their own:

    train, tensor X                    X, or X/train where that name stays with the mean
    mean of the train X                X/mean, and X itself where the network or a body of If, Loop, Scan reads it
    static X beside a train            X/repeated
    X with its scale and offset        X/scaled

Max pooling of rate trains is exact per step (trains are sorted, hence nested) for amplitudes from 0 up. In front of it
phase-coded neurons move behind it, or are made anew (forms.preparation).
"""

import re
from collections.abc import Sequence

import numpy as np
import onnx_graphsurgeon as gs

from graphpass.forms import operators
from graphpass.forms.preparation import neurons_of, prepare_for_time
from graphpass.graph.affine import Affine, Folded, fold_into, unfilled
from graphpass.graph.domains import SPIKING_DOMAIN
from graphpass.graph.layers import WeightLayer, data_inputs, is_maximum, moves, rank_of, weight_layer, weight_layers
from graphpass.graph.names import names_of
from graphpass.graph.time_axis import ELEMENTWISE, constant_values, free_target, given, needs_repeat
from graphpass.graph.trains import Trains, Way
from graphpass.maths.neuron import step_weights

MEAN = "/mean"
FOLDED_OF = {train: folded for folded, train in operators.TRAIN_OF.items()}
SAMPLES = "/samples"  # suffix of the nodes that take T out of the shape of a train


def unroll(graph: gs.Graph) -> gs.Graph:
    """Rewrite a graph in folded form into the unrolled form, in place; returns it, cleaned up and sorted.

    A graph without neurons stays as it is.
    """
    neurons = [node for node in graph.nodes if node.op in operators.FOLDED_NEURONS]
    if neurons:
        graph.toposort()
        prepare_for_time(graph)
        _Unroller(graph, neurons[0].attrs["time_steps"], neurons[0].attrs["coding"]).run()
        graph.cleanup(remove_unused_graph_inputs=False).toposort()
    return graph


class _Unroller:
    """One walk over the sorted nodes; `trains` says which tensors are trains, all others are static.

    stands: the tensor that a train is, by its name in the folded form.
    """

    def __init__(self, graph: gs.Graph, time_steps: int, coding: str):
        self._graph = graph
        self._names = names_of(graph)
        self._steps = time_steps
        self._coding = coding
        self._total = float(step_weights(time_steps, coding).sum())
        self._trains = Trains(neurons_of(graph, self._total), nested=coding == "rate")
        self._stands: dict[str, gs.Variable] = {}
        self._nodes: list[gs.Node] = []
        self._means: dict[str, gs.Variable] = {}
        self._repeats: dict[str, gs.Variable] = {}
        self._scaled: dict[str, gs.Variable] = {}
        self._stretched: list[gs.Variable] = []
        bodies = [body for node in graph.nodes for body in node.subgraphs()]
        self._kept = {tensor.name for tensor in graph.outputs} | {n for body in bodies for n in _captured(body)}

    def run(self) -> None:
        for node in list(self._graph.nodes):
            numbers = [k for k, tensor in enumerate(node.inputs) if tensor.name in self._trains.known]
            way = self._trains.take(node)
            if node.op in operators.FOLDED_NEURONS:
                self._fire(node, way)
            elif way in (Way.POOL, Way.MOVE, Way.JOIN):
                self._move(node, numbers)
            elif way is Way.ABSORB:
                self._stands[node.outputs[0].name] = self._stands[node.inputs[numbers[0]].name]
                node.inputs.clear()
                node.outputs.clear()
            elif way is Way.LAYER:
                self._layer(node, numbers[0])
            elif way is Way.SUM:
                self._sum(node, numbers)
            elif way is Way.SHAPE:
                self._shape(node)
            else:
                self._rest(node, numbers)
        for tensor in self._graph.outputs:
            if tensor.name in self._trains.known:
                self._mean(tensor)
        for tensor in self._stretched:  # not before: proofs need the samples' sizes
            tensor.shape = [None, *tensor.shape[1:]] if tensor.shape else None
        self._graph.nodes = self._nodes

    # ---- one node

    def _fire(self, node: gs.Node, way: Way) -> None:
        """A neuron: static or train in, spikes out. Parameters along axis 0 cannot travel with a train."""
        x, y = node.inputs[0], node.outputs[0]
        amplitude, offset = (np.asarray(tensor.values) for tensor in node.inputs[3:5])
        train = x.name in self._trains.known
        data = self._applied(x) if train else x
        node.op = operators.TRAIN_OF[node.op]
        node.attrs["input_steps"] = self._steps if train else 1
        node.inputs = [data, *node.inputs[1:3]]
        self._nodes.append(node)
        if way is Way.FIRE:
            self._emit(node)
            return
        spikes = self._renamed(node, 0, y, "/spikes")
        mean = self._operator(operators.TIME_MEAN, spikes, gs.Variable(self._names.fresh(f"{y.name}/rate"), y.dtype))
        self._apply(mean, Affine(np.float32(self._total) * amplitude, offset), y)

    def _shape(self, node: gs.Node) -> None:
        """Shape of one step: that of the train with axis 0 divided by T."""
        train, output = self._stands[node.inputs[0].name], node.outputs[0]
        steps = np.ones(len(node.inputs[0].shape), np.int64)
        steps[0] = self._steps
        steps = steps[slice(node.attrs.get("start", 0), node.attrs.get("end"))]
        whole = gs.Variable(self._names.fresh(f"{output.name}/train"), np.int64, [len(steps)])
        node.inputs[0], node.outputs[0] = train, whole
        self._nodes.append(node)
        name = self._names.fresh(f"{node.name}{SAMPLES}")
        self._nodes.append(gs.Node("Div", name, {}, [whole, gs.Constant(name, steps)], [output]))

    def _move(self, node: gs.Node, numbers: Sequence[int]) -> None:
        """A node that spikes, or what they add up to, pass as they are."""
        for number in numbers:
            node.inputs[number] = self._stands[node.inputs[number].name]
        unfilled(node, node.inputs[numbers[0]], self._zeros)
        self._free_target(node)
        self._nodes.append(node)
        self._emit(node)

    def _sum(self, node: gs.Node, numbers: Sequence[int]) -> None:
        """A linear node on trains of real numbers; static operands that have samples are repeated beside them."""
        rank = rank_of(node.inputs[numbers[0]])
        for number, tensor in enumerate(node.inputs):
            if number in numbers:
                node.inputs[number] = self._applied(tensor)
            elif node.op == "Concat" or (node.op in ELEMENTWISE and rank and needs_repeat(tensor, rank)):
                node.inputs[number] = self._repeat(tensor)
        self._free_target(node)
        self._nodes.append(node)
        self._emit(node)

    def _free_target(self, node: gs.Node) -> None:
        """Let a Reshape give as many rows as it gets."""
        if node.op == "Reshape":
            node.inputs[1] = gs.Constant(self._names.fresh(f"{node.name}/target"), free_target(node))

    def _layer(self, node: gs.Node, number: int) -> None:
        """A weight layer on spikes takes in their scale and offset."""
        layer, train = weight_layer(node), self._trains.known[node.inputs[number].name]
        assert layer is not None and train.affine is not None  # what Way.LAYER means
        folded = fold_into(layer, train.affine)
        node.inputs[number] = self._stands[node.inputs[number].name]
        self._nodes.append(node)
        self._take_in(layer, folded)
        self._emit(self._nodes[-1])

    def _take_in(self, layer: WeightLayer, folded: Folded) -> None:
        node, old, output = layer.node, layer.weight, layer.node.outputs[0]
        node.inputs[layer.weight_index] = self._constant(f"{node.name}/spike_weight", folded.weight)
        if folded.field is not None:
            response = self._response(layer, old, folded.field)
            node.inputs = node.inputs[:2]
            self._behind_layer(node, response, output)
        elif folded.bias is not None:
            bias = _new_bias(layer, folded.bias)
            if bias is not None:
                constant = self._constant(f"{node.name}/spike_bias", bias.astype(old.dtype))
                node.inputs = [*node.inputs[:2], constant]
            else:
                after = len(old.shape) - 2 if layer.convolves else -1 - layer.output_axis
                shaped = folded.bias.reshape(-1, *(1,) * after).astype(old.dtype)
                self._behind_layer(node, self._constant(f"{node.name}/spike_bias", shaped), output)

    def _behind_layer(self, node: gs.Node, term: gs.Tensor, output: gs.Variable) -> None:
        inner = gs.Variable(self._names.fresh(f"{output.name}/product"), output.dtype)
        node.outputs[0] = inner
        self._nodes.append(gs.Node("Add", self._names.fresh(f"{node.name}/add_offset"), {}, [inner, term], [output]))

    def _response(self, layer: WeightLayer, weight: gs.Constant, field: np.ndarray) -> gs.Variable:
        """The layer's response, bias included, to a field of offsets: one sample of the size that the data has."""
        node, data = layer.node, layer.data
        name, rank = f"{node.name}/offset", field.ndim
        value = self._constant(f"{name}_value", field.astype(weight.dtype))
        inner = list(data.shape[1:]) if data.shape else [None] * (rank - 1)
        if all(isinstance(size, int) for size in inner):
            target: gs.Tensor = self._constant(f"{name}_shape", np.array([1, *inner], np.int64))
        else:
            whole, rest, target = (
                gs.Variable(self._names.fresh(f"{name}_{part}"), np.int64) for part in ("whole", "rest", "shape")
            )
            one, end = (self._constant(f"{name}_{part}", np.array([n])) for part, n in (("one", 1), ("end", rank)))
            self._add("Shape", f"{name}_whole", {}, [data], [whole])
            self._add("Slice", f"{name}_rest", {}, [whole, one, end], [rest])
            self._add("Concat", f"{name}_shape", {"axis": 0}, [one, rest], [target])
        whole_field, response = (
            gs.Variable(self._names.fresh(f"{name}_{part}"), weight.dtype) for part in ("map", "sum")
        )
        self._add("Expand", f"{name}_map", {}, [value, target], [whole_field])
        operands = [whole_field, weight] if layer.weight_index == 1 else [weight, whole_field]
        self._add(node.op, name, dict(node.attrs), [*operands, *node.inputs[2:]], [response])
        return response

    def _rest(self, node: gs.Node, numbers: Sequence[int]) -> None:
        """Any other node sees means; so do the bodies of If, Loop and Scan, which read them by name."""
        for number in numbers:
            node.inputs[number] = self._mean(node.inputs[number])
        for body in node.subgraphs():
            for tensor in _captured(body).values():
                if tensor.name in self._trains.known:
                    self._mean(tensor)
        self._nodes.append(node)

    # ---- tensors

    def _emit(self, node: gs.Node) -> None:
        """Outputs that are trains: axis 0 grows, and names that others read stay with the mean."""
        for number, tensor in enumerate(list(node.outputs)):
            if tensor.name in self._trains.known:
                own = self._renamed(node, number, tensor, "/train") if tensor.name in self._kept else tensor
                self._stretched.append(own)
                self._stands[tensor.name] = own

    def _renamed(self, node: gs.Node, number: int, tensor: gs.Variable, suffix: str) -> gs.Variable:
        own = self._variable(tensor.name + suffix, tensor)
        node.outputs[number] = own
        return own

    def _applied(self, tensor: gs.Variable) -> gs.Variable:
        """The train with its scale and offset applied to it."""
        name = tensor.name
        train, affine = self._stands[name], self._trains.known[name].affine
        if affine is None:
            return train
        if name not in self._scaled:
            scaled = self._variable(f"{name}/scaled", train)
            self._stretched.append(scaled)
            self._apply(train, affine, scaled)
            self._scaled[name] = scaled
        return self._scaled[name]

    def _mean(self, tensor: gs.Variable) -> gs.Variable:
        """The mean over time of a train, by the name of the folded form's tensor."""
        name = tensor.name
        if name not in self._means:
            train, affine = self._stands[name], self._trains.known[name].affine
            mean = tensor if name in self._kept else self._variable(name + MEAN, tensor)
            if affine is None:
                self._operator(operators.TIME_MEAN, train, mean)
            else:
                rate = gs.Variable(self._names.fresh(f"{name}/rate"), train.dtype)
                self._operator(operators.TIME_MEAN, train, rate)
                self._apply(rate, affine, mean)
            self._means[name] = mean
        return self._means[name]

    def _repeat(self, tensor: gs.Tensor) -> gs.Variable:
        if tensor.name not in self._repeats:
            repeated = gs.Variable(self._names.fresh(f"{tensor.name}/repeated"), tensor.dtype)
            self._repeats[tensor.name] = self._operator(operators.TIME_REPEAT, tensor, repeated)
        return self._repeats[tensor.name]

    def _operator(self, op: str, tensor: gs.Tensor, result: gs.Variable) -> gs.Variable:
        """A TimeMean or TimeRepeat node on a tensor."""
        attributes = {"time_steps": self._steps, "coding": self._coding}
        name = self._names.fresh(f"{result.name}/{op}")
        self._nodes.append(gs.Node(op, name, attributes, [tensor], [result], domain=SPIKING_DOMAIN))
        return result

    def _apply(self, data: gs.Variable, affine: Affine, output: gs.Variable) -> None:
        """output = scale·data + offset, as nodes."""
        dtype = output.dtype or np.float32
        inner = gs.Variable(self._names.fresh(f"{output.name}/product"), dtype) if np.any(affine.offset) else output
        factor = self._constant(f"{output.name}/scale", np.asarray(affine.scale).astype(dtype))
        self._add("Mul", f"{output.name}/scale", {}, [data, factor], [inner])
        if np.any(affine.offset):
            term = self._constant(f"{output.name}/offset", np.asarray(affine.offset).astype(dtype))
            self._add("Add", f"{output.name}/offset", {}, [inner, term], [output])

    def _add(
        self, op: str, name: str, attributes: dict[str, object], inputs: list[gs.Tensor], outputs: list[gs.Tensor]
    ) -> None:
        self._nodes.append(gs.Node(op, self._names.fresh(name), attributes, inputs, outputs))

    def _variable(self, name: str, like: gs.Variable) -> gs.Variable:
        return gs.Variable(self._names.fresh(name), like.dtype, [*like.shape] if like.shape else None)

    def _constant(self, name: str, values: np.ndarray) -> gs.Constant:
        return gs.Constant(self._names.fresh(name), np.ascontiguousarray(values).reshape(values.shape))

    def _zeros(self, constant: gs.Constant) -> gs.Constant:
        """Zeros of the shape and type of a constant."""
        return self._constant(f"{constant.name}/none", np.zeros_like(np.asarray(constant.values)))


def _new_bias(layer: WeightLayer, change: np.ndarray) -> np.ndarray | None:
    """b + change as float32, None where the layer has no constant bias of its own to change."""
    node = layer.node
    if node.op == "MatMul" or (layer.bias is not None and not isinstance(layer.bias, gs.Constant)):
        return None
    old = 0.0 if layer.bias is None else np.asarray(layer.bias.values, np.float32)
    return old + change / np.float32(layer.beta) if layer.beta else None


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
    names = names_of(graph)
    for node in list(graph.nodes):
        if node.op in FOLDED_OF:
            total = step_weights(node.attrs["time_steps"], node.attrs["coding"]).sum()
            node.op = FOLDED_OF[node.op]
            del node.attrs["input_steps"]
            parts = {"amplitude": 1 / total, "offset": 0.0}
            for part, value in parts.items():
                node.inputs.append(gs.Constant(names.fresh(f"{node.name}/{part}"), np.array([value], np.float32)))
        elif node.op in (operators.TIME_MEAN, operators.TIME_REPEAT):
            node.op, node.domain, node.attrs = "Identity", None, {}
        elif _takes_steps_out(node):
            node.inputs[1] = gs.Constant(names.fresh(f"{node.name}/none"), np.ones_like(constant_values(node, 1)))
    outputs = {tensor.name for tensor in graph.outputs}
    for tensor in graph.tensors().values():
        if isinstance(tensor, gs.Variable) and tensor.inputs and tensor.name not in outputs:
            tensor.shape = None
    graph.cleanup(remove_unused_graph_inputs=False).toposort()
    return graph


def _takes_steps_out(node: gs.Node) -> bool:
    """Whether it is a Div of `_shape`: of the shape of a tensor by T and ones."""
    if node.op != "Div" or not re.search(rf"{SAMPLES}(_\d+)?$", node.name) or constant_values(node, 1) is None:
        return False
    made = node.inputs[0].inputs
    return bool(made) and made[0].op == "Shape"


def spike_inputs(graph: gs.Graph) -> dict[str, bool]:
    """For each weight layer of an unrolled graph: whether it sees binary spikes and nothing else (accumulates only)."""
    return {name: bool(neurons) for name, neurons in spike_sources(graph).items()}


def spike_sources(graph: gs.Graph) -> dict[str, tuple[gs.Node, ...]]:
    """For each weight layer of an unrolled graph: the neurons whose spikes it sees; none if it sees anything else."""
    return {layer.node.name: _neurons_behind(layer.data) for layer in weight_layers(graph)}


def _neurons_behind(tensor: gs.Tensor) -> tuple[gs.Node, ...]:
    stack, seen, found = list[gs.Tensor]([tensor]), set[int](), list[gs.Node]()
    while stack:
        current = stack.pop()
        if id(current) in seen:
            continue
        seen.add(id(current))
        if not isinstance(current, gs.Variable) or not current.inputs:
            return ()
        node = current.inputs[0]
        if node.op in operators.TRAIN_NEURONS:
            found.append(node)
            continue
        if not (moves(node) or is_maximum(node)) or _fills_in(node) or not data_inputs(node):
            return ()
        stack.extend(data_inputs(node))
    return tuple(found)


def _fills_in(node: gs.Node) -> bool:
    """Whether a node that moves values adds others than zeros."""
    if node.op == "Pad":
        filled = [constant_values(node, 2)] if given(node, 2) else [np.asarray(node.attrs.get("value", 0))]
    else:
        filled = [np.asarray(each.values) for each in node.inputs[1:] if isinstance(each, gs.Constant)]
        filled = filled if node.op in ("Where", "Concat") else []
    return any(values is None or values.any() for values in filled)

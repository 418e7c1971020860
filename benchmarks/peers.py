"""ResNet-20 in graphpass and in other implementations: `python -m benchmarks.peers [T …] [--threads N] [--quick]`.

Top-1 and images per second of the same network on the same CIFAR-10 test images: graphpass; SpikingJelly's ann2snn; the
paper's parallel neurons as PyTorch modules, input repeated T times; integrate-and-fire neurons step by step in
PyTorch. All calibrated on the same 512 images. Every batch goes through every implementation in turn.
Needs `pip install torch spikingjelly`. --quick: 1,000 test images instead of 2,000, and T = 4 and 8 unless given.
"""

import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from benchmarks import datasets
from benchmarks.results import TRAINED, table
from benchmarks.timing import PAUSE, CallTimes, arguments, machine
from graphpass.conversion import convert
from graphpass.errors import SessionError
from graphpass.graph.model import load
from graphpass.graph.plan import Plan, SitePlan
from graphpass.runtime import native
from graphpass.runtime.session import open_session, run

TIME_STEPS, QUICK_TIME_STEPS = (4, 8, 16, 32), (4, 8)
IMAGES, QUICK_IMAGES = 2000, 1000
BATCH, CALIBRATION_BATCH, THREADS = 100, 64, 2
FAST = 0.3  # seconds of a batch, below which a call is warmed up in each turn
TOLERANCE = 1e-4  # of scores around 10: what float32 sums in another order
FOLDED = "graphpass folded"

# Name → arguments of SpikingJelly's RateCodingRecipe.
SPIKINGJELLY: dict[str, dict[str, Any]] = {
    "ann2snn, max": {"mode": "Max"},
    "ann2snn, 99.9%": {"mode": "99.9%"},
    "ann2snn, 99.9%, channel-wise, half threshold": {"mode": "99.9%", "channel_wise": True, "half_threshold": True},
}

Floats = NDArray[np.float32]
Call = Callable[[Floats], Floats]


@dataclass(frozen=True)
class PeerResult:
    """top1 in 0 … 1; time of one image, by batch."""

    top1: float
    time: CallTimes


def required(name: str) -> Any:
    """A module that graphpass does not depend on."""
    try:
        return import_module(name)
    except ImportError as error:
        sys.exit(f"benchmarks.peers: {error}; pip install torch spikingjelly")


def module_path(node: str) -> str:
    """The PyTorch module of a node: "/blocks/blocks.3/conv1/Conv" → "blocks.3.conv1"."""
    path: list[str] = []
    for part in node.strip("/").split("/")[:-1]:
        if path and part.startswith(f"{path[-1]}."):
            path.pop()
        path.append(part)
    return ".".join(path)


def torch_network(proto: onnx.ModelProto) -> Any:
    """The network of benchmarks/training/resnet20.py with the weights of its ONNX file (normalisation fused)."""
    torch = required("torch")
    nn = torch.nn
    base: Any = import_module("benchmarks.training.resnet20").ResNet20

    class ConvertibleResNet(base):  # type: ignore[misc]
        def forward(self, image: Any) -> Any:
            # A product, because SpikingJelly 2.0 does not convert divisions.
            x = self.activation(self.norm(self.conv((image - self.mean) * self.inverse)))
            return self.classifier(self.blocks(x).mean((2, 3)))

    network = ConvertibleResNet(nn.ReLU).eval()
    network.register_buffer("inverse", 1 / network.std)
    weights = {entry.name: torch.tensor(numpy_helper.to_array(entry)) for entry in proto.graph.initializer}
    for name, module in list(network.named_modules()):
        if isinstance(module, nn.BatchNorm2d):
            network.set_submodule(name, nn.Identity())
    for node in proto.graph.node:
        if node.op_type not in ("Conv", "Gemm"):
            continue
        old = network.get_submodule(module_path(node.name))
        if node.op_type == "Conv":
            sizes = old.in_channels, old.out_channels, old.kernel_size, old.stride, old.padding
            network.set_submodule(module_path(node.name), nn.Conv2d(*sizes))
            old = network.get_submodule(module_path(node.name))
        old.load_state_dict({"weight": weights[node.input[1]], "bias": weights[node.input[2]]})
    return network.requires_grad_(False)


def onnx_call(proto: onnx.ModelProto, threads: int) -> Call:
    session = open_session(proto, threads=threads)
    return lambda images: run(session, {"image": images})["scores"]


def torch_call(network: Any, time_steps: int = 1, reset: Callable[[], object] = lambda: None) -> Call:
    """The mean of the outputs of T calls of a network on the same images."""
    torch = required("torch")

    def call(images: Floats) -> Floats:
        with torch.inference_mode():
            given = torch.from_numpy(images)
            total = network(given)
            for _ in range(time_steps - 1):
                total = total + network(given)
            reset()
            result: Floats = (total / time_steps).numpy()
        return result

    return call


def spikingjelly_network(proto: onnx.ModelProto, images: Floats, settings: Mapping[str, Any]) -> Any:
    torch, ann2snn = required("torch"), required("spikingjelly.activation_based.ann2snn")
    batches = torch.from_numpy(images).split(CALIBRATION_BATCH)
    recipe = ann2snn.RateCodingRecipe(dataloader=[(batch, None) for batch in batches], **settings)
    return ann2snn.Converter(recipe=recipe).convert(torch_network(proto)).eval()


def spiking_network(proto: onnx.ModelProto, plan: Plan, neuron: Callable[[SitePlan], Any]) -> Any:
    """The PyTorch network with neurons for every Relu. The plan must not change weights."""
    if plan.layers or any(site.offset.any() for site in plan.sites):
        raise SessionError(
            f"method {plan.method} has more than thresholds, shifts and amplitudes", "take da-qcfs or max"
        )
    network = torch_network(proto)
    for site in plan.sites:
        network.set_submodule(module_path(site.name), neuron(site))
    left = [name for name, module in network.named_modules() if type(module).__name__ == "ReLU"]
    if left:
        raise SessionError(f"no neurons for {left[0]}", "convert every site")
    return network


def parallel_call(proto: onnx.ModelProto, plan: Plan) -> Call:
    """Hao et al., ICML 2025: every layer on [T·N, …], time-major; a neuron sees all steps of its input current.

    n = clip(floor((mean_t x_t + ψ) / θ), 0, T); spike of height T·A at step t iff n ≥ T − t + 1.
    """
    torch = required("torch")
    steps = plan.time_steps

    class ParallelNeuron(torch.nn.Module):  # type: ignore[misc,name-defined]
        def __init__(self, site: SitePlan) -> None:
            super().__init__()
            neuron = site.neuron
            self.threshold, self.shift = torch.tensor(neuron.threshold), torch.tensor(neuron.shift)
            self.height = steps * torch.tensor(neuron.amplitude)
            self.needed = torch.arange(steps, 0, -1).view(steps, 1, 1, 1, 1)  # T − t + 1, t = 1 … T

        def forward(self, current: Any) -> Any:
            mean = current.unflatten(0, (steps, -1)).mean(0)
            count = ((mean + self.shift) / self.threshold).floor().clamp(0, steps)
            return ((count >= self.needed) * self.height).flatten(0, 1)

    network = spiking_network(proto, plan, ParallelNeuron)

    def call(images: Floats) -> Floats:
        with torch.inference_mode():
            repeated = torch.from_numpy(images).repeat(steps, 1, 1, 1)
            result: Floats = network(repeated).unflatten(0, (steps, -1)).mean(0).numpy()
        return result

    return call


def sequential_call(proto: onnx.ModelProto, plan: Plan) -> Call:
    """Integrate-and-fire with thresholds T·θ, soft reset, membrane T·θ/2 at the start; T calls, the mean of outputs."""
    torch = required("torch")

    class IntegrateAndFire(torch.nn.Module):  # type: ignore[misc,name-defined]
        def __init__(self, site: SitePlan) -> None:
            super().__init__()
            self.threshold = plan.time_steps * torch.tensor(site.neuron.threshold)
            self.height = plan.time_steps * torch.tensor(site.neuron.amplitude)
            self.membrane: Any = None

        def forward(self, current: Any) -> Any:
            self.membrane = current + (self.threshold / 2 if self.membrane is None else self.membrane)
            spikes = (self.membrane >= self.threshold).to(current.dtype)
            self.membrane -= spikes * self.threshold
            return spikes * self.height

    network = spiking_network(proto, plan, IntegrateAndFire)
    neurons = [module for module in network.modules() if isinstance(module, IntegrateAndFire)]

    def reset() -> None:
        for neuron in neurons:
            neuron.membrane = None

    return torch_call(network, plan.time_steps, reset)


def compare(calls: Mapping[str, Call], images: Floats, labels: NDArray[np.int64]) -> dict[str, PeerResult]:
    """Every batch through every call in turn, after an untimed run of each on the first batch.

    A fast call runs once untimed in each turn, since the call before has emptied the caches and its threads still spin.
    """
    starts = range(0, len(images), BATCH)
    hits = dict.fromkeys(calls, 0)
    seconds = {name: np.empty(len(starts)) for name in calls}
    fast = set()
    for name, call in calls.items():
        started = time.perf_counter()
        call(images[:BATCH])
        if time.perf_counter() - started < FAST:
            fast.add(name)
    for index, start in enumerate(starts):
        batch, expected = images[start : start + BATCH], labels[start : start + BATCH]
        for name, call in calls.items():
            time.sleep(PAUSE)
            if name in fast:
                call(batch)
            started = time.perf_counter()
            scores = call(batch)
            seconds[name][index] = (time.perf_counter() - started) / len(batch)
            hits[name] += int((scores.argmax(1) == expected).sum())
    return {name: PeerResult(hits[name] / len(images), CallTimes(seconds[name])) for name in calls}


def spiking_calls(steps: int, threads: int, images: Floats, peers: Mapping[str, Any]) -> dict[str, Call]:
    """Every spiking implementation for T time-steps; `peers`: the networks of ann2snn, which do not depend on T."""
    functional = required("spikingjelly.activation_based.functional")
    source = load(TRAINED / "resnet20.onnx")
    optimal, shifted, largest = (
        convert(source, {"image": images}, time_steps=steps, method=method) for method in ("optimal", "da-qcfs", "max")
    )
    unrolled = convert(source, plan=optimal.plan, form="unrolled")

    def stepped(network: Any) -> Call:
        return torch_call(network, steps, lambda: functional.reset_net(network))

    return {
        FOLDED: onnx_call(optimal.proto, threads),
        "graphpass unrolled": onnx_call(unrolled.proto, threads),
        "graphpass folded, da-qcfs": onnx_call(shifted.proto, threads),
        "parallel neurons in PyTorch, da-qcfs": parallel_call(source.proto, shifted.plan),
        **{name: stepped(network) for name, network in peers.items()},
        "sequential IF in PyTorch, max": sequential_call(source.proto, largest.plan),
    }


def rows(time_steps: Sequence[int], count: int, threads: int) -> Iterator[Sequence[object]]:
    proto = load(TRAINED / "resnet20.onnx").proto
    with np.load(datasets.cifar10_calibration()) as data:
        calibration = data["image"]
    with np.load(datasets.cifar10_evaluation()) as data:
        images, labels = data["image"][:count], data["labels"][:count]
    anns = {"ANN, onnxruntime": onnx_call(proto, threads), "ANN, PyTorch": torch_call(torch_network(proto))}
    first, second = (call(images[:BATCH]) for call in anns.values())
    if not np.allclose(first, second, rtol=TOLERANCE, atol=TOLERANCE):
        raise SessionError(
            f"PyTorch and onnxruntime differ by {abs(first - second).max():.2g}",
            "compare resnet20.onnx with benchmarks/training/resnet20.py",
        )
    peers = {name: spikingjelly_network(proto, calibration, how) for name, how in SPIKINGJELLY.items()}
    for steps in time_steps:
        found = compare({**anns, **spiking_calls(steps, threads, calibration, peers)}, images, labels)
        reference = found["ANN, onnxruntime"].top1
        for name, measured in found.items():
            if name in anns and steps != time_steps[0]:
                continue
            yield (
                name,
                "" if name in anns else steps,
                f"{measured.top1:.4f}",
                f"{100 * (reference - measured.top1):.2f}",
                f"{1 / measured.time.median:.0f}",
                found[FOLDED].time.ratio(measured.time),
            )


def main() -> None:
    options = arguments(__doc__, map(str, TIME_STEPS), THREADS)
    torch = required("torch")
    required("spikingjelly")
    if native.library() is None:
        raise SessionError("the native operators are not built", "see `graphpass doctor`")
    torch.set_num_threads(options.threads)
    count = QUICK_IMAGES if options.quick else IMAGES
    time_steps = sorted(map(int, options.names)) or (QUICK_TIME_STEPS if options.quick else TIME_STEPS)
    print(machine())
    print(
        f"PyTorch {torch.__version__}, SpikingJelly {version('spikingjelly')}. The first {count:,} test images, in "
        f"batches of {BATCH}; {options.threads} threads. Ratio: images a second by those of graphpass folded at the "
        "same T (the ANNs: at the first T).\n"
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        table(
            ("implementation", "T", "top-1", "points lost", "images/s", "ratio"),
            rows(time_steps, count, options.threads),
        )


if __name__ == "__main__":
    main()

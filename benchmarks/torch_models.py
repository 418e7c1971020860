"""Every classifier of torchvision, and some of timm, converted by `graphpass.from_torch`: which converge.

    python -m benchmarks.torch_models               # measures what benchmarks/torch_models.json lacks; writes the page
    python -m benchmarks.torch_models resnet18 …    # measures these, whether they are there or not; writes the page
    python -m benchmarks.torch_models --page        # writes docs/torch_models.md from the file

Weights are random, with the statistics of their normalisations fitted to the inputs: what is asked here is whether the
graph is understood, not how accurate a trained network stays. The images are those that `synthetic` makes up. Needs
`pip install --group torch`.
"""

import argparse
import json
import re
import subprocess
import sys
import time
import warnings
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

import graphpass
from graphpass.datasets.images import ImageOptions
from graphpass.datasets.parts import InputSpec
from graphpass.datasets.synthetic import synthetic_dataset
from graphpass.errors import GraphpassError

SAMPLES = 8  # that are calibrated on and compared; fewer where images are large
SIDE = 64  # pixels, where a network takes them
SECONDS = 1800  # for one network
LARGE = 200  # pixels of a side from which half as many images do
CLOSE = 0.02  # of the outputs' deviation: what 256 levels may leave
STEPS = 255  # between 256 levels
TINY = 1e-3  # below it, a parameter is the scale of a branch that training would let grow
MOVED = 2  # times as far as rounding in PyTorch moves them, outputs may be off
RESULTS = Path(__file__).with_suffix(".json")
PAGE = Path(__file__).parents[1] / "docs" / "torch_models.md"
SIDES = {"inception_v3": 96, "maxvit_t": 224, "vit_h_14": 56}  # the least that they take
TIMM = {  # name → arguments; a side that is not SIDE is that of the name
    "resnet26d": {}, "seresnext26d_32x4d": {}, "ghostnet_100": {}, "mobileone_s0": {}, "repvgg_a0": {},
    "convnextv2_atto": {}, "edgenext_xx_small": {}, "fastvit_t8": {}, "hardcorenas_a": {}, "lcnet_050": {},
    "mixnet_s": {}, "mobilevit_xxs": {}, "poolformer_s12": {}, "tinynet_e": {}, "rexnet_100": {}, "dla34": {},
    "vit_tiny_patch16_224": {"img_size": 64}, "deit3_small_patch16_224": {"img_size": 64},
    "mixer_s32_224": {"img_size": 64}, "levit_128s": {"img_size": 224},
}  # fmt: skip


@dataclass(frozen=True)
class TorchModel:
    """One row. error, moved: how far the converted network and rounding in PyTorch move the outputs, as shares of their
    deviation. refused: why there is no error.
    """

    library: str
    name: str
    side: int
    sites: int = 0
    spiking: str = ""
    error: float | None = None
    moved: float | None = None
    refused: str = ""
    seconds: float = 0.0

    @property
    def as_moved(self) -> bool:
        """Whether outputs are not close, but no further off than rounding in PyTorch brings them."""
        return self.error is not None and CLOSE < self.error <= MOVED * (self.moved or 0)


def names() -> list[tuple[str, str]]:
    """Library and name of all networks: those of torchvision, the smallest of each family first, then those of timm."""
    from torchvision import models

    def size(name: str) -> int:
        return int(next(iter(models.get_model_weights(name))).meta["num_params"])

    families: Counter[str] = Counter()
    ranked = []
    for name in sorted(models.list_models(module=models), key=size):
        family = re.match("[a-z]+(_v2)?", name)[0]
        ranked.append((families[family], size(name), name))
        families[family] += 1
    ordered = [name for _, _, name in sorted(ranked)]
    return [*(("torchvision", name) for name in ordered), *(("timm", name) for name in TIMM)]


def build(library: str, name: str) -> tuple[Any, int]:
    """The network with random weights, and the side of its images."""
    import torch

    torch.manual_seed(0)
    if library == "timm":
        import timm

        side = TIMM[name].get("img_size", SIDE)
        more = {"img_size": side} if side != 224 and "img_size" in TIMM[name] else {}
        return timm.create_model(name, pretrained=False, **more), side
    from torchvision import models

    side = SIDES.get(name, SIDE)
    more: dict[str, Any] = {"image_size": side} if name.startswith("vit_") else {}
    if name == "inception_v3":
        more["aux_logits"] = False  # its second head, of training alone, takes larger images
    return models.get_model(name, weights=None, **more), side


def away(found: Any, expected: Any) -> float:
    """√(Σ(y − a)²/Σ(a − ā)²): how far outputs y are from those of the module, a, as a share of their deviation."""
    return float(np.sqrt(np.square(found - expected).sum() / np.square(expected - expected.mean(0)).sum()))


def settle(module: Any, images: Any) -> None:
    """Statistics of normalisations, fitted to the inputs, else outputs of deep random networks vanish or overflow;
    random numbers for layers that begin with zeros, else outputs are constant; and 1 for the scales of branches that
    begin near 0, else nothing inside these branches reaches the outputs.
    """
    import torch

    module.train()
    for each in module.modules():
        if isinstance(each, torch.nn.Linear) and not each.weight.any():
            each.reset_parameters()
        if isinstance(each, torch.nn.modules.batchnorm._BatchNorm):
            each.momentum = None  # the mean over all passes
    with torch.no_grad():
        for parameter in module.parameters():
            if 0 < parameter.abs().max() < TINY:
                parameter.fill_(1)
        module(images)
    module.eval()


def rounding() -> Any:
    """Inside, activations of PyTorch have 256 levels between the least and the largest value of each channel."""
    import torch
    from torch.nn import functional
    from torch.overrides import TorchFunctionMode

    known = {
        *(functional.relu, functional.relu6, functional.gelu, functional.silu, functional.hardswish, functional.elu),
        *(functional.leaky_relu, functional.hardtanh, functional.mish, torch.relu, torch.Tensor.relu),
    }

    class Rounding(TorchFunctionMode):
        def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            found = function(*args, **(kwargs or {}))
            if function not in known:
                return found
            channel = 1 if found.ndim == 4 else found.ndim - 1
            others = [axis for axis in range(found.ndim) if axis != channel]
            least, most = found.amin(others, keepdim=True), found.amax(others, keepdim=True)
            step = ((most - least) / STEPS).clamp_min(1e-30)
            return least + torch.round((found - least) / step) * step

    return Rounding()


def measured(library: str, name: str) -> TorchModel:
    """Convert one network and compare."""
    import torch

    torch.set_num_threads(1)
    begun = time.perf_counter()
    warnings.simplefilter("ignore")
    module, side = build(library, name)
    samples = SAMPLES if side < LARGE else SAMPLES // 2
    spec = InputSpec("image", np.dtype(np.float32), (None, 3, side, side))
    made_up = synthetic_dataset([spec], ImageOptions(mean=(0.5,), std=(0.25,)), samples, 0, {})
    images = torch.from_numpy(next(made_up.batches(samples)).inputs["image"])
    settle(module, images)
    with torch.no_grad():
        expected = module(images).numpy()
        with rounding():
            rounded = module(images).numpy()
    more = {"time_steps": 8, "coding": "phase", "method": "max", "threads": 1}
    try:
        made = graphpass.from_torch(module, images[:2], images, **more)
    except GraphpassError as error:
        return TorchModel(library, name, side, refused=str(error), seconds=time.perf_counter() - begun)
    error, coverage = away(made.to_torch(threads=1)(images).numpy(), expected), made.network.coverage
    spiking, seconds = f"{coverage.spiking_layers} of {coverage.weight_layers}", time.perf_counter() - begun
    return TorchModel(
        library, name, side, len(made.plan.sites), spiking, error, away(rounded, expected), seconds=seconds
    )


def apart(library: str, name: str) -> TorchModel:
    """As `measured`, in a process of its own, which gives its memory back and may take SECONDS."""
    command = [sys.executable, "-m", "benchmarks.torch_models", "--row", library, name]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return TorchModel(
            library, name, 0, refused=f"not measured: it takes more than {SECONDS} s here", seconds=SECONDS
        )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1]
        return TorchModel(library, name, 0, refused=f"NOT MEASURED: {last}")
    return TorchModel(**json.loads(done.stdout.splitlines()[-1]))


def kept() -> dict[str, TorchModel]:
    """The rows of the file, by name."""
    rows = json.loads(RESULTS.read_text("utf-8")) if RESULTS.exists() else []
    return {row["name"]: TorchModel(**row) for row in rows}


def keep(rows: dict[str, TorchModel]) -> None:
    """Write the file."""
    ordered = sorted(rows.values(), key=lambda row: (row.library != "torchvision", row.name))
    RESULTS.write_text(json.dumps([asdict(row) for row in ordered], indent=1) + "\n", "utf-8")


def line(row: TorchModel) -> str:
    """A row of the table."""
    shares = ("" if value is None else f"{100 * value:.2f}" for value in (row.error, row.moved))
    cells = row.library, f"`{row.name}`", row.side or "", row.sites or "", row.spiking, *shares, row.refused
    return f"| {' | '.join(map(str, cells))} |"


HEAD = """| library | network | side | sites | layers that spikes reach | error % | moved % | refused |
|---|---|---|---|---|---|---|---|"""
ABOUT = """# Networks of torchvision and timm

`python -m benchmarks.torch_models` writes this page (`pip install --group torch`). It shows whether graphpass
understands the graphs of these networks. Each goes through [`graphpass.from_torch`](pytorch.md) with random weights.
The statistics of its normalisations are fitted to the inputs.

*Error* is √(Σ(y − a)²/Σ(a − ā)²) between the outputs y of the converted network with 256 levels (phase code, T = 8,
method `max`) and those of the PyTorch module, a, on the images that it was calibrated on: {samples} made-up ones,
{fewer} of {large} pixels and more. *Moved* is the same for the PyTorch module with its activations rounded to 256
levels between the least and the largest value of each channel. Some random networks amplify the effect of rounding
from layer to layer. For these, an error of up to {moved} times *moved* is expected.
"""


def page(rows: dict[str, TorchModel]) -> str:
    """docs/torch_models.md."""
    found = list(rows.values())
    close = [row for row in found if row.error is not None and row.error <= CLOSE]
    moved = [row for row in found if row.as_moved]
    others = {
        "further off": [row.name for row in found if row.error is not None and row not in [*close, *moved]],
        "refused, or not measured": [row.name for row in found if row.refused],
        "not run yet": [name for _, name in names() if name not in rows],
    }
    told = [
        f"* error of at most {CLOSE:.0%}: {len(close)} of {len(names())} networks",
        f"* more, but at most {MOVED} times what rounding does in PyTorch: {len(moved)}",
        *(f"* {what}: {', '.join(f'`{name}`' for name in each) or 'none'}" for what, each in others.items()),
    ]
    about = ABOUT.format(samples=SAMPLES, fewer=SAMPLES // 2, large=LARGE, moved=MOVED)
    return "\n".join([about, *told, "", HEAD, *map(line, found), ""])


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--page", action="store_true", help="only write the page")
    parser.add_argument("--row", nargs=2, metavar=("LIBRARY", "NAME"), help="one row as JSON")
    given = parser.parse_args(arguments)
    if given.row:
        print(json.dumps(asdict(measured(*given.row))))
        return
    rows = kept()
    wanted = [each for each in names() if (each[1] in given.names if given.names else each[1] not in rows)]
    for library, name in [] if given.page else wanted:
        row = apart(library, name)
        print(line(row), f"{row.seconds:.0f} s", flush=True)
        rows = kept() | {name: row}
        keep(rows)
    PAGE.write_text(page(kept()), "utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])

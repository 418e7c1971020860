"""Time of networks that nothing was tuned for: `python -m benchmarks.other_networks [NAME …] [--folder F] [--quick]`.

Networks of torchvision and timm with random weights, statistics of their normalisations fitted to made-up images of 64
pixels (as in `benchmarks.torch_models`), converted with method `max` and T = 8. Multiples of the ANN's time, one
thread. Times are processor time, which other work on the machine changes less than time on the clock. Needs
`pip install --group torch`.
"""

import logging
import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import onnx

from benchmarks.network import BATCHES, quantised, runner
from benchmarks.results import table
from benchmarks.timing import FULL, QUICK, alternate, arguments, machine
from benchmarks.torch_models import build, settle
from benchmarks.zoo.files import synthetic
from graphpass.calibration.calibrate import CalibrationOptions
from graphpass.conversion import convert
from graphpass.datasets.sources import from_arrays
from graphpass.graph.model import load, save
from graphpass.pytorch.exporting import exported
from graphpass.runtime.session import input_specs

LIBRARIES = {
    "densenet121": "torchvision", "efficientnet_b0": "torchvision", "googlenet": "torchvision",
    "mobilenet_v2": "torchvision", "mobilenet_v3_small": "torchvision", "regnet_y_400mf": "torchvision",
    "shufflenet_v2_x0_5": "torchvision", "squeezenet1_1": "torchvision", "swin_t": "torchvision",
    "fastvit_t8": "timm", "ghostnet_100": "timm", "hardcorenas_a": "timm", "mixnet_s": "timm", "mobilevit_xxs": "timm",
    "poolformer_s12": "timm", "repvgg_a0": "timm", "vit_tiny_patch16_224": "timm",
}  # fmt: skip
QUICK_NETWORKS = ("mobilenet_v3_small", "repvgg_a0")
STEPS, SAMPLES = 8, 8
COLUMNS = {"quantised ANN": ("quantised ANN", {}), "folded": ("folded", {}), "integer": ("integer", {})}
COLUMNS["folded, no library"] = "folded", {"use_native": False}


def make(name: str, folder: Path) -> None:
    """Write the ANN, its quantised form and its spiking forms into the folder, unless they are there."""
    import torch

    if (folder / "folded.onnx").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    module, side = build(LIBRARIES[name], name)
    settle(module, torch.randn(2 * SAMPLES, 3, side, side))
    save(exported(module, torch.zeros(2, 3, side, side)), folder / "ANN.onnx")
    source = load(folder / "ANN.onnx")
    specs = input_specs(source)
    data = synthetic(name, specs, SAMPLES)
    try:
        save(quantised(source.upgraded, data), folder / "quantised ANN.onnx")
    except Exception as error:  # onnxruntime's quantiser raises many kinds
        print(f"{name}: onnxruntime does not quantise it ({error})")
    for form in ("integer", "folded"):
        given, options = from_arrays(data, specs), CalibrationOptions(threads=1)
        made = convert(source, given, time_steps=STEPS, method="max", form=form, allow_partial=True, options=options)
        save(made.proto, folder / f"{form}.onnx")


def rows(names: Sequence[str], folder: Path, quick: bool) -> Iterator[Sequence[object]]:
    """One for each network and batch."""
    for name in names:
        make(name, folder / name)
        models = {path.stem: onnx.load(path) for path in (folder / name).glob("*.onnx")}
        for batch in BATCHES:
            inputs = synthetic(name, input_specs(models["ANN"]), batch)
            calls = {"ANN": runner(models["ANN"], inputs, 1)}
            for column, (model, options) in COLUMNS.items():
                if model in models:
                    calls[column] = runner(models[model], inputs, 1, **options)
            times = alternate(calls, QUICK if quick else FULL, time.process_time)
            ratios = (f"{times[each].over(times['ANN']):.2f}" if each in times else "" for each in COLUMNS)
            yield f"`{name}`", batch, f"{1e3 * times['ANN'].median:.2f}", *ratios


def main() -> None:
    options = arguments(__doc__, LIBRARIES, folder="the converted networks")
    logging.disable(logging.WARNING)  # of onnxruntime.quantization, about operators that it leaves in floating point
    names = options.names or (QUICK_NETWORKS if options.quick else tuple(LIBRARIES))
    print(machine())
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as own:
        warnings.simplefilter("ignore")
        made = rows(names, options.folder or Path(own), options.quick)
        table(("network", "batch", "ANN, ms", *COLUMNS), made)


if __name__ == "__main__":
    main()

"""The members of the zoo."""

from pathlib import Path

from benchmarks import datasets, file_types, networks
from benchmarks.zoo import tasks
from benchmarks.zoo.entry import BOTH, Entry, Samples

TRAINED = Path(__file__).parents[1] / "trained"


def cifar10() -> Samples:
    return Samples(datasets.cifar10_calibration(256), datasets.cifar10_evaluation(2000))


def files() -> Samples:
    return Samples(*file_types.magika_files())


MEMBERS: dict[str, Entry] = {
    "resnet20": Entry(
        "ResNet-20, CIFAR-10",
        "ReLU, residual sums",
        ("cifar10",),
        lambda: TRAINED / "resnet20.onnx",
        cifar10,
        tasks.TOP1,
        loses=1.5,
    ),
    "magika": Entry(
        "magika standard_v1, file type from bytes",
        "GELU, Softmax, LayerNorm by parts",
        ("magika",),
        networks.magika_model,
        files,
        tasks.TOP1,
        loses=1.5,
        small=True,
        variants=BOTH,
    ),
}

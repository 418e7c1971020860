"""How long a converted network takes to open: `python -m benchmarks.opening [NAME …] [--quick]`.

From a file, on the CPU, on one thread: with neurons in the blocked layout of the convolutions, and without.
The networks are converted by method `max` on random inputs, since their numbers make no difference here.
"""

import argparse
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from benchmarks import networks
from benchmarks.results import TRAINED, table
from benchmarks.timing import QUICK, Effort, alternate, arguments, machine
from benchmarks.zoo.files import synthetic
from graphpass.conversion import convert
from graphpass.datasets.sources import from_arrays
from graphpass.errors import SessionError
from graphpass.graph.model import load
from graphpass.runtime.session import input_specs, open_session

NETWORKS: dict[str, Callable[[], Path]] = {
    "fashion_mnist": lambda: Path(__file__).parents[1] / "examples" / "fashion_mnist" / "fashion_mnist.onnx",
    "resnet20": lambda: TRAINED / "resnet20.onnx",
    "open_nsfw": networks.open_nsfw,
    "resnet50": networks.resnet50,
}
SAMPLES, THOROUGH = 2, Effort(20.0, 9, 31)


def rows(names: Sequence[str], folder: Path, effort: Effort) -> Iterator[Sequence[object]]:
    """A network, MiB of its file, ms of opening it as it is, and how many times as long neurons in blocks take."""
    for name in names:
        source, path = load(NETWORKS[name]()), folder / f"{name}.onnx"
        specs = input_specs(source)
        convert(source, from_arrays(synthetic(name, specs, SAMPLES), specs), path, method="max", allow_partial=True)
        if open_session(path).layout != "blocked":
            raise SessionError(f"{name}: its neurons do not work in blocks here", "see `graphpass doctor`")
        opening = partial(open_session, path, threads=1)
        times = alternate({"plain": partial(opening, use_blocked=False), "blocked": opening}, effort)
        size = f"{path.stat().st_size / 2**20:.1f}"
        yield name, size, times["plain"].milliseconds, times["blocked"].ratio(times["plain"])


def main() -> None:
    options: argparse.Namespace = arguments(__doc__, NETWORKS)
    print(machine())
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
        warnings.simplefilter("ignore")
        found = rows(options.names or tuple(NETWORKS), Path(folder), QUICK if options.quick else THOROUGH)
        table(("network", "MiB", "plain, ms", "blocked / plain"), found)


if __name__ == "__main__":
    main()

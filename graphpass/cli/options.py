"""Arguments and options that commands share, and what their texts mean."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from graphpass.errors import OptionError

DATA_HELP = "x.npz, x.npy, a folder of .npz shards, a folder of images by class, or file.py:function"
CALIBRATION = "Calibration"
DATA = "Data"

Ann = Annotated[str, typer.Argument(metavar="ANN.onnx", help="The network to convert.", show_default=False)]
Snn = Annotated[str, typer.Argument(metavar="SNN.onnx", help="The converted network.", show_default=False)]
Coding = Annotated[str, typer.Option(help="How a count is sent: rate (T + 1 levels) or phase (2^T levels).")]
MethodName = Annotated[str, typer.Option(help="optimal, da-qcfs, percentile or max: see docs/calibration.md.")]
Levels = Annotated[
    str | None,
    typer.Option(
        metavar="auto",
        help="auto: each site gets as many levels as the outputs need of it, within --energy or --mean-levels; T "
        "is then the most that a site may take.",
        show_default=False,
    ),
]
Energy = Annotated[
    float | None,
    typer.Option(
        help="Budget of --levels auto: additions behind sites, as a share of those at T everywhere. Default 0.5.",
        show_default=False,
    ),
]
MeanLevels = Annotated[
    float | None, typer.Option(help="Budget of --levels auto: levels, mean over all neurons.", show_default=False)
]
Include = Annotated[list[str] | None, typer.Option(help="Only sites whose node name matches this regular expression.")]
Exclude = Annotated[list[str] | None, typer.Option(help="Leave sites whose node name matches this analogue.")]
IdentitySites = Annotated[
    bool,
    typer.Option("--identity-sites", help="Neurons in front of layers that activations do not feed, or not alone."),
]
Calibration = Annotated[
    str | None,
    typer.Option(
        metavar="DATA", help=f"Calibration data: {DATA_HELP}.", show_default=False, rich_help_panel=CALIBRATION
    ),
]
Seed = Annotated[
    int, typer.Option(help="Of the sampled positions; the same seed gives the same plan.", rich_help_panel=CALIBRATION)
]
Memory = Annotated[str, typer.Option(help="Memory for calibration, as 512MiB or 2GiB.", rich_help_panel=CALIBRATION)]
CalibrationLimit = Annotated[
    int | None, typer.Option(min=1, help="Use at most so many calibration samples.", rich_help_panel=CALIBRATION)
]
Threads = Annotated[int, typer.Option(min=0, help="Threads of the runtime; 0 for all cores.")]
ImageSize = Annotated[
    int,
    typer.Option(
        min=1, help="Side of the images of an image folder, if the model leaves it open.", rich_help_panel=DATA
    ),
]
Mean = Annotated[
    str, typer.Option(help="Subtracted from pixels/255: one number, or one a channel (a,b,c).", rich_help_panel=DATA)
]
Std = Annotated[str, typer.Option(help="Then divided by: one number, or one a channel.", rich_help_panel=DATA)]
JsonOut = Annotated[
    Path | None, typer.Option("--json", metavar="E.json", help="Write the figures as JSON.", show_default=False)
]
Report = Annotated[
    Path | None, typer.Option(metavar="R.html", help="Write a self-contained report.", show_default=False)
]
Limit = Annotated[int | None, typer.Option(min=1, help="Use at most so many samples.")]
MetricNames = Annotated[
    list[str] | None,
    typer.Option(
        "--metric",
        metavar="NAME",
        help="What to measure: classes, ctc, embedding, psnr, detection, regression or file.py:function; may be given "
        "several times. See docs/metrics.md.",
        show_default=False,
    ),
]
EvaluationData = Annotated[
    str, typer.Option("--data", metavar="DATA", help=f"Labelled data: {DATA_HELP}.", show_default=False)
]
ServerUrl = Annotated[
    str | None,
    typer.Option(metavar="URL", help="Do it on a service: its address.", show_default=False, rich_help_panel="Service"),
]
Key = Annotated[
    str, typer.Option(envvar="GRAPHPASS_KEY", help="Key for --server.", show_default=False, rich_help_panel="Service")
]


@dataclass(frozen=True)
class Service:
    """Where --server and --key lead."""

    url: str
    key: str


def service_of(url: str, key: str, here: Mapping[str, bool]) -> Service:
    """The service of --server. here: options that a service has its own of, and whether they were given."""
    if given := [name for name, used in here.items() if used]:
        raise OptionError(f"{', '.join(given)} and --server exclude each other", "the service decides that by itself")
    return Service(url, key)


def service_metrics(names: Sequence[str] | None) -> list[str]:
    """The metrics of --metric for a service, which runs no code of a user's."""
    for name in names or ():
        if ".py:" in name:
            raise OptionError(f"--metric {name}: a service runs no functions of yours", "evaluate it on this machine")
    return list(names or ())


def images_of(size: int, mean: str, std: str) -> Any:
    from graphpass.datasets.images import ImageOptions

    return ImageOptions(size, _floats("--mean", mean), _floats("--std", std))


def _floats(option: str, text: str) -> tuple[float, ...]:
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise OptionError(f"{option} {text!r} is not a list of numbers", "write it as 0.5 or 0.5,0.4,0.3") from error
    return values


def numbers_of(text: str) -> tuple[int, ...]:
    if not all(part.strip().isdecimal() for part in text.split(",")):
        raise OptionError(f"--time-steps {text!r} is not a list of whole numbers", "write it as 1,2,4,8")
    return tuple(int(part) for part in text.split(","))


def words_of(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


_UNITS = {"": 1, "B": 1, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "KB": 10**3, "MB": 10**6, "GB": 10**9}


def bytes_of(text: str) -> int:
    number = text.strip().rstrip("bBkKmMgGiI ")
    unit = text.strip()[len(number) :].strip().upper()
    try:
        return int(float(number) * _UNITS[unit])
    except (ValueError, KeyError) as error:
        raise OptionError(f"--memory-budget {text!r} is not a size", "write it as 512MiB or 2GiB") from error

"""Arguments and options that commands share. None means not given. graphpass/options says what options mean."""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from graphpass.errors import OptionError
from graphpass.options.providers import HOSTED
from graphpass.options.rules import HERE, dashed, require_images, require_options, require_value
from graphpass.options.table import OPTIONS, VERIFIED
from graphpass.options.values import number_of, typed, whole_of

DATA_HELP = "x.npz, x.npy, x.parquet, x.arrow, x.tar, a folder of such files or of images by class, or file.py:function"
CALIBRATION = "Calibration"
SEARCH = "Search"
DATA = "Data"


def option(name: str, note: str = "", **more: Any) -> Any:
    """An option of the table by name: its help, default and limits."""
    known = OPTIONS[name]
    text = f"{known.help} {note}".strip()
    if known.default is not None and known.default is not False:
        text += f" Default {known.default:g}." if isinstance(known.default, float) else f" Default {known.default}."
    settings = {
        "min": known.least,
        "max": known.most,
        "parser": known.read and typed(dashed(name), known.read, known.words),
        **more,
    }
    return typer.Option(dashed(name), help=text, show_default=False, **settings)


def several(name: str) -> Any:
    """An option of which a sweep takes several values, separated by commas."""
    known = OPTIONS[name]
    text = f"{known.meaning} Comma-separated. Default {','.join(map(str, known.several))}."
    return typer.Option(dashed(name), help=text, show_default=False)


def output(text: str, metavar: str) -> Any:
    """An option that names a file to write."""
    return typer.Option(metavar=metavar, help=text, show_default=False)


Ann = Annotated[str, typer.Argument(metavar="ANN.onnx", help="The original network.", show_default=False)]
Snn = Annotated[str, typer.Argument(metavar="SNN.onnx", help="The converted network.", show_default=False)]
TimeSteps = Annotated[int | None, option("time_steps")]
Coding = Annotated[str | None, option("coding")]
MethodName = Annotated[str | None, option("method")]
FormName = Annotated[str | None, option("form")]
Precision = Annotated[str | None, option("precision")]
Target = Annotated[str | None, option("target")]
Levels = Annotated[str | None, option("levels", metavar="auto")]
Energy = Annotated[float | None, option("energy")]
MeanLevels = Annotated[float | None, option("mean_levels")]
MaxDrop = Annotated[float | None, option("max_drop", rich_help_panel=SEARCH)]
Minimise = Annotated[str | None, option("minimise", rich_help_panel=SEARCH)]
CacheFolder = Annotated[str | None, option("cache", metavar="FOLDER", rich_help_panel=SEARCH)]
Include = Annotated[list[str] | None, option("include")]
Exclude = Annotated[list[str] | None, option("exclude")]
IdentitySites = Annotated[bool, option("identity_sites")]
AllowPartial = Annotated[bool, option("allow_partial")]
Calibration = Annotated[
    str | None,
    typer.Option(
        metavar="DATA", help=f"Calibration data: {DATA_HELP}.", show_default=False, rich_help_panel=CALIBRATION
    ),
]
MadeUp = Annotated[bool, option("synthetic", rich_help_panel=CALIBRATION)]
Seed = Annotated[int | None, option("seed", max=None, rich_help_panel=CALIBRATION)]
Memory = Annotated[str | None, option("memory_budget", rich_help_panel=CALIBRATION)]
ConversionLimit = Annotated[int | None, option("limit", rich_help_panel=CALIBRATION)]
CalibrationLimit = Annotated[int | None, option("calibration_limit", rich_help_panel=CALIBRATION)]
Threads = Annotated[int | None, option("threads")]
ImagePreset = Annotated[str | None, option("preset", rich_help_panel=DATA)]
Preprocess = Annotated[str | None, option("preprocess", metavar="C.json", rich_help_panel=DATA)]
ImageSize = Annotated[int | None, option("image_size", rich_help_panel=DATA)]
ImageMean = Annotated[str | None, option("mean", metavar="A,B,C", rich_help_panel=DATA)]
ImageStd = Annotated[str | None, option("std", metavar="A,B,C", rich_help_panel=DATA)]
JsonOut = Annotated[
    Path | None, typer.Option("--json", metavar="E.json", help="Write the figures as JSON.", show_default=False)
]
Report = Annotated[Path | None, output("Write a self-contained report.", "R.html")]
Limit = Annotated[int | None, option("limit")]
VerifyLimit = Annotated[int | None, option("limit", note=f"Default {VERIFIED}.")]
MetricNames = Annotated[list[str] | None, option("metric", metavar="NAME, or file.py:function")]
EnergyModel = Annotated[str | None, option("energy_model")]
EvaluationData = Annotated[
    str, typer.Option("--data", metavar="DATA", help=f"Labelled data: {DATA_HELP}.", show_default=False)
]
Provider = Annotated[str | None, option("provider", metavar="cpu, cuda or cuda:OPTION=VALUE,…")]
StepsOfSweep = Annotated[str | None, several("time_steps")]
CodingsOfSweep = Annotated[str | None, several("coding")]
MethodsOfSweep = Annotated[str | None, several("method")]
ServerUrl = Annotated[
    str | None,
    typer.Option(
        metavar="URL", help="Run this on a service, by its address.", show_default=False, rich_help_panel="Service"
    ),
]
Key = Annotated[
    str | None,
    typer.Option(envvar="GRAPHPASS_KEY", help="Key for --server.", show_default=False, rich_help_panel="Service"),
]


@dataclass(frozen=True)
class ServerOptions:
    """The values of --server and --key."""

    url: str
    key: str


def options_of(
    command: str, context: typer.Context, given: Mapping[str, Any], several: Sequence[str] = ()
) -> dict[str, Any]:
    """The given options of a command by name, converted from text.

    given: all its arguments. Raises OptionError for values that make no sense, and for options without an effect.
    """
    present = {name: value for name, value in given.items() if value is not None and value is not False and value != []}
    read = {**_TEXTS, **(_LISTS if several else {})}
    found = {name: read[name](value) if name in read else value for name, value in present.items()}
    source = context.get_parameter_source("key")
    unseen = (
        {"context"} if source and source.name == "COMMANDLINE" else {"context", "key"}
    )  # the key may be set for good
    names = {"as_json": "json"}
    checked = {names.get(name, name): value for name, value in found.items() if name not in unseen}
    require_options(command, checked, dashed, several)
    return {name: value for name, value in found.items() if name in OPTIONS}


def require_images_read(options: Mapping[str, Any], *data: str | None, made_up: bool = False) -> None:
    """Raises OptionError for an option of images where neither the data nor what is made up are images."""
    from graphpass.datasets.sources import is_made_of_images, path_of

    given = [each for each in data if each is not None]
    if not made_up and not any(map(is_made_of_images, given)) and all(os.path.exists(path_of(each)) for each in given):
        require_images(options, dashed)


def service_metrics(names: Sequence[str] | None) -> None:
    """Raises OptionError unless a service can measure these; it does not run code of users."""
    from graphpass.datasets.functions import code_of

    if named := next((name for name in names or () if code_of(name)), None):
        raise OptionError(f"--metric {named}: a service does not run your functions", "evaluate it on this machine")


def service_provider(provider: str | None) -> None:
    """Raises OptionError unless a service runs networks there; whoever runs it chooses the GPU."""
    if provider and not re.match(HOSTED, provider):
        require_value("provider", provider, dashed)
        raise OptionError(f"--provider {provider}: {HERE}", "give cpu, cuda, or cuda:use_tf32=1", "provider")


def _numbers(name: str, read: Callable[[Any], Any]) -> Callable[[str], list[Any]]:
    """How several numbers of an option are read, with commas between them."""
    read = typed(dashed(name), read, f"{OPTIONS[name].words}; several with commas between")
    return lambda text: [read(part.strip(" ")) for part in text.split(",")]


def _words(text: str) -> list[str]:
    return [part.strip() for part in text.split(",")]


def _config(path: str) -> dict[str, Any]:
    from graphpass.datasets.processors import read_config

    return read_config(path)


_TEXTS = {
    "mean": _numbers("mean", number_of),
    "std": _numbers("std", number_of),
    "preprocess": _config,  # read here, also for a service
}
_LISTS = {"time_steps": _numbers("time_steps", whole_of), "coding": _words, "method": _words}  # of a sweep

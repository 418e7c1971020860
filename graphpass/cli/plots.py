"""`graphpass plot raster`, `thresholds`, `pareto` and `graph`: pictures as pages and images."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from graphpass.cli.options import (
    DATA_HELP,
    ImageMean,
    ImagePreset,
    ImageSize,
    ImageStd,
    Preprocess,
    Snn,
    Threads,
    option,
    options_of,
    output,
    require_images_read,
)
from graphpass.cli.terminal import out
from graphpass.options.table import DRAWN

PlotData = Annotated[
    str, typer.Option("--data", metavar="DATA", help=f"{DATA_HELP}; labels are not needed.", show_default=False)
]
Sample = Annotated[int | None, option("sample", max=None)]
Neurons = Annotated[int | None, option("neurons")]
SiteName = Annotated[str | None, option("site", note="If not given: the first.", metavar="NAME")]
Channel = Annotated[int | None, option("channel", max=None)]
PlotLimit = Annotated[int | None, option("limit", note=f"Default {DRAWN}.")]


def _target(kind: str) -> Any:
    return typer.Option(
        "--output",
        "-o",
        metavar="FILE",
        help=f"{kind}.html if not given; .svg, .pdf, .png and .json, too.",
        show_default=False,
    )


def add(app: typer.Typer) -> None:
    """Add the commands."""
    plots = typer.Typer()
    plots.callback(invoke_without_command=True)(_plots)
    for command in (raster, thresholds, pareto, graph):
        plots.command()(command)
    app.add_typer(plots, name="plot")


def _plots(context: typer.Context) -> None:
    """Draw spikes, thresholds, accuracy against energy, or the network."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def raster(
    context: typer.Context,
    snn: Snn,
    data: PlotData,
    file: Annotated[Path, _target("raster")] = Path("raster.html"),
    sample: Sample = None,
    neurons: Neurons = None,
    threads: Threads = None,
    preset: ImagePreset = None,
    preprocess: Preprocess = None,
    image_size: ImageSize = None,
    mean: ImageMean = None,
    std: ImageStd = None,
) -> None:
    """Draw the spikes of one sample: neurons of every site over the time-steps, and how many of all spike."""
    options = options_of("plot_raster", context, locals())
    require_images_read(options, data)
    _require([file], snn, data)
    from graphpass import api

    _save(api.plot_raster(snn, data, **options, allow_code=True), file)


def thresholds(
    context: typer.Context,
    snn: Snn,
    data: PlotData,
    file: Annotated[Path, _target("thresholds")] = Path("thresholds.html"),
    site: SiteName = None,
    channel: Channel = None,
    limit: PlotLimit = None,
    threads: Threads = None,
    preset: ImagePreset = None,
    preprocess: Preprocess = None,
    image_size: ImageSize = None,
    mean: ImageMean = None,
    std: ImageStd = None,
) -> None:
    """Draw the input of the neurons of a site, with their thresholds."""
    options = options_of("plot_thresholds", context, locals())
    require_images_read(options, data)
    _require([file], snn, data)
    from graphpass import api

    _save(api.plot_thresholds(snn, data, **options, allow_code=True), file)


def pareto(
    results: Annotated[
        list[Path],
        typer.Argument(
            metavar="RESULT.json …", help="Files that sweeps or evaluations wrote with --json.", show_default=False
        ),
    ],
    file: Annotated[Path, _target("pareto")] = Path("pareto.html"),
) -> None:
    """Draw accuracy against energy for the conversions of a sweep, and mark those that no other one beats in both."""
    _require([file], *map(str, results))
    from graphpass import api

    _save(api.plot_pareto(results), file)


def graph(
    snn: Snn,
    evaluation: Annotated[
        Path | None,
        typer.Argument(
            metavar="[EVALUATION.json]",
            help="The file of `graphpass evaluate --json`, for the colours.",
            show_default=False,
        ),
    ] = None,
    file: Annotated[Path, _target("graph")] = Path("graph.html"),
    node_data: Annotated[
        Path | None,
        output("Write node data for Model Explorer, too: FILE.error.json and FILE.firing_rate.json.", "FILE.json"),
    ] = None,
) -> None:
    """Draw a converted network as a graph, its sites coloured by error and firing rate."""
    from graphpass import api
    from graphpass.errors import OptionError
    from graphpass.report.pictures.node_data import file_of
    from graphpass.report.pictures.picture import OF_SITES

    if node_data and evaluation is None:
        raise OptionError(
            "--node-data needs an evaluation: it holds its figures", "give the JSON of `graphpass evaluate`"
        )
    beside = [file_of(node_data, name) for name in OF_SITES] if node_data else []
    _require([file], snn, *([str(evaluation)] if evaluation else []), beside=beside)
    if node_data and evaluation:  # before the picture, which a network may be too large for
        for written in api.save_node_data(snn, evaluation, node_data):
            out.print(f"node data: {written}")
    _save(api.plot_graph(snn, evaluation), file)


def _require(targets: list[Path], *read: str, beside: Sequence[Path] = ()) -> None:
    """Raises OptionError unless the targets, which are pictures, and what is written beside them can be written and are
    not read.
    """
    from graphpass.datasets.sources import path_of
    from graphpass.files import require_targets
    from graphpass.report.pictures.files import require_ending

    for target in targets:
        require_ending(target)
    require_targets([(target, ()) for target in (*targets, *beside)], [path_of(each) for each in read])


def _save(picture: Any, target: Path) -> None:
    from graphpass import api

    api.save_picture(picture, target)
    out.print(f"{target}")

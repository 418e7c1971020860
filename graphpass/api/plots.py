"""Pictures: spikes of a sample, thresholds of a site, accuracy against energy, the network as a graph."""

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from graphpass.command_options import CommandOptions
from graphpass.errors import DataError, OptionError, wrong_type
from graphpass.evaluation import spikes
from graphpass.evaluation.results import ConversionFacts, Evaluation, SiteResult
from graphpass.evaluation.spikes import NeuronRun
from graphpass.files import path_to, require_targets
from graphpass.forms.registry import spiking_graph
from graphpass.graph.outline import outline_of
from graphpass.inputs import Data, Numbers, PathLike, SpikingModel, converted_of, dataset_of, naming, prepares_images
from graphpass.maths.threads import limited_threads
from graphpass.options.rules import require_images
from graphpass.options.table import DRAWN
from graphpass.records import RecordError, parsed, record_of
from graphpass.report.files import write_json
from graphpass.report.pictures.files import write_picture
from graphpass.report.pictures.network import network
from graphpass.report.pictures.node_data import file_of, node_data
from graphpass.report.pictures.pareto import REMEDY, pareto
from graphpass.report.pictures.picture import OF_SITES, Picture
from graphpass.report.pictures.raster import raster
from graphpass.report.pictures.thresholds import thresholds
from graphpass.sweeps import Row

Results = PathLike | Evaluation | Sequence[PathLike] | Sequence[Row] | Sequence[Evaluation]


def plot_raster(
    snn: SpikingModel,
    data: Data,
    *,
    sample: int | None = None,
    neurons: int | None = None,
    threads: int | None = None,
    preset: str | None = None,
    preprocess: PathLike | Mapping[str, Any] | None = None,
    image_size: int | None = None,
    mean: Numbers | None = None,
    std: Numbers | None = None,
    allow_code: bool = False,
) -> Picture:
    """The spikes of one sample: some neurons of every site over the time-steps, and how many of all neurons spike.

        graphpass.save_picture(graphpass.plot_raster("snn.onnx", "images.npz"), "raster.svg")

    snn, data: as for `verify`; the folded or the unrolled form. sample: which one, default 0. neurons: of each site,
    drawn at random, at most 256; by default as many as there is room for.
    threads, preset, preprocess, image_size, mean, std, allow_code: as for `convert`. Raises subclasses of
    graphpass.GraphpassError: ModelError, OptionError, DataError, SessionError.
    """
    choices = CommandOptions("plot_raster", given := locals())
    with limited_threads(choices("threads")):
        proto = converted_of(snn)[0]
        with naming(snn):
            run = NeuronRun(proto, choices("threads"))
        dataset = dataset_of(data, run.proto, choices.images(), allow_code)
        if not prepares_images(data, dataset):
            require_images(given)
        return raster(spikes.record_spikes(run, dataset, choices("sample"), choices("neurons")))


def plot_thresholds(
    snn: SpikingModel,
    data: Data,
    *,
    site: str | None = None,
    channel: int | None = None,
    limit: int | None = None,
    threads: int | None = None,
    preset: str | None = None,
    preprocess: PathLike | Mapping[str, Any] | None = None,
    image_size: int | None = None,
    mean: Numbers | None = None,
    std: Numbers | None = None,
    allow_code: bool = False,
) -> Picture:
    """What reaches the neurons of a site, with their thresholds in it, and how often they send how many spikes.

        graphpass.plot_thresholds("snn.onnx", "images.npz", site="/layer1/relu")

    snn, data: as for `plot_raster`. site: by name, by default the first. channel: by default some of all. limit: number
    of samples, default 64. threads, preset, preprocess, image_size, mean, std, allow_code: as for `convert`.
    Errors: as for `plot_raster`; an unknown site or channel is an OptionError that names what there is.
    """
    choices = CommandOptions("plot_thresholds", given := locals())
    with limited_threads(choices("threads")):
        proto, facts, _ = converted_of(snn)
        first = next((each.name for each in facts.sites), "")
        chosen = first if choices("site") is None else choices("site")
        with naming(snn):
            run = NeuronRun(proto, choices("threads"), chosen)
        dataset = dataset_of(data, run.proto, choices.images(), allow_code)
        if not prepares_images(data, dataset):
            require_images(given)
        return thresholds(spikes.site_currents(run, dataset, chosen, choices("limit") or DRAWN, choices("channel")))


def plot_pareto(found: Results) -> Picture:
    """Accuracy against energy of many conversions, and those that no other one beats in both.

        graphpass.plot_pareto(graphpass.sweep("ann.onnx", "images.npz", "labelled.npz"))

    found: what `sweep` or `evaluate` returned, or files of `--json` of either, one or several.
    Raises DataError for other files, OptionError where no energy was measured.
    """
    several = list(found) if isinstance(found, Iterable) and not isinstance(found, str | bytes) else [found]
    documents = [document for each in several for document in _documents(each)]
    paths = [str(each) for each in several if isinstance(each, str | os.PathLike)]
    return pareto(documents, ", ".join(paths) or "the sweep")


def plot_graph(snn: SpikingModel, found: Evaluation | PathLike | None = None) -> Picture:
    """A converted network as a graph, its sites coloured by error and firing rate.

        graphpass.plot_graph("snn.onnx", graphpass.evaluate("ann.onnx", "snn.onnx", "labelled.npz"))

    snn: as for `evaluate`, in any form. found: what `evaluate` returned, or its file; without it sites have no colours.
    Raises ModelError for a network that was not converted, DataError for the evaluation of another network, and
    OptionError for a network that is too large.
    """
    proto, facts, digest = converted_of(snn)
    outline = outline_of(spiking_graph(proto), {site.name for site in facts.sites})
    sites = [] if found is None else _sites(facts, digest, found)
    name = Path(snn).name if isinstance(snn, str | os.PathLike) else ""
    picture = network(outline, sites, f"The spiking network {name}".rstrip())
    if picture is None:
        raise OptionError(
            f"{name or 'the network'}: too many nodes and branches to be drawn",
            "open it in a viewer, with save_node_data",
        )
    return picture


def save_picture(picture: Picture, path: PathLike) -> None:
    """Write a picture as .html, .svg, .pdf, .png or plotly's .json, by the ending of the path.

    Images need kaleido (`pip install 'graphpass[images]'`) and a Chromium or Chrome. Raises OptionError.
    """
    if not isinstance(picture, Picture):
        raise wrong_type("a picture", picture, "what plot_… returned")
    write_picture(picture, path_to(path))


def save_node_data(snn: SpikingModel, found: Evaluation | PathLike, path: PathLike) -> tuple[Path, ...]:
    """Write error and firing rate of each site as node data of Model Explorer, for the file of the converted network.

        graphpass.save_node_data("snn.onnx", "evaluation.json", "n.json")  # n.error.json, n.firing_rate.json

    snn, found: as for `plot_graph`. Model Explorer reads one value a file: `path` gets the name of each before its
    ending, and a value that was measured at no site has no file. Returns the files. Errors: as for `plot_graph`.
    """
    proto, facts, digest = converted_of(snn)
    sites = _sites(facts, digest, found)
    target = path_to(path)
    measured = [name for name in OF_SITES if any(getattr(site, name) is not None for site in sites)]
    files = tuple(file_of(target, name) for name in measured)
    if not files:
        raise OptionError("the evaluation has no figures of sites", "evaluate the folded or the unrolled form")
    read = [Path(each) for each in (snn, found) if isinstance(each, str | os.PathLike)]
    require_targets([(file, ()) for file in files], read)
    for name, file in zip(measured, files, strict=True):
        write_json(node_data(proto, sites, name), file)
    return files


def _documents(found: Any) -> list[Any]:
    """The documents of docs/formats.md in a result or in its file."""
    match found:
        case Row() | Evaluation():
            return [found.to_json()]
        case str() | os.PathLike():
            read = _read(path_to(found))
            return read if isinstance(read, list) else [read]
    raise wrong_type("a result", found, "what sweep or evaluate returned")


def _read(path: Path) -> Any:
    try:
        return parsed(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise DataError(f"{path}: cannot be read ({reason})", REMEDY) from error


def _sites(facts: ConversionFacts, digest: str, found: Evaluation | PathLike) -> tuple[SiteResult, ...]:
    """The sites of an evaluation of this network. digest: of its file, empty where there was none."""
    where = "the evaluation" if isinstance(found, Evaluation) else str(found)
    documents = _documents(found)
    try:
        if len(documents) != 1:
            raise RecordError(f"{len(documents)} of them")
        (document,) = documents
        if document["format"] != "graphpass-evaluation":
            raise RecordError("another format")
        evaluated = document["provenance"]["snn_sha256"]
        sites: tuple[SiteResult, ...] = record_of(tuple[SiteResult, ...], document["sites"], "sites")
    except (KeyError, TypeError, RecordError) as error:
        reason = f" ({error})" if isinstance(error, RecordError) else ""
        raise DataError(
            f"{where}: not one evaluation{reason}", "give the JSON that `graphpass evaluate --json` wrote"
        ) from error
    own, theirs = ({each.name for each in sides} for sides in (facts.sites, sites))
    if own != theirs or (digest and evaluated and digest != evaluated):
        raise DataError(f"{where}: this evaluation belongs to another network", "give the two that belong together")
    return sites

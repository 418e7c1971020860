"""What runs inside the sandbox: functions of a workplace that return JSON, by the names of service/sandbox/table.py.

A file argument is a path relative to folder/in, under the name that the user knows: messages and reports show its last
part. A model is an .onnx, or a .zip with one .onnx and its external data; data is an .npz, an .npy, a .zip of .npz
shards, or a .zip of images (by class). The bytes of a file say what it is. Options have the names, the meaning and
the defaults of the command line (`time_steps`, `image_size`, …), lists where it takes several values.

Where a result would be long a task returns a summary: see bounds.py. The whole is in a file then, or in the report.

describe_model    {"file", "options"?: include, exclude, identity_sites}
                  → {"inputs": [{"name", "dtype", "shape"}], "outputs": [str], "opset", "nodes", "parameters", "sites":
                  [{"name", "kind", "axis", "layers"}], "left": [{"node", "op", "reason", "expected"}],
                  "spiking_layers", "weight_layers", "digest", "spiking": null, or of a converted network
                  {"time_steps", "coding", "levels", "method", "form", "precision", "target", "model_sha256"}};
                  "left" begins with what is not expected. Writes out/description.json where that is longer than a
                  summary
describe_dataset  {"file", "model"?, "options"?: image_size, mean, std}
                  → {"kind": "npz" | "npy" | "shards" | "images" | "tar" | "parquet", "samples", "labels": bool,
                  "arrays": {name: {"dtype", "shape"}}}    shape: with the samples first, of the whole dataset.
                  Writes out/description.json likewise
convert           {"model", "calibration"?, "plan"?, "options"?: synthetic, time_steps, coding, method, form,
                  precision, target, levels, energy, mean_levels, include, exclude, identity_sites, allow_partial,
                  limit, seed, memory_budget, threads, image_size, mean, std, and of the evaluation afterwards metric
                  (a list) and energy_model, "observed"?: [file]: parts of observe, in the order of their samples}
                  writes out/snn.onnx, out/plan.json, and out/plan.npz where the method changes weights
                  → {"files": {name: bytes}, "time_steps", "coding", "levels", "method", "form", "precision", "target",
                  "sites": [str], "site_levels": [int], "left", "float32": likewise, what of a network in float16 is
                  not, "spiking_layers", "weight_layers", "samples", "notes": as in the plan, "warnings": [str]};
                  the same bytes with parts as without. Writes out/result.json where that is longer than a summary
observe           {"model", "calibration", "start", "stop", "options"? of convert}
                  samples [start, stop) of a calibration through the original network; both move up to the next whole
                  batch. Refuses what convert would. Writes out/part.npz → {"samples": int}
evaluate          {"ann", "snn", "dataset", "options"?: metric (a list), energy_model, limit, threads, provider,
                  image_size, mean, std}
                  writes out/report.html, out/report.json, out/pictures.json → the evaluation of docs/formats.md
sweep_settings    {"model", "options"?: time_steps, coding, method (lists), and all others of sweep_shard}
                  → {"settings": [{"time_steps", "coding", "method"}]} in the order of the rows, and "order": their
                  numbers as they should be made; refuses what no conversion of the sweep could do
sweep_shard       {"model", "calibration", "dataset", "options"?: time_steps, coding, method (one each), include,
                  exclude, identity_sites, allow_partial, metric (a list), energy_model, calibration_limit,
                  limit, seed, memory_budget, threads, image_size, mean, std}
                  one conversion of a sweep, evaluated; shares what the process learned for the rows before. Writes
                  out/part.json → {"samples": int}
reduce_sweep      {"parts": [file]}    in the order of the rows
                  writes out/report.html, out/report.json, out/pictures.json → {"rows": the list of docs/formats.md}
evaluate_shard    {"ann", "snn", "dataset", "start", "stop", "measure": bool, "options"? of evaluate}
                  samples [start, stop); both move up to the next whole batch, so that shards which meet still do. One
                  shard, whichever, measures: it counts operations and times the networks for all
                  Writes out/part.json → {"samples": int}
reduce_shards     {"parts": [file]}    in the order of their samples
                  writes out/report.html, out/report.json, out/pictures.json → as evaluate; its figures are equal, bit
                  for bit
rank              {"model", "calibration", "evaluation"?, "options"? of graphpass inspect}
                  writes out/report.html, out/report.json → the ranking of docs/formats.md
search_next       {"model", "calibration", "dataset", "trials": [as search_trial returns], "facts"?: [file], "options"?:
                  max_drop, minimise, time_steps, coding, method, form, precision, target, include, exclude,
                  identity_sites, allow_partial, metric (a list), energy_model, limit, seed, memory_budget, threads,
                  image_size, mean, std}
                  writes out/facts.json, for the next of these tasks
                  → {"stage", "setting"} of the trial to make, or {"ended": true}
search_trial      {…, "stage", "setting"}    the same arguments; one trial → the trial of docs/formats.md
search_finish     {…}    the same arguments; converts what was chosen and evaluates it on the other half of the data
                  writes what convert and evaluate write; out/report.json is the search of docs/formats.md
                  → as convert, with "trials", "chosen", "reason", "drop", "verdict", "conclusion"
                    and "evaluation"
search_report     {…}    the same arguments, where search_finish found nothing good enough
                  writes out/report.html, out/report.json: its trials, and the share of every site → {}
check             {} → what confines this process: {"landlock": its ABI or 0, "seccomp": true, "uid": …}
"""

import json
import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import onnx
from onnx_graphsurgeon.logger import G_LOGGER

from graphpass.command_options import CommandOptions
from graphpass.conversion import Conversion, convert, observe, require_levels, settings_of
from graphpass.datasets.dataset import Dataset
from graphpass.datasets.images import ImageOptions
from graphpass.errors import ModelError, OptionError
from graphpass.evaluation.evaluate import Pair, compare, evaluate_pair, measure, open_pair
from graphpass.evaluation.results import Evaluation, conversion_of
from graphpass.evaluation.shards import EvaluationShard, from_text, merge
from graphpass.forms.registry import single_of
from graphpass.graph.description import PREFIX
from graphpass.graph.domains import opset_of
from graphpass.graph.model import Source, load, read_with_digest
from graphpass.graph.plan import load_plan, save_plan
from graphpass.graph.tensors import all_tensors
from graphpass.inspection import inspect
from graphpass.network import Network, prepare, require_coverage
from graphpass.report.files import write_json, write_report
from graphpass.report.pages import evaluation_report, pictures_of
from graphpass.report.pictures.picture import Picture
from graphpass.runtime.session import input_specs, open_session, required
from graphpass.sites.sites import Selection
from service.sandbox.bounds import OMITTED, RESULT, SUMMARY, WHOLE, summary
from service.sandbox.data import data_file
from service.sandbox.models import model_path, understood
from service.sandbox.options import FILES, task_options
from service.sandbox.workplace import Workplace

JSON = dict[str, Any]
G_LOGGER.severity = G_LOGGER.ERROR


def describe_model(place: Workplace) -> JSON:
    """Describe a network, which may be a converted one. onnxruntime loads it; nothing is run."""
    choices = task_options(place.arguments, "inspect")
    path = model_path(place, "file")
    with understood(path):
        proto, known = read_with_digest(path)
        if any(entry.key.startswith(PREFIX) for entry in proto.metadata_props):
            return _described(place, _converted(path, proto, known))
        del proto  # it would lie beside what is loaded
        found = inspect(prepare(source := load(path), choices.selection()))
    description = {
        **_interface(source),
        "opset": found.opset,
        "nodes": found.nodes,
        "parameters": found.parameters,
        "sites": [{**asdict(site), "layers": list(site.layers)} for site in found.sites],
        "left": [asdict(entry) for entry in sorted(found.left, key=lambda entry: entry.expected)],
        "spiking_layers": found.spiking_layers,
        "weight_layers": found.weight_layers,
        "digest": found.sha256,
        "spiking": None,
    }
    return _described(place, description)


def describe_dataset(place: Workplace) -> JSON:
    """Describe a dataset from its headers, and with a model from its first sample, too."""
    choices = task_options(place.arguments, "open_dataset")
    data = data_file(place, "file")
    if place.arguments.get("model") is None:
        return _described(place, {"kind": data.kind, **data.describe()})
    dataset = data.dataset(input_specs(_source(place, "model")), choices.images())
    first = next(iter(dataset.batches(1))).inputs
    arrays = {name: {"dtype": str(a.dtype), "shape": [dataset.samples, *a.shape[1:]]} for name, a in first.items()}
    found = {"kind": data.kind, "samples": dataset.samples, "labels": dataset.labelled, "arrays": arrays}
    return _described(place, found)


def convert_model(place: Workplace) -> JSON:
    """Convert a network as `graphpass convert` does, byte for byte."""
    choices = task_options(place.arguments, "convert")
    network = network_of(place, "model", choices.selection())
    calibration, plan = (place.arguments.get(role) for role in FILES)
    choices.evaluation()  # metrics that make no sense are refused before the work
    images = choices.images()
    data = None if calibration is None else dataset_of(place, "calibration", network.source, images)
    with collecting_warnings(place) as messages:
        done = convert(
            network,
            data or choices.synthetic(),
            place.out("snn.onnx"),
            **choices.conversion(),
            plan=None if plan is None else load_plan(place.file("plan")),
            images=images,
            options=choices.calibration(),
            levels=choices.levels(),
            observed=place.files("observed"),
            progress=place.progress,
        )
    return summarised(place, converted_result(place, done, messages), RESULT, "result.json")


def converted_result(place: Workplace, done: Conversion, messages: Sequence[str]) -> JSON:
    """Write the plan, and tell what was converted."""
    save_plan(done.plan, place.out("plan.json"))
    coverage, decided = done.network.coverage, done.plan
    return {
        "files": {path.name: path.stat().st_size for path in sorted(place.out("").iterdir())},
        **{key: getattr(decided, key) for key in ("time_steps", "coding", "levels", "method", "samples")},
        "form": done.form,
        "precision": done.precision,
        "target": done.target,
        "sites": [site.name for site in decided.sites],
        "site_levels": [site.levels for site in decided.sites],
        "left": [asdict(entry) for entry in decided.left],
        "float32": [asdict(entry) for entry in single_of(done.proto)],
        "spiking_layers": coverage.spiking_layers,
        "weight_layers": coverage.weight_layers,
        "notes": dict(decided.notes),
        "warnings": list(messages),
    }


@contextmanager
def collecting_warnings(place: Workplace) -> Iterator[list[str]]:
    """A context that collects warnings; they are logged as well."""
    messages: list[str] = []
    log = warnings.showwarning
    with warnings.catch_warnings():

        def show(message: Warning | str, *where: Any, **more: Any) -> None:
            messages.append(place.without_folders(str(message)))
            log(message, *where, **more)

        warnings.showwarning = show
        yield messages


def observe_model(place: Workplace) -> JSON:
    """Run the original network on a part of the calibration data, for `convert`."""
    choices = task_options(place.arguments, "convert")
    start, stop = _span(place)
    network = network_of(place, "model", choices.selection())
    require_coverage(network, choices("allow_partial"))
    choices.levels(), choices.evaluation()  # what makes no sense is refused here, too
    how = {name: choices(name) for name in ("time_steps", "coding", "method", "form")}
    settings = settings_of(network, **how, options=choices.calibration())
    require_levels(network, settings, choices("target"))
    dataset = dataset_of(place, "calibration", network.source, choices.images())
    return {"samples": observe(network, dataset, settings, place.out("part.npz"), start, stop, place.progress)}


def evaluate_model(place: Workplace) -> JSON:
    """Compare two networks as `graphpass evaluate --json --report` does."""
    choices = task_options(place.arguments, "evaluate")
    pair, snn_digest = _pair(place, choices)
    dataset = dataset_of(place, "dataset", pair.source, choices.images())
    return _reported(place, evaluate_pair(pair, dataset, snn_digest, place.progress))


def evaluate_shard(place: Workplace) -> JSON:
    """Compare two networks on a part of the samples."""
    choices = task_options(place.arguments, "evaluate")
    start, stop = _span(place)
    measures = place.arguments.get("measure")
    if not isinstance(measures, bool):
        raise OptionError(f"measure {measures!r}", "give true or false")
    pair, snn_digest = _pair(place, choices)
    dataset = dataset_of(place, "dataset", pair.source, choices.images())
    part = compare(pair, dataset, start, stop, place.progress)
    if measures:
        part = replace(part, measured=measure(pair, dataset, snn_digest, place.progress))
    return part_of(place, part)


def reduce_shards(place: Workplace) -> JSON:
    """Put the parts of an evaluation together."""
    return _reported(place, merge(parts_of(place)))


def check(place: Workplace) -> JSON:
    """Show that tasks can run here: this module was imported in the confined process. Returns what confines it."""
    return dict(place.confined)


def _span(place: Workplace) -> tuple[int, int]:
    """First and last + 1 of the samples of a shard."""
    start, stop = (place.arguments.get(name) for name in ("start", "stop"))
    if type(start) is not int or type(stop) is not int or not 0 <= start < stop:
        raise OptionError(f"samples {start!r} to {stop!r}", "give 0 <= start < stop")
    return start, stop


def part_of(place: Workplace, part: EvaluationShard) -> JSON:
    place.out("part.json").write_text(part.to_text(), "utf-8")
    return {"samples": part.stop - part.start}


def parts_of(place: Workplace) -> list[EvaluationShard]:
    paths = place.files("parts")
    if not paths:
        raise OptionError("parts: none", "give the parts of the shards, in order")
    return [from_text(path.read_text("utf-8", "replace")) for path in paths]


def _described(place: Workplace, description: JSON) -> JSON:
    return summarised(place, description, SUMMARY, "description.json")


def summarised(place: Workplace, document: JSON, most: int, file: str) -> JSON:
    """A summary of the document; where something is left out, the file has the whole."""
    short = summary(document, most)
    if OMITTED in short:
        place.out(file).write_text(json.dumps(summary(document, WHOLE, WHOLE // 16)), "utf-8")
    return short


def _source(place: Workplace, role: str) -> Source:
    path = model_path(place, role)
    with understood(path):
        return load(path)


def network_of(place: Workplace, role: str, selection: Selection) -> Network:
    source = _source(place, role)
    with understood(source.path):
        return prepare(source, selection)


def _pair(place: Workplace, choices: CommandOptions) -> tuple[Pair, str]:
    """A network with its converted one, and the digest of the converted one's file."""
    source = _source(place, "ann")
    path = model_path(place, "snn")
    options, remedy = choices.evaluation(), "see `graphpass doctor` on the workers of the queue gpu, or leave it out"
    with understood(path), required(options.providers, remedy):
        proto, known = read_with_digest(path)
        return open_pair(source, proto, options), known


def dataset_of(place: Workplace, role: str, source: Source, images: ImageOptions) -> Dataset:
    return data_file(place, role).dataset(input_specs(source), images)


def _interface(model: Source | onnx.ModelProto) -> JSON:
    session = open_session(model, threads=1)  # nothing is run
    inputs = [{"name": s.name, "dtype": str(s.dtype), "shape": list(s.shape)} for s in input_specs(session)]
    return {"inputs": inputs, "outputs": [value.name for value in session.get_outputs()]}


def _converted(path: Path, proto: onnx.ModelProto, digest: str) -> JSON:
    try:
        facts = conversion_of(proto)
    except ModelError as error:
        raise ModelError(f"{path}: {error.what}", error.remedy) from error
    keys = ("time_steps", "coding", "levels", "method", "form", "precision", "target")
    return {
        **_interface(proto),
        "opset": opset_of(proto),
        "nodes": len(proto.graph.node),
        "parameters": sum(math.prod(tensor.dims) for tensor in all_tensors(proto)),
        "sites": [{"name": s.name, "kind": s.kind, "axis": None, "layers": list(s.layers)} for s in facts.sites],
        "left": [asdict(entry) for entry in facts.left],
        "spiking_layers": len({layer for site in facts.sites for layer in site.layers}),
        "weight_layers": len({layer for site in facts.sites for layer in site.layers}),
        "digest": digest,
        "spiking": {**{key: getattr(facts, key) for key in keys}, "model_sha256": facts.model_digest},
    }


def _reported(place: Workplace, found: Evaluation) -> JSON:
    document = found.to_json()
    write_json(document, place.out("report.json"))
    write_report(evaluation_report(found), place.out("report.html"))
    draw(place, pictures_of(found))
    return summary(document, RESULT)


def draw(place: Workplace, pictures: Sequence[Picture]) -> None:
    """Write the pictures of a result for the page."""
    write_json([picture.to_json() for picture in pictures], place.out("pictures.json"))

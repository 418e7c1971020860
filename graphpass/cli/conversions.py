"""`graphpass convert`, `evaluate` and `sweep`: here, or on a service with --server."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from graphpass.cli.options import (
    DATA_HELP,
    AllowPartial,
    Ann,
    CacheFolder,
    Calibration,
    CalibrationLimit,
    Coding,
    CodingsOfSweep,
    ConversionLimit,
    Energy,
    EnergyModel,
    EvaluationData,
    Exclude,
    FormName,
    IdentitySites,
    ImageMean,
    ImagePreset,
    ImageSize,
    ImageStd,
    Include,
    JsonOut,
    Key,
    Levels,
    Limit,
    MadeUp,
    MaxDrop,
    MeanLevels,
    Memory,
    MethodName,
    MethodsOfSweep,
    MetricNames,
    Minimise,
    Precision,
    Preprocess,
    Provider,
    Report,
    Seed,
    ServerOptions,
    ServerUrl,
    Snn,
    StepsOfSweep,
    Target,
    Threads,
    TimeSteps,
    options_of,
    output,
    require_images_read,
    service_metrics,
    service_provider,
)
from graphpass.cli.terminal import out, print_evaluation, print_left, progress_bars
from graphpass.options.table import AFTERWARDS, IMAGES, SEVERAL, form_words
from graphpass.wording import counted


def add(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(convert)
    app.command()(evaluate)
    app.command()(sweep)


def convert(
    context: typer.Context,
    ann: Ann,
    snn: Annotated[
        Path, typer.Argument(metavar="SNN.onnx", help="The file to write the converted network to.", show_default=False)
    ],
    calibration: Calibration = None,
    synthetic: MadeUp = False,
    time_steps: TimeSteps = None,
    coding: Coding = None,
    method: MethodName = None,
    form: FormName = None,
    precision: Precision = None,
    target: Target = None,
    levels: Levels = None,
    energy: Energy = None,
    mean_levels: MeanLevels = None,
    plan: Annotated[
        Path | None, output("Apply a saved plan instead of calibrating; it needs no data.", "P.json")
    ] = None,
    plan_out: Annotated[Path | None, output("Save the plan.", "P.json")] = None,
    evaluation: Annotated[
        str | None,
        typer.Option(
            metavar="DATA", help=f"Evaluate the result on this data afterwards: {DATA_HELP}.", show_default=False
        ),
    ] = None,
    metric: MetricNames = None,
    energy_model: EnergyModel = None,
    report: Report = None,
    as_json: JsonOut = None,
    include: Include = None,
    exclude: Exclude = None,
    identity_sites: IdentitySites = False,
    allow_partial: AllowPartial = False,
    max_drop: MaxDrop = None,
    minimise: Minimise = None,
    cache: CacheFolder = None,
    limit: ConversionLimit = None,
    seed: Seed = None,
    memory_budget: Memory = None,
    threads: Threads = None,
    preset: ImagePreset = None,
    preprocess: Preprocess = None,
    image_size: ImageSize = None,
    mean: ImageMean = None,
    std: ImageStd = None,
    server: ServerUrl = None,
    key: Key = None,
) -> None:
    """Convert a network: calibrate it, put in the neurons, and write a file that a standard onnxruntime runs."""
    options = options_of("convert", context, locals())
    require_images_read(options, calibration, evaluation, made_up=synthetic)
    _require_targets((snn, plan_out, as_json, report), (ann,), (calibration, evaluation), metric, plan)
    if server is not None:
        from graphpass.cli import remote

        service_metrics(metric)
        if max_drop is not None and evaluation:
            remote.search(
                ServerOptions(server, key or ""), ann, snn, calibration, evaluation, options, plan_out, as_json, report
            )
            return
        remote.convert(
            ServerOptions(server, key or ""), ann, snn, calibration, evaluation, options, plan_out, as_json, report
        )
        return
    if max_drop is not None and evaluation:
        from graphpass.cli.searches import search

        search(ann, snn, calibration, evaluation, options, plan_out, as_json, report)
        return
    from graphpass import api
    from graphpass.evaluation.metrics.registry import metrics_of
    from graphpass.forms.registry import encoded_of, floats_of, single_of
    from graphpass.maths.allocation import levels_text

    source = api.load(ann)
    metrics_of(metric or (), allow_code=True)  # refused before the work
    labelled = evaluation and api.open_dataset(evaluation, source, **_images(options, evaluation), allow_code=True)
    own = {name: value for name, value in options.items() if name not in (*IMAGES, *AFTERWARDS)}
    prepared = _images(options, calibration, synthetic)
    with progress_bars() as progress:
        done = api.convert(source, calibration, snn, plan=plan, **own, **prepared, allow_code=True, progress=progress)
    coverage, decided = done.network.coverage, done.plan
    form = form_words(done.form, done.precision, done.target)
    levels_of_sites = levels_text([site.levels for site in decided.sites])
    out.print(
        f"{snn}: {counted(len(decided.sites), 'site')}, T = {decided.time_steps} ({decided.coding}, "
        f"{levels_of_sites} levels), method {decided.method}, form {form}; spikes reach {coverage.spiking_layers} of "
        f"{counted(coverage.weight_layers, 'weight layer')}",
        soft_wrap=True,
    )
    if done.distance:
        out.print(str(done.distance), soft_wrap=True)
    if "levels" in decided.notes:
        out.print(f"levels {decided.notes['levels']}", soft_wrap=True)
    print_left(coverage.left)
    print_left(single_of(done.proto), "float32, not float16")
    if done.form == "integer":
        print_left(floats_of(done.proto), "float, not integer")
        out.print(f"{counted(len(encoded_of(done.proto)), 'analogue tensor')} as 8-bit numbers")
    if plan_out:
        api.save_plan(decided, plan_out)
        out.print(f"plan: {plan_out}")
    if labelled:
        written = snn if snn.is_file() else done  # it may be a pipe
        with progress_bars() as progress:
            found = api.evaluate(
                source,
                written,
                labelled,
                **{name: value for name, value in options.items() if name in (*AFTERWARDS, "threads")},
                allow_code=True,
                progress=progress,
            )
        print_evaluation(found)
        _save(found, as_json, report)


def evaluate(
    context: typer.Context,
    ann: Ann,
    snn: Snn,
    data: EvaluationData,
    metric: MetricNames = None,
    energy_model: EnergyModel = None,
    as_json: JsonOut = None,
    report: Report = None,
    limit: Limit = None,
    threads: Threads = None,
    provider: Provider = None,
    preset: ImagePreset = None,
    preprocess: Preprocess = None,
    image_size: ImageSize = None,
    mean: ImageMean = None,
    std: ImageStd = None,
    server: ServerUrl = None,
    key: Key = None,
) -> None:
    """Compare a converted network with its origin: accuracy, spikes, operations, energy, latency."""
    options = options_of("evaluate", context, locals())
    require_images_read(options, data)
    _require_targets((None, None, as_json, report), (ann, snn), (data,), metric)
    if server is not None:
        from graphpass.cli import remote

        service_metrics(metric)
        service_provider(provider)
        remote.evaluate(ServerOptions(server, key or ""), ann, snn, data, options, as_json, report)
        return
    from graphpass import api

    with progress_bars() as progress:
        found = api.evaluate(ann, snn, data, **options, allow_code=True, progress=progress)
    print_evaluation(found)
    _save(found, as_json, report)


def sweep(
    context: typer.Context,
    ann: Ann,
    calibration: Annotated[
        str, typer.Option(metavar="DATA", help=f"Calibration data: {DATA_HELP}.", show_default=False)
    ],
    data: EvaluationData,
    time_steps: StepsOfSweep = None,
    coding: CodingsOfSweep = None,
    method: MethodsOfSweep = None,
    metric: MetricNames = None,
    energy_model: EnergyModel = None,
    as_json: JsonOut = None,
    report: Report = None,
    include: Include = None,
    exclude: Exclude = None,
    identity_sites: IdentitySites = False,
    allow_partial: AllowPartial = False,
    cache: CacheFolder = None,
    calibration_limit: CalibrationLimit = None,
    limit: Limit = None,
    seed: Seed = None,
    memory_budget: Memory = None,
    threads: Threads = None,
    preset: ImagePreset = None,
    preprocess: Preprocess = None,
    image_size: ImageSize = None,
    mean: ImageMean = None,
    std: ImageStd = None,
    server: ServerUrl = None,
    key: Key = None,
) -> None:
    """Convert and evaluate for many T, codings and methods, and print accuracy over T."""
    options = options_of("sweep", context, locals(), SEVERAL)
    require_images_read(options, calibration, data)
    _require_targets((None, None, as_json, report), (ann,), (calibration, data), metric)
    if server is not None:
        from graphpass.cli import remote

        service_metrics(metric)
        remote.sweep(ServerOptions(server, key or ""), ann, calibration, data, options, as_json, report)
        return
    from graphpass import api
    from graphpass.report.tables import sweep_table

    with progress_bars() as progress:
        rows = api.sweep(ann, calibration, data, **options, allow_code=True, progress=progress)
    out.print(sweep_table(rows))
    _save(rows, as_json, report)


def _save(found: Any, as_json: Path | None, report: Path | None) -> None:
    from graphpass import api

    if as_json:
        api.save_json(found, as_json)
    if report:
        api.save_report(found, report)
        out.print(f"report: {report}")


def _images(options: Mapping[str, Any], data: str | None, made_up: bool = False) -> dict[str, Any]:
    """The options of images, if the data is a folder of images."""
    from graphpass.datasets.sources import is_made_of_images

    asked = made_up or (data is not None and is_made_of_images(data))
    return {name: options[name] for name in IMAGES if asked and name in options}


def _require_targets(
    targets: Sequence[Path | None],
    models: Sequence[str],
    data: Sequence[str | None],
    metrics: Sequence[str] | None,
    plan: Path | None = None,
) -> None:
    """Raises OptionError unless the targets (a model, a plan, JSON, a report) can be written and are not read."""
    from graphpass.datasets.functions import code_of
    from graphpass.datasets.sources import path_of
    from graphpass.files import require_targets
    from graphpass.graph import model as graphs
    from graphpass.graph import plan as plans
    from graphpass.inputs import plan_sources

    companions = (graphs.companions, plans.companions, _none, _none)
    wanted = [(path, beside(path)) for path, beside in zip(targets, companions, strict=True) if path is not None]
    read = [file for path in models for file in graphs.model_files(Path(path))]
    read += [path_of(source) for source in data if source is not None]
    read += [code[0] for metric in metrics or () if (code := code_of(metric))]
    read += plan_sources(plan)
    require_targets(wanted, read)


def _none(path: Path) -> list[Path]:
    return []

"""`graphpass convert`, `evaluate` and `sweep`: here, or on a service with --server."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from graphpass.cli.options import (
    CALIBRATION,
    DATA_HELP,
    Ann,
    Calibration,
    CalibrationLimit,
    Coding,
    Energy,
    EvaluationData,
    Exclude,
    IdentitySites,
    ImageSize,
    Include,
    JsonOut,
    Key,
    Levels,
    Limit,
    Mean,
    MeanLevels,
    Memory,
    MethodName,
    MetricNames,
    Report,
    Seed,
    ServerUrl,
    Snn,
    Std,
    Threads,
    bytes_of,
    images_of,
    numbers_of,
    service_metrics,
    service_of,
    words_of,
)
from graphpass.cli.terminal import out, print_left, progress_bars
from graphpass.errors import OptionError


def add(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(convert)
    app.command()(evaluate)
    app.command()(sweep)


def convert(
    ann: Ann,
    snn: Annotated[
        Path, typer.Argument(metavar="SNN.onnx", help="Where the converted network goes.", show_default=False)
    ],
    calibration: Calibration = None,
    synthetic: Annotated[
        bool,
        typer.Option(
            "--synthetic",
            help="Without data: make inputs up, with --limit samples (256). Costs accuracy.",
            rich_help_panel=CALIBRATION,
        ),
    ] = False,
    time_steps: Annotated[
        int | None, typer.Option(min=1, help="T; default 8, or the network's own if it was trained with QCFS.")
    ] = None,
    coding: Coding = "rate",
    method: MethodName = "optimal",
    form: Annotated[
        str,
        typer.Option(
            help="folded (one pass), unrolled (time-major binary spikes) or integer (uint8 counts and int8 "
            "weights, fast on CPUs)."
        ),
    ] = "folded",
    levels: Levels = None,
    energy: Energy = None,
    mean_levels: MeanLevels = None,
    plan: Annotated[
        Path | None, typer.Option(metavar="P.json", help="Apply a saved plan; needs no data.", show_default=False)
    ] = None,
    plan_out: Annotated[Path | None, typer.Option(metavar="P.json", help="Save the plan.", show_default=False)] = None,
    evaluation: Annotated[
        str | None, typer.Option(metavar="DATA", help=f"Evaluate on it afterwards: {DATA_HELP}.", show_default=False)
    ] = None,
    metric: MetricNames = None,
    report: Report = None,
    as_json: JsonOut = None,
    include: Include = None,
    exclude: Exclude = None,
    identity_sites: IdentitySites = False,
    allow_partial: Annotated[
        bool, typer.Option("--allow-partial", help="Convert although sites that should convert cannot.")
    ] = False,
    limit: CalibrationLimit = None,
    seed: Seed = 0,
    memory_budget: Memory = "2GiB",
    threads: Threads = 0,
    image_size: ImageSize = 224,
    mean: Mean = "0",
    std: Std = "1",
    server: ServerUrl = None,
    key: Key = "",
) -> None:
    """Convert a network: calibrate it, put in the neurons, and write a file that a stock onnxruntime runs."""
    from graphpass.calibration.calibrate import Options
    from graphpass.calibration.synthetic import Synthetic
    from graphpass.conversion import convert as convert_network
    from graphpass.conversion import dataset_for
    from graphpass.evaluation.metrics.registry import metrics_of
    from graphpass.forms.registry import encoded_of, floats_of
    from graphpass.graph.model import load
    from graphpass.graph.plan import save_plan
    from graphpass.maths.allocation import auto_of, told
    from graphpass.sites.sites import Selection

    if plan and calibration:
        raise OptionError("--plan and --calibration exclude each other", "a plan needs no data")
    if synthetic and (plan or calibration):
        raise OptionError("--synthetic excludes --calibration and --plan", "real data and plans are better")
    if report and not evaluation:
        raise OptionError("--report needs --evaluation DATA", "or use `graphpass evaluate --report`")
    if metric and not evaluation:
        raise OptionError("--metric needs --evaluation DATA", "or use `graphpass evaluate --metric`")
    auto = auto_of(levels, energy, mean_levels)
    if server:
        from graphpass.cli import remote

        here = {"--plan": plan is not None, "--memory-budget": memory_budget != "2GiB", "--threads": threads != 0}
        chosen = {
            "synthetic": synthetic,
            "time_steps": time_steps,
            "coding": coding,
            "method": method,
            "form": form,
            "levels": levels,
            "energy": energy,
            "mean_levels": mean_levels,
            **_shared(include, exclude, identity_sites, allow_partial, seed, image_size, mean, std),
            "limit": limit,
            "metric": service_metrics(metric),
        }
        service = service_of(server, key, here)
        remote.convert(service, ann, snn, calibration, evaluation, chosen, plan_out, as_json, report)
        return
    metrics_of(metric or (), allow_code=True)  # what makes no sense is refused before the work
    options = Options(seed=seed, limit=limit, memory=bytes_of(memory_budget), threads=threads)
    images = images_of(image_size, mean, std)
    source = load(ann)
    data: Any = dataset_for(source, calibration, images, allow_code=True) if calibration else None
    if synthetic:
        data = Synthetic(limit or Synthetic.samples)
    with progress_bars() as progress:
        done = convert_network(
            source,
            data,
            snn,
            time_steps=time_steps,
            coding=coding,
            method=method,
            form=form,
            plan=plan,
            selection=Selection(tuple(include or ()), tuple(exclude or ()), identity_sites),
            allow_partial=allow_partial,
            images=images,
            options=options,
            levels=auto,
            progress=progress,
        )
    coverage, decided = done.network.coverage, done.plan
    levels_of_sites = told([site.levels for site in decided.sites])
    out.print(
        f"{snn}: {len(decided.sites)} sites, T = {decided.time_steps} ({decided.coding}, {levels_of_sites} levels), "
        f"method {decided.method}, form {form}; spikes reach {coverage.spiking_layers} of {coverage.weight_layers} "
        "weight layers",
        markup=False,
        soft_wrap=True,
    )
    if "levels" in decided.notes:
        out.print(f"levels {decided.notes['levels']}", markup=False, soft_wrap=True)
    print_left(coverage.left)
    if form == "integer":
        print_left(floats_of(done.proto), "float, not integer")
        out.print(f"{len(encoded_of(done.proto))} analogue tensors as 8-bit numbers")
    if plan_out:
        save_plan(decided, plan_out)
        out.print(f"plan: {plan_out}", markup=False)
    if evaluation:
        _evaluate(ann, snn, evaluation, images, None, threads, as_json, report, metric)


def evaluate(
    ann: Ann,
    snn: Snn,
    data: EvaluationData,
    metric: MetricNames = None,
    as_json: JsonOut = None,
    report: Report = None,
    limit: Limit = None,
    threads: Threads = 0,
    image_size: ImageSize = 224,
    mean: Mean = "0",
    std: Std = "1",
    server: ServerUrl = None,
    key: Key = "",
) -> None:
    """Compare a converted network with its origin: accuracy, spikes, operations, energy, latency."""
    if server:
        from graphpass.cli import remote

        chosen = {"metric": service_metrics(metric), "limit": limit, **_pixels(image_size, mean, std)}
        remote.evaluate(service_of(server, key, {"--threads": threads != 0}), ann, snn, data, chosen, as_json, report)
        return
    _evaluate(ann, Path(snn), data, images_of(image_size, mean, std), limit, threads, as_json, report, metric)


def sweep(
    ann: Ann,
    calibration: Annotated[
        str, typer.Option(metavar="DATA", help=f"Calibration data: {DATA_HELP}.", show_default=False)
    ],
    data: EvaluationData,
    time_steps: Annotated[str, typer.Option(help="Comma-separated.")] = "1,2,4,8,16,32",
    coding: Annotated[str, typer.Option(help="Comma-separated: rate, phase.")] = "rate",
    method: Annotated[str, typer.Option(help="Comma-separated: optimal, da-qcfs, percentile, max.")] = "optimal",
    metric: MetricNames = None,
    as_json: JsonOut = None,
    report: Report = None,
    include: Include = None,
    exclude: Exclude = None,
    identity_sites: IdentitySites = False,
    allow_partial: Annotated[
        bool, typer.Option("--allow-partial", help="Go on although sites that should convert cannot.")
    ] = False,
    calibration_limit: CalibrationLimit = None,
    limit: Limit = None,
    seed: Seed = 0,
    memory_budget: Memory = "2GiB",
    threads: Threads = 0,
    image_size: ImageSize = 224,
    mean: Mean = "0",
    std: Std = "1",
    server: ServerUrl = None,
    key: Key = "",
) -> None:
    """Convert and evaluate for many T, codings and methods, and print accuracy over T."""
    if server:
        from graphpass.cli import remote

        here = {"--memory-budget": memory_budget != "2GiB", "--threads": threads != 0}
        chosen = {
            "time_steps": list(numbers_of(time_steps)),
            "coding": list(words_of(coding)),
            "method": list(words_of(method)),
            **_shared(include, exclude, identity_sites, allow_partial, seed, image_size, mean, std),
            "metric": service_metrics(metric),
            "calibration_limit": calibration_limit,
            "limit": limit,
        }
        remote.sweep(service_of(server, key, here), ann, calibration, data, chosen, as_json, report)
        return
    from graphpass.calibration.calibrate import Options
    from graphpass.conversion import dataset_for
    from graphpass.evaluation.evaluate import Options as EvaluationOptions
    from graphpass.evaluation.metrics.registry import metrics_of
    from graphpass.graph.model import load
    from graphpass.report.files import write_json, write_report
    from graphpass.report.pages import sweep_report
    from graphpass.report.tables import sweep_table
    from graphpass.sites.sites import Selection
    from graphpass.sweeps import sweep as run_sweep

    source, images = load(ann), images_of(image_size, mean, std)
    with progress_bars() as progress:
        rows = run_sweep(
            source,
            dataset_for(source, calibration, images, allow_code=True),
            dataset_for(source, data, images, allow_code=True),
            time_steps=numbers_of(time_steps),
            codings=words_of(coding),
            methods=words_of(method),
            selection=Selection(tuple(include or ()), tuple(exclude or ()), identity_sites),
            allow_partial=allow_partial,
            options=Options(seed=seed, limit=calibration_limit, memory=bytes_of(memory_budget), threads=threads),
            evaluation=EvaluationOptions(
                limit=limit, threads=threads, metrics=metrics_of(metric or (), allow_code=True)
            ),
            progress=progress,
        )
    out.print(sweep_table(rows))
    if as_json:
        write_json([row.to_json() for row in rows], as_json)
    if report:
        write_report(sweep_report(rows), report)
        out.print(f"report: {report}", markup=False)


def _pixels(image_size: int, mean: str, std: str) -> dict[str, Any]:
    """Options of images, as a service takes them."""
    images = images_of(image_size, mean, std)
    return {"image_size": images.size, "mean": list(images.mean), "std": list(images.std)}


def _shared(
    include: Sequence[str] | None,
    exclude: Sequence[str] | None,
    identity_sites: bool,
    allow_partial: bool,
    seed: int,
    image_size: int,
    mean: str,
    std: str,
) -> dict[str, Any]:
    """Options that convert and sweep share, as a service takes them."""
    return {
        "include": list(include or ()),
        "exclude": list(exclude or ()),
        "identity_sites": identity_sites,
        "allow_partial": allow_partial,
        "seed": seed,
        **_pixels(image_size, mean, std),
    }


def _evaluate(
    ann: str,
    snn: Path,
    data: str,
    images: Any,
    limit: int | None,
    threads: int,
    as_json: Path | None,
    report: Path | None,
    metric: Sequence[str] | None = None,
) -> None:
    from graphpass.conversion import dataset_for
    from graphpass.evaluation.evaluate import Options
    from graphpass.evaluation.evaluate import evaluate as evaluate_network
    from graphpass.evaluation.metrics.registry import metrics_of
    from graphpass.graph.model import load, read
    from graphpass.graph.tensors import digest as file_digest
    from graphpass.report.files import write_json, write_report
    from graphpass.report.pages import evaluation_report
    from graphpass.report.tables import summary_table

    options = Options(limit=limit, threads=threads, metrics=metrics_of(metric or (), allow_code=True))
    source = load(ann)
    dataset = dataset_for(source, data, images, allow_code=True)
    with progress_bars() as progress:
        found = evaluate_network(source, read(snn), dataset, options, file_digest(snn), progress=progress)
    out.print(summary_table(found))
    for note in found.notes:
        out.print(f"note: {note}", markup=False, soft_wrap=True)
    if as_json:
        write_json(found.to_json(), as_json)
    if report:
        write_report(evaluation_report(found), report)
        out.print(f"report: {report}", markup=False)

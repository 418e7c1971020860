"""Commands of the command line on a service: files are uploaded, results downloaded."""

import json
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

from rich.table import Table

from graphpass.cli.options import ServerOptions
from graphpass.cli.searches import require_calibration
from graphpass.cli.terminal import out, print_left, print_verdict, progress_bars
from graphpass.client.client import Client, Job, Stored
from graphpass.errors import DataError, GoalError, GraphpassError, ModelError, OptionError
from graphpass.files import NO_ROOM, naming
from graphpass.maths.allocation import levels_text
from graphpass.maths.energy import in_bits
from graphpass.options.table import form_words
from graphpass.wording import counted

Options = Mapping[str, Any]  # those that were given, by name
NONE = "–"


def convert(
    service: ServerOptions,
    ann: str,
    snn: Path,
    calibration: str | None,
    evaluation: str | None,
    options: Options,
    plan_out: Path | None,
    as_json: Path | None,
    report: Path | None,
) -> None:
    """As `graphpass convert`, with the same bytes as result."""
    with _session(service) as (client, upload):
        job = client.convert(
            upload("model", ann),
            upload("dataset", calibration) if calibration else None,
            upload("dataset", evaluation) if evaluation else None,
            **options,
        )
        _finish(job)
        job.download(snn)
        found = job.result
        form = form_words(found["form"], found.get("precision"), found.get("target"))
        levels = levels_text(found.get("site_levels") or [found["levels"]])
        out.print(
            f"{snn}: {counted(len(found['sites']), 'site')}, T = {found['time_steps']} ({found['coding']}, {levels} "
            f"levels), method {found['method']}, form {form}; spikes reach {found['spiking_layers']} of "
            f"{counted(found['weight_layers'], 'weight layer')}",
            soft_wrap=True,
        )
        for text in found.get("warnings", ()):
            warnings.warn(text, stacklevel=2)
        if "levels" in found.get("notes", ()):
            out.print(f"levels {found['notes']['levels']}", soft_wrap=True)
        print_left([SimpleNamespace(**entry) for entry in found["left"]])
        print_left([SimpleNamespace(**entry) for entry in found.get("float32", ())], "float32, not float16")
        if plan_out:
            _keep_plan(job, plan_out)
            out.print(f"plan: {plan_out}")
        if evaluation:
            _print_evaluation(found["evaluation"])
            _keep(job, as_json, report)


def search(
    service: ServerOptions,
    ann: str,
    snn: Path,
    calibration: str | None,
    evaluation: str,
    options: Options,
    plan_out: Path | None,
    as_json: Path | None,
    report: Path | None,
) -> None:
    """As `graphpass convert --max-drop`."""
    data = require_calibration(calibration)
    with _session(service) as (client, upload):
        job = client.search(
            upload("model", ann), upload("dataset", data), upload("dataset", evaluation),
            max_drop=options["max_drop"], **{name: value for name, value in options.items() if name != "max_drop"},
        )  # fmt: skip
        try:
            _finish(job)
        except GoalError:
            if "report" in job.files:
                out.print(_trials(_document(job)))
                _keep(job, as_json, report)
            elif as_json or report:
                warnings.warn(f"{job.id} has no report", stacklevel=2)
            raise
        job.download(snn, "artifact")
        out.print(_trials(job.result))
        out.print(f"{snn}: {job.result['conclusion']}", soft_wrap=True)
        if plan_out:
            _keep_plan(job, plan_out)
            out.print(f"plan: {plan_out}")
        _print_evaluation(job.result["evaluation"])
        _keep(job, as_json, report)


def evaluate(
    service: ServerOptions, ann: str, snn: str, data: str, options: Options, as_json: Path | None, report: Path | None
) -> None:
    """As `graphpass evaluate`."""
    with _session(service) as (client, upload):
        job = client.evaluate(upload("model", ann), upload("model", snn), upload("dataset", data), **options)
        _finish(job)
        _print_evaluation(job.result["evaluation"])
        _keep(job, as_json, report)


def sweep(
    service: ServerOptions,
    ann: str,
    calibration: str,
    data: str,
    options: Options,
    as_json: Path | None,
    report: Path | None,
) -> None:
    """As `graphpass sweep`."""
    with _session(service) as (client, upload):
        job = client.sweep(upload("model", ann), upload("dataset", calibration), upload("dataset", data), **options)
        _finish(job)
        out.print(_rows(job.result["rows"]))
        _keep(job, as_json, report)


def rank(
    service: ServerOptions, ann: str, calibration: str, evaluation: str | None, options: Options
) -> Mapping[str, Any]:
    """The ranking of `graphpass inspect`, as the document of docs/formats.md."""
    with _session(service) as (client, upload):
        data = (upload("dataset", path) for path in (calibration, evaluation) if path)
        job = client.rank(upload("model", ann), *data, **options)
        _finish(job)
        return _document(job)


def _document(job: Job) -> Mapping[str, Any]:
    """The report of a job as JSON (docs/formats.md)."""
    with TemporaryDirectory(prefix="graphpass-") as folder:
        found: Mapping[str, Any] = json.loads(job.download(Path(folder) / "report.json", "report_json").read_bytes())
        return found


def _trials(result: Mapping[str, Any]) -> Table:
    """A line for each trial of a search."""
    from graphpass.records import any_number, record_of
    from graphpass.report.tables import rich_table
    from graphpass.report.trials import trial_lines
    from graphpass.searching.trials import Trial

    unknown = {"value": "inf"}  # where JSON has null
    told = [
        {**each, "drop": each["drop"] | (unknown if each["drop"]["value"] is None else {})} for each in result["trials"]
    ]
    trials = record_of(tuple[Trial, ...], told, "trials", any_number)
    header, cells = trial_lines(trials, result["chosen"])
    return rich_table(header, cells, f"{counted(len(cells), 'trial')}")


@contextmanager
def _session(service: ServerOptions) -> Iterator[tuple[Client, Callable[[str, str], Stored]]]:
    """A client, and a function that uploads a model or data by its path on this machine."""
    with Client(service.url, service.key) as client, ExitStack() as stack, progress_bars() as bar:

        def upload(kind: str, path: str) -> Stored:
            file = stack.enter_context(packed_model(Path(path)) if kind == "model" else packed_data(path))
            send = client.upload_model if kind == "model" else client.upload_dataset
            return send(file, lambda what, done, total: bar(f"{what} {Path(path).name}", done, total))

        yield client, upload


def _finish(job: Job) -> None:
    """Wait for a job. An interrupt, or another signal to end, cancels it; a second one does not wait until it is."""
    try:
        with progress_bars() as bar:
            job.wait(bar)
    except (KeyboardInterrupt, SystemExit):
        try:
            job.cancel()
        except GraphpassError as error:
            warnings.warn(f"{job.id} could not be cancelled ({error}) and goes on", stacklevel=2)
        raise


def _keep_plan(job: Job, path: Path) -> None:
    """Save the plan under the name that was asked for, and its arrays under the name that goes with it."""
    from graphpass.graph.plan import companions, load_plan, save_plan

    with TemporaryDirectory(prefix="graphpass-") as folder:
        fetched = job.download(Path(folder) / "plan.json", "plan")
        if "plan_arrays" in job.files:
            job.download(companions(fetched)[0], "plan_arrays")
        save_plan(load_plan(fetched), path)


def _keep(job: Job, as_json: Path | None, report: Path | None) -> None:
    if as_json:
        job.download(as_json, "report_json")
    if report:
        job.download(report, "report")
        out.print(f"report: {report}")


@contextmanager
def packed_model(path: Path) -> Iterator[Path]:
    """The file itself, or a .zip of it and its external data."""
    from graphpass.graph.model import external_files

    if path.suffix == ".zip":
        yield path
        return
    beside = external_files(path)
    if not beside:
        yield path
        return
    folder = path.parent.resolve()
    if not all(file.resolve().is_relative_to(folder) for file in beside):
        raise ModelError(f"{path}: its external data is not in its folder", "move it there")
    with _zipped(path.stem, path.parent, [path, *beside], ModelError) as archive:
        yield archive


@contextmanager
def packed_data(given: str) -> Iterator[Path]:
    """The file itself, or a .zip of a folder of shards or images."""
    path = Path(given)
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file())
        with _zipped(path.resolve().name, path, files, DataError) as archive:
            yield archive
    elif not path.is_file() and ".py:" in given:
        raise OptionError(f"{given}: a service does not run your functions", "save the data as .npz first")
    else:
        yield path


@contextmanager
def _zipped(name: str, root: Path, files: Sequence[Path], error: type[DataError | ModelError]) -> Iterator[Path]:
    """A temporary archive without compression. The same files make the same bytes, so the service stores them once."""
    with TemporaryDirectory(prefix="graphpass-") as folder:
        archive = Path(folder) / f"{name}.zip"
        with naming(archive), zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as packed:
            for file in files:
                try:
                    with packed.open(_entry(file, root), "w", force_zip64=True) as target, file.open("rb") as source:
                        while chunk := source.read(1 << 20):
                            target.write(chunk)
                except OSError as problem:
                    if problem.errno in NO_ROOM:  # of the archive
                        raise
                    raise error(f"{file}: cannot be read ({problem.strerror})", "check the file") from problem
        yield archive


def _entry(file: Path, root: Path) -> zipfile.ZipInfo:
    return zipfile.ZipInfo(file.relative_to(root).as_posix(), (1980, 1, 1, 0, 0, 0))


def _print_evaluation(found: Mapping[str, Any]) -> None:
    energy = found["energy"]
    out.print(_summary(found))
    out.print(_energy(energy))
    print_verdict(energy["verdict"], found["notes"])


def _summary(found: Mapping[str, Any]) -> Table:
    """The figures of an evaluation (docs/formats.md)."""
    ann, snn, baseline, latency = (found[name] for name in ("ann", "snn", "baseline", "latency_ms"))
    operations, energy = found["synaptic_operations"], found["energy"]
    sites = found["sites"]
    each = [site["levels"] for site in sites] or [found["levels"]]
    levels = levels_text(each, [site["neurons"] for site in sites], " levels")
    table = Table(title=f"{counted(found['samples'], 'sample')}, T = {found['time_steps']}, {levels}")
    for number, name in enumerate(("", "ANN", "SNN", "quantised ANN")):
        table.add_column(name, justify="right" if number else "left")
    for label, name in (("top-1 accuracy", "top1"), ("top-5 accuracy", "top5")):
        if ann[name] is not None:
            table.add_row(label, *(_percent(each[name]) for each in (ann, snn, baseline)))
    if found["agreement"] is not None:
        table.add_row("same class as the ANN", NONE, _percent(found["agreement"]), _percent(baseline["agreement"]))
    for each in found.get("metrics", ()):
        table.add_row(_metric(each), *(_number(each[side], ".4g") for side in ("ann", "snn", "baseline")))
    table.add_row("relative error of the output", NONE, _percent(_error(found)), _percent(baseline["relative_error"]))
    table.add_row("firing rate", NONE, _percent(found["firing_rate"]), NONE)
    for label, name in (("MACs a sample", "effective_macs"), ("ACs a sample", "effective_acs")):
        table.add_row(label, *(_number(each[name], ",.0f") for each in (operations["ann"], operations)), NONE)
    totals = (energy[each]["total_pj"] for each in ("ann", "snn", "quantised"))
    table.add_row("energy a sample (nJ)", *(_number(value, ",.4g", 1e-3) for value in totals))
    ratios = (_number(energy[each], ".3g") for each in ("ratio", "quantised_ratio"))
    table.add_row("energy / that of the ANN", NONE, *ratios)
    times = (_number(latency[each], ".3g") for each in ("ann", "snn"))
    table.add_row(f"latency (ms), batch {latency['batch']}", *times, NONE)
    return table


def _energy(found: Mapping[str, Any]) -> Table:
    """What the energy of an evaluation is spent on."""
    parts = tuple(found["ann"])
    titles = (f"{part.removesuffix('_pj')} (nJ)" for part in parts)
    table = Table(title=f"energy with memory traffic, model {found['model']}")
    for number, name in enumerate(("energy a sample", *titles)):
        table.add_column(name, justify="right" if number else "left")
    sides = {"ann": "ANN", "quantised": f"quantised ANN ({in_bits(found['bits'])})", "snn": "SNN"}
    for side, name in sides.items():
        table.add_row(name, *(_number(found[side][part], ",.4g", 1e-3) for part in parts))
    return table


def _rows(rows: Sequence[Mapping[str, Any]]) -> Table:
    """A line for each conversion of a sweep."""
    names = ("T", "coding", "levels", "method", "ANN top-1", "SNN top-1", "quantised top-1", "error", "energy ratio")
    table = Table(*names, *(f"SNN {_metric(each)}" for each in rows[0]["evaluation"].get("metrics", ())))
    for row in rows:
        found = row["evaluation"]
        accuracies = (_percent(found[each]["top1"]) for each in ("ann", "snn", "baseline"))
        settings = (str(row[name]) for name in ("time_steps", "coding", "levels", "method"))
        figures = (_number(each["snn"], ".4g") for each in found.get("metrics", ()))
        energy = _number(found["energy"]["ratio"], ".3g")
        table.add_row(*settings, *accuracies, _percent(_error(found)), energy, *figures)
    return table


def _metric(found: Mapping[str, Any]) -> str:
    return f"{found['name'].replace('_', ' ')} ({found['metric'].partition(':')[0]})"


def _error(found: Mapping[str, Any]) -> float | None:
    errors = {output["name"]: output["relative_error"] for output in found["outputs"]}
    value: float | None = errors.get(found["class_output"], next(iter(errors.values()), None))
    return value


def _percent(value: float | None) -> str:
    return NONE if value is None else f"{100 * value:.2f} %"


def _number(value: float | None, form: str, scale: float = 1.0) -> str:
    return NONE if value is None else format(value * scale, form)

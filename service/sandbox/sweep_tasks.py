"""The tasks of sweeps and rankings: many conversions on the same data, and what each site costs (tasks.py)."""

from contextlib import AbstractContextManager
from functools import partial
from typing import Any

from graphpass.calibration.calibrate import CalibrationOptions
from graphpass.calibration.ranking import rank
from graphpass.command_options import CommandOptions
from graphpass.conversion import settings_of
from graphpass.network import require_coverage
from graphpass.options.table import SEVERAL
from graphpass.report.files import write_json, write_report
from graphpass.report.pages import ranking_report, sweep_pictures, sweep_report
from graphpass.series import Series, series
from graphpass.sweeps import combinations, row_of, running_order
from service.sandbox.bounds import OMITTED, RESULT, summary
from service.sandbox.options import task_options
from service.sandbox.tasks import dataset_of, draw, network_of, part_of, parts_of
from service.sandbox.workplace import Workplace

JSON = dict[str, Any]
ROW = 4 << 10  # bytes of the evaluation in a row of a sweep


def rank_sites(place: Workplace) -> JSON:
    """Rank sites as `graphpass inspect --calibration` does."""
    choices = task_options(place.arguments, "inspect")
    network, images = network_of(place, "model", choices.selection()), choices.images()
    calibration = dataset_of(place, "calibration", network.source, images)
    other = place.arguments.get("evaluation") is not None
    data = dataset_of(place, "evaluation", network.source, images) if other else None
    settings = settings_of(
        network, **{name: choices(name) for name in SEVERAL}, form=choices("form"), options=choices.calibration()
    )
    found = rank(network, calibration, settings, data, place.progress)
    document: JSON = {**found.to_json(), "data": place.without_folders(found.data)}
    write_json(document, place.out("report.json"))
    write_report(ranking_report(network.source.path.name, found), place.out("report.html"))
    return summary(document, RESULT)


def sweep_settings(place: Workplace) -> JSON:
    """List the conversions of a sweep, each of which is a shard."""
    choices = task_options(place.arguments, "sweep", SEVERAL)
    require_coverage(network_of(place, "model", choices.selection()), choices("allow_partial"))
    choices.evaluation()  # metrics that make no sense are refused here, too
    wanted = combinations(choices.calibration("calibration_limit"), *map(choices, SEVERAL))
    settings = [{name: getattr(each, name) for name in SEVERAL} for each in wanted]
    return {"settings": settings, "order": running_order(wanted)}


def sweep_shard(place: Workplace) -> JSON:
    """Convert and evaluate for one row of a sweep."""
    choices = task_options(place.arguments, "sweep")
    start = choices.calibration("calibration_limit")
    steps = choices("time_steps") or start.time_steps
    (settings,) = combinations(start, [steps], [choices("coding")], [choices("method")])
    shared = {name: value for name, value in (place.arguments.get("options") or {}).items() if name not in SEVERAL}
    known = {**place.arguments, "options": shared}
    conversions = place.lasting.open(known, partial(_series, place, choices, settings))
    return part_of(place, conversions.part(settings, place.progress))


def _series(place: Workplace, choices: CommandOptions, settings: CalibrationOptions) -> AbstractContextManager[Series]:
    """What the rows of a sweep share."""
    network, images = network_of(place, "model", choices.selection()), choices.images()
    calibration, data = (dataset_of(place, role, network.source, images) for role in ("calibration", "dataset"))
    return series(network, calibration, data, settings, choices.evaluation())


def reduce_sweep(place: Workplace) -> JSON:
    """Put the rows of a sweep together, as `graphpass sweep --json --report` writes them."""
    rows = [row_of(part) for part in parts_of(place)]
    documents = [row.to_json() for row in rows]
    write_json(documents, place.out("report.json"))
    write_report(sweep_report(rows), place.out("report.html"))
    draw(place, sweep_pictures(rows))
    each = max(ROW, RESULT // max(len(documents), 1))
    short = [{**row, "evaluation": summary(row["evaluation"], each)} for row in documents]
    return {"rows": short, **({} if short == documents else {OMITTED: {"rows": len(documents)}})}

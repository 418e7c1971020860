"""The tasks of a search: what to try next, one trial, and the network that was chosen (service/sandbox/tasks.py)."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from graphpass.calibration.calibrate import CalibrationOptions
from graphpass.command_options import CommandOptions
from graphpass.datasets.dataset import Dataset
from graphpass.datasets.halves import halves
from graphpass.errors import GoalError, OptionError
from graphpass.records import RecordError, any_number, json_of, parsed, record_of
from graphpass.report import pages
from graphpass.report.files import write_json, write_report
from graphpass.report.trials import conclusion, remedy
from graphpass.searching.course import Course
from graphpass.searching.search import opened, reported, searched
from graphpass.searching.trials import Found, Setting, Trial
from service.sandbox.bounds import RESULT, summary
from service.sandbox.options import task_options
from service.sandbox.tasks import collecting_warnings, converted_result, dataset_of, draw, network_of, summarised
from service.sandbox.workplace import Workplace

JSON = dict[str, Any]
NEW = ("trials", "facts", "stage", "setting")  # arguments that differ between the tasks of a search


@dataclass(frozen=True, eq=False)
class _Search:
    """What the tasks of a search share: its options, its course, and the half of the data to report on."""

    choices: CommandOptions
    course: Course
    rest: Dataset


def _search(place: Workplace) -> tuple[_Search, tuple[Trial, ...]]:
    """The search, and its trials so far."""
    trials = _record(tuple[Trial, ...], place.arguments.get("trials", []), "trials")
    known = {name: value for name, value in place.arguments.items() if name not in NEW}
    found = place.lasting.open(known, partial(_opened, place))
    for path in place.files("facts"):
        found.course.give(_record(dict[str, str], parsed(path.read_text("utf-8", "replace")), "facts"))
    return found, trials


@contextmanager
def _opened(place: Workplace) -> Iterator[_Search]:
    choices = task_options(place.arguments, "search")
    images, goal, settings = choices.images(), choices.goal(), choices.evaluation()
    network = searched(network_of(place, "model", choices.selection()), choices("allow_partial"))
    calibration, data = (dataset_of(place, role, network.source, images) for role in ("calibration", "dataset"))
    options: CalibrationOptions = replace(choices.calibration(), method=choices("method"))
    judged, rest = halves(data)
    arguments = (network, calibration, judged, goal, choices("form"), choices("target"), options, settings)
    with opened(*arguments, progress=place.progress) as course:
        yield _Search(choices, course, rest)


def _record(kind: Any, value: Any, where: str) -> Any:
    """An argument as a type: floats may be infinite. Raises OptionError."""
    try:
        return record_of(kind, value, where, any_number)
    except RecordError as error:
        raise OptionError(str(error), "give what the tasks of the search returned") from error


def search_next(place: Workplace) -> JSON:
    """Which trial comes next."""
    found, trials = _search(place)
    step = found.course.next(trials)
    place.out("facts.json").write_text(json.dumps(found.course.facts), "utf-8")
    return {"ended": True} if step is None else {"stage": step[0], "setting": json_of(step[1])}


def search_trial(place: Workplace) -> JSON:
    """Convert and judge one setting."""
    stage, setting = str(place.arguments.get("stage")), _record(Setting, place.arguments.get("setting"), "setting")
    found, _ = _search(place)
    made: JSON = json_of(found.course.trial(stage, setting))
    return made


def search_finish(place: Workplace) -> JSON:
    """Convert what was chosen, and evaluate it on the other half. Raises GoalError where nothing is good enough."""
    found, trials = _search(place)
    ended, choices = found.course.ended(trials), found.choices
    if ended.chosen is None:
        raise GoalError(conclusion(ended), remedy(ended))
    how = (choices("form"), choices("precision"), choices("target"), choices("allow_partial"))
    with collecting_warnings(place) as messages:
        made = found.course.converted(ended.trials[ended.chosen].setting, *how)
        made.save(place.out("snn.onnx"))
        whole = reported(ended, made, found.rest, choices.evaluation(), place.progress)
    draw(place, pages.pictures_of(whole.evaluation) if whole.evaluation else [])
    document = _reported(place, whole)
    told = {name: document[name] for name in ("trials", "chosen", "reason", "drop", "verdict")}
    told["conclusion"] = conclusion(whole)
    short = summary(document["evaluation"], RESULT // 2)
    result = summarised(place, {**converted_result(place, made, messages), **told}, RESULT // 2, "result.json")
    return {**result, "evaluation": short}


def search_report(place: Workplace) -> JSON:
    """Report on a search where nothing is good enough: its trials, and the share of every site."""
    found, trials = _search(place)
    _reported(place, found.course.ended(trials))
    return {}


def _reported(place: Workplace, found: Found) -> JSON:
    """The document of a search; it and its page are written."""
    document = found.to_json()
    write_json(document, place.out("report.json"))
    write_report(pages.search_report(found), place.out("report.html"))
    return document

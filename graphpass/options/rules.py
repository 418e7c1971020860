"""Which options have an effect together. An option without an effect is refused with the reason, never ignored."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from graphpass.errors import OptionError
from graphpass.options.table import AFTERWARDS, BUDGETS, IMAGES, OPTIONS, RANKING, SELECTION
from graphpass.options.values import several_that, shown


@dataclass(frozen=True)
class OptionRule:
    """None of `options` has an effect if one of `excludes` is given, or if none of `needs` is; all are names."""

    options: tuple[str, ...]
    reason: str
    excludes: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Clash:
    """Two values, each with the name of its option, that exclude each other; both are given."""

    one: tuple[str, str]
    other: tuple[str, str]
    reason: str


@dataclass(frozen=True)
class Bound:
    """An option that has an effect only beside one value of another: (that option, its value)."""

    option: str
    beside: tuple[str, str]
    reason: str


# of every command that reads images
IMAGE_RULES = (
    OptionRule(("mean", "std"), "a preset has its own", excludes=("preset",)),
    OptionRule(("preset", "image_size", "mean", "std"), "the configuration has its own", excludes=("preprocess",)),
)
HERE = "the service decides that by itself"
# of every command that a service runs, too
SERVICE_RULES = (
    OptionRule(("memory_budget", "threads", "cache"), HERE, excludes=("server",)),
    OptionRule(("key",), "it is the key of a service", needs=("server",)),
)
# command → what holds between its options and files; an error names the first rule that is broken
RULES: Mapping[str, tuple[OptionRule, ...]] = {
    "convert": (
        OptionRule(("plan",), HERE, excludes=("server",)),
        *SERVICE_RULES,
        OptionRule(
            ("plan", "synthetic", "levels", *BUDGETS), "a search decides that by itself", excludes=("max_drop",)
        ),
        OptionRule(("max_drop",), "it is judged on labelled data, or on the original network", needs=("evaluation",)),
        OptionRule(("minimise", "cache"), "it is an option of a search", needs=("max_drop",)),
        OptionRule(("plan",), "a plan needs no data", excludes=("calibration", "synthetic")),
        OptionRule(("synthetic",), "real data is better than made-up inputs", excludes=("calibration",)),
        OptionRule(
            ("time_steps", "coding", "method", "levels", *BUDGETS, *SELECTION, "limit", "seed", "memory_budget"),
            "a plan holds what calibration decided, and on what",
            excludes=("plan",),
        ),
        OptionRule(("energy",), "both are budgets of levels", excludes=("mean_levels",)),
        OptionRule(BUDGETS, "it is the budget for choosing levels", needs=("levels",)),
        OptionRule(
            ("method", "limit", "seed", "memory_budget"),
            "it is an option of calibration, and there is no calibration without data",
            needs=("calibration", "synthetic"),
        ),
        OptionRule(
            (*AFTERWARDS, "report", "json"),
            "it is an option of the evaluation after the conversion",
            needs=("evaluation",),
        ),
        *IMAGE_RULES,
    ),
    "evaluate": (*SERVICE_RULES, *IMAGE_RULES),
    "sweep": (*SERVICE_RULES, *IMAGE_RULES),
    "search": (OptionRule(("minimise",), "it is an option of a search", needs=("max_drop",)), *IMAGE_RULES),
    "verify": IMAGE_RULES,
    "inspect": (
        *SERVICE_RULES,
        *IMAGE_RULES,
        OptionRule((*RANKING, *IMAGES, "server"), "it is for ranking sites, which needs data", needs=("calibration",)),
    ),
    "plot_raster": IMAGE_RULES,
    "plot_thresholds": IMAGE_RULES,
    "open_dataset": IMAGE_RULES,
}

HALF_INTEGER = Clash(
    ("precision", "float16"),
    ("form", "integer"),
    "its counts and weights have 8 bits, and the rest of it is computed in float32",
)
CLASHES: Mapping[str, tuple[Clash, ...]] = {"convert": (HALF_INTEGER,), "search": (HALF_INTEGER,)}


FOR_TARGET = Bound("target", ("form", "integer"), "the other forms are the same for every runtime")
BOUND: Mapping[str, tuple[Bound, ...]] = {"convert": (FOR_TARGET,), "search": (FOR_TARGET,)}


def named(name: str) -> str:
    """An option's name in Python and in the service."""
    return name


def dashed(name: str) -> str:
    """An option's name on the command line.

    >>> dashed("time_steps")
    '--time-steps'
    """
    return f"--{name.replace('_', '-')}"


def require_options(
    command: str, given: Mapping[str, Any], spelled: Callable[[str], str] = named, several: Collection[str] = ()
) -> None:
    """Raises OptionError unless every given option has a value that makes sense, and an effect beside the others.

    given: options and files by name; None or False means not given. spelled: the name of an option in errors.
    several: options that take a list of values here.
    """
    present = {name for name, value in given.items() if value is not None and value is not False}
    for name in sorted(present & OPTIONS.keys()):
        require_value(name, given[name], spelled, several)
    for rule in RULES[command]:
        for name in (each for each in rule.options if each in present):
            if other := next((each for each in rule.excludes if each in present), None):
                raise OptionError(
                    f"{spelled(name)} and {spelled(other)} exclude each other: {rule.reason}",
                    f"leave out {spelled(other)} or {spelled(name)}",
                    name,
                )
            if rule.needs and present.isdisjoint(rule.needs):
                needed = " or ".join(map(spelled, rule.needs))
                remedy = f"give {needed}, or leave out {spelled(name)}"
                raise OptionError(f"{spelled(name)} needs {needed}: {rule.reason}", remedy, name)
    require_together(command, given, spelled)


def require_together(command: str, given: Mapping[str, Any], spelled: Callable[[str], str] = named) -> None:
    """Raises OptionError for two values of CLASHES, and for an option of BOUND without what it needs."""
    for bound in BOUND.get(command, ()):
        other, needed = bound.beside
        if given.get(bound.option) is not None and given.get(other) != needed:
            raise OptionError(
                f"{spelled(bound.option)} needs {spelled(other)} {needed}: {bound.reason}",
                f"give {spelled(other)} {needed}, or leave out {spelled(bound.option)}",
                bound.option,
            )
    for clash in CLASHES.get(command, ()):
        (one, value), (other, beside) = clash.one, clash.other
        if given.get(one) == value and given.get(other) == beside:
            raise OptionError(
                f"{spelled(one)} {value} and {spelled(other)} {beside} exclude each other: {clash.reason}",
                f"leave out {spelled(one)} or {spelled(other)}",
                one,
            )


def require_value(name: str, value: Any, spelled: Callable[[str], str] = named, several: Collection[str] = ()) -> None:
    """Raises OptionError unless the option takes this value."""
    words, check = OPTIONS[name].words, OPTIONS[name].check
    if name in several:
        words, check = f"one or more, each {words}", several_that(check)
    if not check(value):
        raise OptionError(f"{spelled(name)} is {shown(value)}", f"give {words}", name)


def require_images(given: Mapping[str, Any], spelled: Callable[[str], str] = named) -> None:
    """Raises OptionError if an option of images was given. For use where no images are read."""
    if name := next((each for each in IMAGES if given.get(each) is not None), None):
        raise OptionError(
            f"{spelled(name)} has no effect: it is for images, and no images are read",
            "leave it out; arrays are taken as they are",
            name,
        )

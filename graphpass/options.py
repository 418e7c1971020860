"""Options: THE list of their names, values, defaults and meanings, and of which have an effect beside which.

The command line, Python, the service and its page have the same options under the same names (`--time-steps` is
`time_steps`), and take their help, limits and defaults from here; None is an option that was not given. One that would
have no effect is refused with the reason, never ignored.
"""

import math
import numbers
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from graphpass.errors import OptionError

Check = Callable[[Any], bool]

LARGEST = 1 << 63  # of whole numbers: they are stored as int64
MOST_THREADS = 1024
LARGEST_IMAGE = 4096  # pixels of a side
MOST_LEVELS = 256
MOST_CHANNELS = 16
MOST_ITEMS = 1000  # of an option that takes several
STEPS = 8  # T, where none is given
MADE_UP = 256  # samples that are made up, where no limit is given
VERIFIED = 64  # samples of `verify`, where no limit is given


def _whole(least: int, most: int = LARGEST - 1) -> Check:
    return lambda value: isinstance(value, numbers.Integral) and not _flag(value) and least <= int(value) <= most


def _number(least: float, most: float = math.inf) -> Check:
    return lambda value: (
        isinstance(value, numbers.Real) and not _flag(value) and math.isfinite(value) and least <= float(value) <= most
    )


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _flag(value: Any) -> bool:
    return isinstance(value, bool)


def _items(value: Any) -> list[Any] | None:
    """What a list, a tuple or an array holds; None for one value."""
    plain = value.tolist() if hasattr(value, "tolist") else value
    return list(plain) if isinstance(plain, list | tuple | range) else None


def _list(check: Check, most: int = MOST_ITEMS) -> Check:
    return lambda value: (items := _items(value)) is not None and 1 <= len(items) <= most and all(map(check, items))


def _one_or_list(check: Check) -> Check:
    return lambda value: check(value) or _list(check, MOST_CHANNELS)(value)


def _text_or_texts(value: Any) -> bool:
    return _text(value) or _list(_text)(value)


def _levels(value: Any) -> bool:
    by_site = isinstance(value, Mapping) and all(_text(name) and _whole(2, MOST_LEVELS)(n) for name, n in value.items())
    return value == "auto" if _text(value) else by_site


def _size(value: Any) -> bool:
    return _whole(1)(value) or (
        _text(value) and SIZE.fullmatch(value.strip()) is not None and bytes_of(value) < LARGEST
    )


SIZE = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,18})?)\s*((?:[kKmMgGtT]i?)?[bB]?)")
UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "KI": 2**10, "MI": 2**20, "GI": 2**30, "TI": 2**40}
IMAGE_NUMBERS = "one number, or one a channel"
PROVIDERS: Mapping[str, tuple[str, ...] | None] = {  # of onnxruntime, by preference
    "cpu": None,
    "cuda": ("CUDAExecutionProvider", "CPUExecutionProvider"),
}


@dataclass(frozen=True)
class Option:
    """One option of a conversion, evaluation or sweep.

    words, check: what a value has to be. about: what it decides, as the help has it. default: what holds where none is
    given; None where the network decides, and then `usual` where that does not. several: the default of a sweep. names:
    what it may be, each with a title and its meaning. least, most: the ends of a number, None where there is none.
    """

    words: str
    check: Check
    about: str
    default: Any = None
    several: tuple[Any, ...] = ()
    names: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    least: int | None = None
    most: int | None = None
    usual: int | None = None

    @property
    def help(self) -> str:
        """What it decides, and between which."""
        *names, last = self.names or ("",)
        return self.about + (f": {', '.join(names)} or {last}." if names else ".")


def _count(about: str, least: int = 1, most: int | None = None, default: int | None = None, **more: Any) -> Option:
    ends = f"{least} or more" if most is None else f"{least} to {most}"
    check = _whole(least) if most is None else _whole(least, most)
    return Option(f"a whole number of {ends}", check, about, default, least=least, most=most, **more)


def _name(about: str, default: str, names: Mapping[str, tuple[str, str]]) -> Option:
    """Which names there are is checked where they are used, beside other options."""
    return Option("a text", _text, about, default, (default,), names)


def _patterns(about: str) -> Option:
    return Option("a regular expression, or several", _text_or_texts, about)


def _switch(about: str) -> Option:
    return Option("true or false", _flag, about, False)


OPTIONS: Mapping[str, Option] = {
    "time_steps": _count(
        f"T, time-steps; where none are given {STEPS}, or the network's own if it was trained with QCFS",
        several=(1, 2, 4, 8, 16, 32), usual=STEPS,
    ),
    "coding": _name("How a count is sent", "rate", {
        "rate": ("Rate code", "A value is how many of the T steps spike: T + 1 levels. Robust, and the usual choice."),
        "phase": ("Phase code", "A spike counts twice as much as one a step later: 2^T levels from T steps. More exact "
                  "for few steps."),
    }),
    "method": _name("How thresholds are calibrated (docs/calibration.md)", "optimal", {
        "optimal": ("Optimal", "Thresholds with the least error, and weights corrected layer by layer. The most exact; "
                    "takes longest."),
        "da-qcfs": ("DA-QCFS", "Thresholds from the range, shifted so that means agree. Weights stay as they are."),
        "percentile": ("Percentile", "Thresholds from the range without 0.1 % outliers. Weights stay as they are."),
        "max": ("Max", "Thresholds from the whole range. Quick, and the coarsest."),
    }),
    "form": _name("What the converted network is written as", "folded", {
        "folded": ("Folded", "All steps in one pass: runs everywhere, and costs the same for any T."),
        "unrolled": ("Unrolled", "Every step and every binary spike is there to see: for study and for spiking "
                     "hardware."),
        "integer": ("Integer", "Counts of 8 bits and weights of 8 bits: fastest on CPUs, a little less exact."),
    }),
    "levels": Option(
        f"auto, or from Python 2 to {MOST_LEVELS} by the name of a site", _levels,
        "auto: each site gets as many levels as the outputs need of it, within a budget of energy or of mean levels, "
        "and T is the most that a site may take; where it is left out, every site has all levels of T",
    ),
    "energy": Option(
        "a number", _number(-math.inf),
        "Budget of levels auto: additions behind sites, as a share of those at T everywhere; 0.5 where none is given",
    ),
    "mean_levels": Option("a number", _number(-math.inf), "Budget of levels auto: levels, mean over all neurons"),
    "synthetic": _switch(
        f"Without calibration data: make inputs up, as many as the limit says ({MADE_UP} where there is none). It "
        "costs accuracy, and the network says so for good; evaluate it"
    ),
    "include": _patterns("Only sites whose node name matches this regular expression"),
    "exclude": _patterns("Leave sites whose node name matches this regular expression analogue"),
    "identity_sites": _switch("Neurons in front of layers that activations do not feed, or not alone"),
    "allow_partial": _switch("Convert although sites that should convert cannot"),
    "metric": Option(
        "the name of a metric, or several", _text_or_texts, "What to measure (docs/metrics.md)",
        names={
            "classes": ("Classes", "Top-1, top-5 and agreement of class scores: where an output holds them."),
            "ctc": ("CTC", "Texts that are read: exact ones, and errors of characters."),
            "embedding": ("Embedding", "Vectors: cosine to the ANN's, neighbours, and a classifier on them."),
            "psnr": ("PSNR", "Images: signal to noise in dB."),
            "detection": ("Detection", "Boxes: average precision, and those that both networks find."),
            "regression": ("Regression", "Numbers: mean errors."),
        },
    ),
    "limit": _count("Use at most so many samples; of a conversion, calibration samples"),
    "calibration_limit": _count("Calibrate on at most so many samples"),
    "seed": _count("Of the sampled positions: the same seed gives the same plan", 0, LARGEST - 1, 0),
    "memory_budget": Option(
        "a size, as 512MiB or 2GiB, or a number of bytes", _size, "Memory for calibration, as 512MiB or 2GiB", "2GiB"
    ),
    "threads": _count("Threads of the runtime and of linear algebra; 0 for all cores", 0, MOST_THREADS, 0),
    "provider": Option(
        "cpu or cuda", lambda value: _text(value) and value in PROVIDERS, "Where the networks run", "cpu",
        names={
            "cpu": ("CPU", "This machine's processors."),
            "cuda": ("CUDA", "An NVIDIA GPU; a service has a queue for it."),
        },
    ),
    "image_size": _count("Side of the images of an image folder, if the model leaves it open", 1, LARGEST_IMAGE, 224),
    "mean": Option(
        IMAGE_NUMBERS, _one_or_list(_number(-math.inf)), f"Of images: subtracted from pixels/255, {IMAGE_NUMBERS}", 0.0
    ),
    "std": Option(
        f"{IMAGE_NUMBERS}, above 0", _one_or_list(_number(math.ulp(0.0))),
        f"Of images: then divided by, {IMAGE_NUMBERS}", 1.0,
    ),
}  # fmt: skip

SELECTION = ("include", "exclude", "identity_sites")
IMAGES = ("image_size", "mean", "std")
BUDGETS = ("energy", "mean_levels")
WORK = ("seed", "memory_budget", "threads")
# command → its options; those of SEVERAL are lists in a sweep
COMMANDS: Mapping[str, tuple[str, ...]] = {
    "inspect": SELECTION,
    "convert": (
        *("time_steps", "coding", "method", "form", "levels", *BUDGETS, "synthetic", *SELECTION, "allow_partial"),
        *("limit", *WORK, *IMAGES, "metric"),
    ),
    "evaluate": ("metric", "limit", "threads", "provider", *IMAGES),
    "sweep": (
        *("time_steps", "coding", "method", *SELECTION, "allow_partial", "metric", "calibration_limit", "limit"),
        *(*WORK, *IMAGES),
    ),
    "verify": ("limit", "threads", *IMAGES),
    "open_dataset": IMAGES,  # from Python alone
}
SEVERAL = ("time_steps", "coding", "method")


@dataclass(frozen=True)
class Rule:
    """None of `options` has an effect beside one of `excludes`, or without one of `needs`: all of them by name."""

    options: tuple[str, ...]
    reason: str
    excludes: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()


HERE = "the service decides that by itself"
KEY = Rule(("key",), "it is the key of a service", needs=("server",))
# command → what holds between its options and files; the first rule that is broken is the one that is told
RULES: Mapping[str, tuple[Rule, ...]] = {
    "convert": (
        Rule(("plan", "memory_budget", "threads"), HERE, excludes=("server",)),
        KEY,
        Rule(("plan",), "a plan needs no data", excludes=("calibration", "synthetic")),
        Rule(("synthetic",), "real data is better than made-up inputs", excludes=("calibration",)),
        Rule(
            ("time_steps", "coding", "method", "levels", *BUDGETS, *SELECTION, "limit", "seed", "memory_budget"),
            "a plan holds what calibration decided, and on what",
            excludes=("plan",),
        ),
        Rule(("energy",), "both are budgets of levels", excludes=("mean_levels",)),
        Rule(BUDGETS, "it is the budget of levels that are chosen", needs=("levels",)),
        Rule(
            ("method", "limit", "seed", "memory_budget"),
            "it is of the calibration, which has no data",
            needs=("calibration", "synthetic"),
        ),
        Rule(("metric", "report", "json"), "it is of an evaluation afterwards", needs=("evaluation",)),
    ),
    "evaluate": (Rule(("threads",), HERE, excludes=("server",)), KEY),
    "sweep": (Rule(("memory_budget", "threads"), HERE, excludes=("server",)), KEY),
    "verify": (),
    "inspect": (),
    "open_dataset": (),
}


def named(name: str) -> str:
    """An option as Python and the service know it."""
    return name


def dashed(name: str) -> str:
    """An option as the command line knows it.

    >>> dashed("time_steps")
    '--time-steps'
    """
    return f"--{name.replace('_', '-')}"


def require_options(
    command: str, given: Mapping[str, Any], spelled: Callable[[str], str] = named, several: Collection[str] = ()
) -> None:
    """That every option that was given has a value that makes sense, and an effect beside the others.

    given: options and files by name; those that are None, or False, were not given. spelled: how errors call an option.
    several: options that take a list of what they else take one of. Raises OptionError.
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


def require_value(name: str, value: Any, spelled: Callable[[str], str] = named, several: Collection[str] = ()) -> None:
    """That a value is one that the option takes. Raises OptionError."""
    words, check = OPTIONS[name].words, OPTIONS[name].check
    if name in several:
        words, check = f"one or more, each {words}", _list(check)
    if not check(value):
        raise OptionError(f"{spelled(name)} is {_shown(value)}", f"give {words}", name)


def require_images(given: Mapping[str, Any], spelled: Callable[[str], str] = named) -> None:
    """That no option of images was given, where none are read. Raises OptionError."""
    if name := next((each for each in IMAGES if given.get(each) is not None), None):
        raise OptionError(
            f"{spelled(name)} has no effect: it is for a folder of images, and none is read",
            "leave it out; arrays are taken as they are",
            name,
        )


def is_default(name: str, value: Any) -> bool:
    """Whether a value is the option's default, alone or as the only one of a list."""
    items = _items(value)
    only = items[0] if items and len(items) == 1 else value
    return type(only) is type(OPTIONS[name].default) and only == OPTIONS[name].default


def bytes_of(size: int | str) -> int:
    """A memory budget in bytes.

    >>> bytes_of("1.5 GiB"), bytes_of("512MB"), bytes_of(64)
    (1610612736, 512000000, 64)
    """
    if not isinstance(size, str):
        return int(size)
    found = SIZE.fullmatch(size.strip())
    if found is None:
        raise OptionError(f"{_shown(size)} is not a size", "write it as 512MiB or 2GiB")
    return int(float(found[1]) * UNITS[found[2].upper().rstrip("B")])


def plain_of(value: Any) -> Any:
    """A value without numpy's types, which JSON does not know; lists as tuples."""
    if isinstance(value, Mapping):
        return {str(name): plain_of(inner) for name, inner in value.items()}
    items = _items(value)
    if items is not None:
        return tuple(map(plain_of, items))
    return value.item() if hasattr(value, "item") else value


def several_of(value: Any) -> tuple[Any, ...]:
    """One value or several, as several; none for None.

    >>> several_of("a"), several_of([1, 2]), several_of(None)
    (('a',), (1, 2), ())
    """
    items = _items(value)
    return () if value is None else (value,) if items is None else tuple(items)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}…"

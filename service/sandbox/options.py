"""Options of a task: the names, the meaning and the defaults of the command line, as JSON values."""

import math
from collections.abc import Callable, Mapping
from typing import Any

from graphpass.calibration.calibrate import Options
from graphpass.calibration.synthetic import Synthetic
from graphpass.datasets.images import ImageOptions
from graphpass.errors import OptionError
from graphpass.evaluation.evaluate import Options as EvaluationOptions
from graphpass.evaluation.metrics.registry import metrics_of
from graphpass.maths.allocation import Auto, auto_of
from graphpass.sites.sites import Selection

Check = Callable[[Any], bool]


def _whole(least: int) -> Check:
    return lambda value: type(value) is int and least <= value < 1 << 63


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _flag(value: Any) -> bool:
    return isinstance(value, bool)


def _number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _list(check: Check) -> Check:
    return lambda value: isinstance(value, list) and bool(value) and all(map(check, value))


def _numbers(value: Any) -> bool:
    return _number(value) or _list(_number)(value)


PROVIDERS = {"cpu": None, "cuda": ("CUDAExecutionProvider", "CPUExecutionProvider")}  # execution providers
# name → what a value has to be, in words and as a test
NAMES: dict[str, tuple[str, Check]] = {
    "time_steps": ("a whole number of 1 or more", _whole(1)),
    "coding": ("a text", _text),
    "method": ("a text", _text),
    "form": ("a text", _text),
    "levels": ("a text", _text),
    "energy": ("a number", _number),
    "mean_levels": ("a number", _number),
    "synthetic": ("true or false", _flag),
    "include": ("a list of regular expressions", _list(_text)),
    "exclude": ("a list of regular expressions", _list(_text)),
    "identity_sites": ("true or false", _flag),
    "allow_partial": ("true or false", _flag),
    "metric": ("a list of names", _list(_text)),
    "limit": ("a whole number of 1 or more", _whole(1)),
    "calibration_limit": ("a whole number of 1 or more", _whole(1)),
    "seed": ("a whole number of 0 or more", _whole(0)),
    "memory_budget": ("a number of bytes", _whole(1)),
    "threads": ("a whole number of 0 or more", _whole(0)),
    "provider": ("cpu or cuda", lambda value: value in PROVIDERS),
    "image_size": ("a whole number of 1 or more", _whole(1)),
    "mean": ("a number, or a list of them", _numbers),
    "std": ("a number, or a list of them", _numbers),
}
SELECTION = ("include", "exclude", "identity_sites")
IMAGES = ("image_size", "mean", "std")
LEVELS = ("levels", "energy", "mean_levels")
SHARED = (*SELECTION, *IMAGES, *"time_steps coding method form allow_partial".split())
CONVERT = (*SHARED, *LEVELS, *"metric synthetic limit seed memory_budget threads".split())
EVALUATE = (*IMAGES, "metric", "limit", "threads", "provider")
SWEEP = (*SHARED, *"metric calibration_limit limit seed memory_budget threads".split())
SEVERAL = ("time_steps", "coding", "method")  # of a sweep: lists


class Chosen:
    """The options of a task, checked; null is the default. Raises OptionError naming the option."""

    def __init__(self, arguments: Mapping[str, Any], allowed: tuple[str, ...], several: tuple[str, ...] = ()):
        given = arguments.get("options") or {}
        if not isinstance(given, dict):
            raise OptionError("options: not an object", "give the options by name")
        self._values = {name: value for name, value in given.items() if value is not None}
        for name, value in self._values.items():
            if name not in allowed:
                raise OptionError(f"options: {str(name)[:80]!r} is unknown here", f"choose from {', '.join(allowed)}")
            words, check = NAMES[name]
            if name in several:
                words, check = f"a list, each {words}", _list(check)
            if not check(value):
                raise OptionError(f"options: {name} is {str(value)[:80]!r}", f"give {words}")

    def __call__(self, name: str, default: Any = None) -> Any:
        return self._values.get(name, default)

    def selection(self) -> Selection:
        return Selection(tuple(self("include", ())), tuple(self("exclude", ())), self("identity_sites", False))

    def images(self) -> ImageOptions:
        mean, std = (_tuple(self(name, default)) for name, default in (("mean", 0.0), ("std", 1.0)))
        return ImageOptions(self("image_size", 224), mean, std)

    def levels(self) -> Auto | None:
        return auto_of(self("levels"), self("energy"), self("mean_levels"))

    def synthetic(self) -> Synthetic | None:
        return Synthetic(self("limit", Synthetic.samples)) if self("synthetic") else None

    def calibration(self, limit: str) -> Options:
        start = Options()
        return Options(
            seed=self("seed", start.seed),
            limit=self(limit),
            memory=self("memory_budget", start.memory),
            threads=self("threads", start.threads),
        )

    def evaluation(self) -> EvaluationOptions:
        """Metrics by name alone: no code of a user's is run."""
        return EvaluationOptions(
            limit=self("limit"),
            threads=self("threads", 0),
            providers=PROVIDERS[self("provider", "cpu")],
            metrics=metrics_of(self("metric", ()), allow_code=False),
        )


def _tuple(value: Any) -> tuple[float, ...]:
    return tuple(map(float, value if isinstance(value, list) else [value]))

"""The options of a command, checked, as the dataclasses that calibration, evaluation and data take."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Any

from graphpass.calibration.calibrate import CalibrationOptions
from graphpass.calibration.synthetic import Synthetic
from graphpass.datasets.images import ImageOptions
from graphpass.datasets.processors import PRESETS, options_of, read_config
from graphpass.errors import OptionError, wrong_type
from graphpass.evaluation.evaluate import EvaluationSettings
from graphpass.evaluation.metrics.registry import metrics_of
from graphpass.maths.allocation import Auto, auto_of
from graphpass.options.providers import runtime_providers
from graphpass.options.rules import named, require_options
from graphpass.options.table import OPTIONS
from graphpass.options.values import Check, bytes_of, flag, plain_of, several_of
from graphpass.searching.trials import Goal
from graphpass.sites.sites import Selection

# what public functions take besides options: how it is checked, and what it has to be
ARGUMENTS: Mapping[str, tuple[Check, str]] = {
    "allow_code": (flag, "true or false"),
    "progress": (callable, "a function of what is done, how much of it is done and how much there is"),
    "tried": (callable, "a function of a trial"),
}


class CommandOptions:
    """The options and files of a command by name; None is an option that was not given.

    spelled: the name of an option in errors. several: options that are lists here; a single value is a list of one.
    Raises OptionError (graphpass/options).
    """

    def __init__(
        self,
        command: str,
        given: Mapping[str, Any],
        spelled: Callable[[str], str] = named,
        several: Collection[str] = (),
    ):
        given = {**given, **{name: several_of(given[name]) for name in several if given.get(name) is not None}}
        require_options(command, given, spelled, several)
        for name, (check, wanted) in ARGUMENTS.items():
            if name in given and not check(given[name]):
                raise wrong_type(name, given[name], wanted, name)
        self._values = {name: plain_of(given[name]) for name in OPTIONS if given.get(name) is not None}
        self._several = several

    def __call__(self, name: str) -> Any:
        """The value of an option, or its default."""
        option = OPTIONS[name]
        return self._values.get(name, option.several if name in self._several else option.default)

    def selection(self) -> Selection:
        include, exclude = (several_of(self(name)) for name in ("include", "exclude"))
        return Selection(include, exclude, self("identity_sites"))

    def images(self) -> ImageOptions:
        """How images become arrays. A size that was not given is None, since the model's comes before the default.

        Raises OptionError for a configuration that asks for more, and DataError where its file cannot be read.
        """
        if config := self("preprocess"):
            return options_of(config if isinstance(config, Mapping) else read_config(config))
        if name := self("preset"):
            return replace(PRESETS[name], size=self._values.get("image_size"))
        mean, std = (tuple(map(float, several_of(self(name)))) for name in ("mean", "std"))
        return ImageOptions(self._values.get("image_size"), mean, std)

    def levels(self) -> Auto | Mapping[str, int] | None:
        levels = self("levels")
        by_site = isinstance(levels, Mapping)
        auto = auto_of(None if by_site else levels, self("energy"), self("mean_levels"))
        return levels if by_site else auto

    def synthetic(self) -> Synthetic | None:
        return Synthetic(self("limit") or Synthetic.samples) if self("synthetic") else None

    def calibration(self, limit: str = "limit") -> CalibrationOptions:
        """limit: the name of the option that limits its samples."""
        memory = bytes_of(self("memory_budget"))
        return CalibrationOptions(seed=self("seed"), limit=self(limit), memory=memory, threads=self("threads"))

    def conversion(self) -> dict[str, Any]:
        """The other arguments of `graphpass.conversion.convert`."""
        names = ("time_steps", "coding", "method", "form", "precision", "target", "allow_partial")
        return {name: self(name) for name in names}

    def goal(self) -> Goal:
        """What a search is after. Raises OptionError without a largest drop."""
        if self("max_drop") is None:
            raise OptionError(
                "a search needs max_drop", "give the largest loss that is acceptable, such as 1.0", "max_drop"
            )
        given = self._values.get("coding")
        codings = tuple(OPTIONS["coding"].names) if given is None else (given,)
        return Goal(float(self("max_drop")), self("minimise"), self("time_steps"), codings)

    def evaluation(self, allow_code: bool = False) -> EvaluationSettings:
        """allow_code: whether metrics may be functions of the user; these are run."""
        return EvaluationSettings(
            limit=self("limit"),
            threads=self("threads"),
            metrics=metrics_of(several_of(self("metric")), allow_code),
            providers=runtime_providers(self("provider")),
            energy_model=self("energy_model"),
        )

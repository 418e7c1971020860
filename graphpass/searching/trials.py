"""What a search is after, what it tries, and what it found. JSON keys: docs/formats.md."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from graphpass.conversion import Conversion
from graphpass.errors import OptionError
from graphpass.evaluation.drop import Drop
from graphpass.evaluation.results import Evaluation, without_nan
from graphpass.maths.choosing import Rung, Tried
from graphpass.maths.neuron import levels_of
from graphpass.options.table import OPTIONS

QUICK = "quick look: "  # begins the stages of quick trials
VERDICTS = ("within", "within noise", "exceeded")  # the limit: by at most one standard deviation, or by more


@dataclass(frozen=True)
class Goal:
    """max_drop: of the metric, in points (docs/search.md), above 0. minimise: energy, time-steps or latency.

    most_steps: the largest T that is tried. codings: the codes that are.
    """

    max_drop: float
    minimise: str = OPTIONS["minimise"].default
    most_steps: int | None = None
    codings: tuple[str, ...] = tuple(OPTIONS["coding"].names)

    def __post_init__(self) -> None:
        for name, value in (("minimise", self.minimise), *(("coding", each) for each in self.codings)):
            if value not in OPTIONS[name].names:
                raise OptionError(f"unknown {name} {value!r}", f"choose one of {', '.join(OPTIONS[name].names)}", name)


@dataclass(frozen=True)
class Setting:
    """What is tried: T, code, levels of single sites, identity sites, and names of sites that stay analogue."""

    time_steps: int
    coding: str
    levels: Mapping[str, int] = field(default_factory=dict)
    identity_sites: bool = False
    left: tuple[str, ...] = ()

    @property
    def is_uniform(self) -> bool:
        return not self.levels

    @property
    def most_levels(self) -> int:
        return levels_of(self.time_steps, self.coding)


@dataclass(frozen=True)
class Trial:
    """A setting, how much it lost on the half that settings are judged on, and what it cost.

    stage: why it was tried (searching/course.py); a quick trial says so, and was made with fewer samples.
    within: whether it lost at most what is allowed; of a quick trial, whether it may be so in full.
    cost: pJ, steps or ms, as the goal says. energy: pJ a sample, with memory traffic; ratio: to the ANN's.
    multiplying: share of the operations that are multiply-and-adds.
    """

    stage: str
    setting: Setting
    drop: Drop
    within: bool
    cost: float
    energy: float
    ratio: float | None
    multiplying: float
    firing_rate: float | None
    seconds: float

    @property
    def is_quick(self) -> bool:
        return self.stage.startswith(QUICK)

    @property
    def purpose(self) -> str:
        """The stage of the trial in full."""
        return self.stage.removeprefix(QUICK)

    def tried(self, rung: Rung) -> Tried:
        """The trial as one of a rung (maths/choosing.py)."""
        return Tried(rung, self.drop.value, self.cost, self.within, self.drop.noise or 0.0)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Found:
    """A search: its trials in order, which of them was chosen, and why it ended.

    chosen: place of the cheapest trial within the limit; None where there is none. best: of the least drop, then the
    cheapest. Quick trials are neither. conversion, evaluation, drop: of the chosen network on the other half of the
    data; None without one.
    demanding: names of the sites that the outputs need most, where nothing was good enough. shares: of every site then,
    the largest first, in the sum of the errors of the outputs with neurons at one site alone.
    """

    goal: Goal
    trials: tuple[Trial, ...]
    chosen: int | None
    best: int
    reason: str
    conversion: Conversion | None = None
    evaluation: Evaluation | None = None
    drop: Drop | None = None
    demanding: tuple[str, ...] = ()
    shares: Mapping[str, float] = field(default_factory=dict)

    @property
    def verdict(self) -> str | None:
        """Whether the other half of the data bears the choice out, one of VERDICTS; None where nothing was chosen."""
        if self.drop is None:
            return None
        if self.drop.value <= self.goal.max_drop:
            return VERDICTS[0]
        return VERDICTS[1 if self.drop.value - (self.drop.noise or 0.0) <= self.goal.max_drop else 2]

    def to_json(self) -> dict[str, Any]:
        """The document of docs/formats.md."""
        document = {
            "format": "graphpass-search",
            "version": 1,
            "goal": asdict(self.goal),
            "trials": [trial.to_json() for trial in self.trials],
            "chosen": self.chosen,
            "best": self.best,
            "reason": self.reason,
            "drop": self.drop and asdict(self.drop),
            "verdict": self.verdict,
            "demanding": list(self.demanding),
            "shares": dict(self.shares),
            "evaluation": self.evaluation and self.evaluation.to_json(),
        }
        return {key: without_nan(value) for key, value in document.items()}

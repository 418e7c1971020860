"""A search as text: its trials as rows, and what came of it in words."""

import math
import shlex
from collections.abc import Sequence

from graphpass.maths.allocation import levels_text
from graphpass.maths.neuron import levels_of
from graphpass.report.cells import NONE, Cells, joules
from graphpass.searching.trials import VERDICTS, Found, Setting, Trial
from graphpass.sites.sites import exactly

HEADER = ("", "tried for", "T", "coding", "levels", "lost", "energy", "SNN / ANN", "seconds")
TEXT_COLUMNS = (1, 3)


def trial_lines(trials: Sequence[Trial], chosen: int | None = None) -> tuple[Cells, list[Cells]]:
    """A row for each trial: the chosen one with an arrow, ✓ where the loss is within the limit, else ✗.

    Quick looks at what may be within it have ?.
    """
    return HEADER, [_line(trial, number == chosen) for number, trial in enumerate(trials)]


def _line(trial: Trial, chosen: bool) -> Cells:
    setting, noise = trial.setting, trial.drop.noise
    return (
        "→" if chosen else "✗" if not trial.within else "?" if trial.is_quick else "✓",
        _stage(trial),
        str(setting.time_steps),
        setting.coding,
        _levels(setting),
        f"{trial.drop.value:.2f}" + ("" if noise is None else f" ± {noise:.2f}"),
        joules(trial.energy),
        NONE if trial.ratio is None else f"{trial.ratio:.3f}",
        f"{trial.seconds:.1f}",
    )


def share_lines(found: Found) -> tuple[Cells, list[Cells]]:
    """A row for each site, the one that the outputs need most first; none where a network was chosen."""
    return ("site", "share of the error"), [(name, f"{100 * share:.1f} %") for name, share in found.shares.items()]


def aim(found: Found) -> str:
    """What the search was after, in words."""
    drop, goal = found.trials[found.best].drop, found.goal
    return f"least {goal.minimise}, at most {goal.max_drop:g} {drop.unit} of {drop.figure} lost"


def _stage(trial: Trial) -> str:
    left = len(trial.setting.left)
    return f"{trial.stage}, {left} analogue" if left else trial.stage


def _levels(setting: Setting) -> str:
    if not setting.levels:
        return str(levels_of(setting.time_steps, setting.coding))
    return levels_text(list(setting.levels.values()))


def conclusion(found: Found) -> str:
    """What was chosen and why the search ended, or which sites stand in the way, in a few sentences."""
    trial = found.trials[found.best if found.chosen is None else found.chosen]
    noise = trial.drop.noise or 0.0
    doubt = f". So few samples show a loss only within ± {noise:.2f}: give more" if noise > found.goal.max_drop else ""
    if found.chosen is None:
        return f"{found.reason}. The outputs need these sites most: {', '.join(found.demanding)}{doubt}"
    return f"{found.reason}. On the other half of the data it lost {found.drop}{_beyond(found)}{doubt}"


def _beyond(found: Found) -> str:
    """What it means that the chosen network lost more than is allowed on the other half; empty if it did not."""
    if found.drop is None or found.verdict == VERDICTS[0]:
        return ""
    if found.verdict == VERDICTS[1]:
        return f". That is more than {found.goal.max_drop:g}, but the noise explains it"
    has_noise = found.drop.noise is not None and not math.isnan(found.drop.noise)
    known = " by more than its noise" if has_noise else ""
    return f". That is more than {found.goal.max_drop:g}{known}: allow less, or give more samples"


def remedy(found: Found) -> str:
    """What to do where nothing is good enough, with the options of the closest setting."""
    closest = shlex.join(_arguments(found.trials[found.best].setting))
    return f"allow more, leave these sites analogue, or convert with the closest setting: {closest}"


def _arguments(setting: Setting) -> list[str]:
    """The options of `graphpass convert` that make a setting, apart from the levels of single sites."""
    words = ["--time-steps", str(setting.time_steps), "--coding", setting.coding]
    words += ["--identity-sites"] if setting.identity_sites else []
    return [*words, *(word for name in setting.left for word in ("--exclude", exactly(name)))]

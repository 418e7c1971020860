"""How many examples a property is tried on: the same few in every run, or many at random with `-m slow`."""

from typing import Any

from hypothesis import HealthCheck, settings

PLAIN = 100  # examples of a test that says nothing of them, in an ordinary run
SAME, EXPLORE = "same", "explore"
COMMON: dict[str, Any] = {"deadline": None, "print_blob": True}  # what fails prints how it is reproduced

settings.register_profile(SAME, max_examples=PLAIN, derandomize=True, **COMMON)


def explore(times: int) -> None:
    """From now on every property is tried on so many times as many examples, at random."""
    settings.register_profile(
        EXPLORE, max_examples=PLAIN * times, suppress_health_check=[HealthCheck.too_slow], **COMMON
    )
    settings.load_profile(EXPLORE)


def examples(count: int, **more: Any) -> settings:
    """The settings of a property that is tried on so many examples in an ordinary run."""
    return settings(max_examples=max(1, count * settings.default.max_examples // PLAIN), **more)

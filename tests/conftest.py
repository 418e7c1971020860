"""What an ordinary run leaves out, and `-m slow` runs.

Properties: the same examples in every run; with `-m slow` many at random, which every property is run for then.
`@pytest.mark.some(n)`: n of the cases of a parametrised test, spread over all; the others are slow.
"""

from collections import defaultdict

import pytest
from hypothesis import is_hypothesis_test, settings

import graphpass  # noqa: F401 before onnxruntime, which then sends nothing to its maker
from tests.properties import SAME, explore


def _explores(config: pytest.Config) -> bool:
    marks = config.option.markexpr or ""
    return "slow" in marks and "not slow" not in marks


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--explore", type=int, default=2, metavar="N", help="with -m slow: N times the examples of an ordinary run"
    )


def pytest_configure(config: pytest.Config) -> None:
    if _explores(config):
        explore(config.option.explore)
    else:
        settings.load_profile(SAME)


@pytest.hookimpl(tryfirst=True)  # before -m chooses
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    cases: dict[tuple[object, int], list[pytest.Item]] = defaultdict(list)
    for item in items:
        if isinstance(item, pytest.Function) and (some := item.get_closest_marker("some")):
            cases[item.obj.__code__, some.args[0]].append(item)
    for (_, count), found in cases.items():
        kept = {len(found) * number // count for number in range(count)}
        for number, item in enumerate(found):
            if number not in kept:
                item.add_marker(pytest.mark.slow)
    if _explores(config):
        for item in items:
            if isinstance(item, pytest.Function) and is_hypothesis_test(item.obj):
                item.add_marker(pytest.mark.slow)

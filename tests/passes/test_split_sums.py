"""Sums of many terms."""

import pytest

from tests.models import build, node
from tests.passes.checking import check, normal


@pytest.mark.parametrize(("terms", "expected"), [("x", []), ("x b", ["Add"]), ("x b x c", ["Add"] * 3)])
def test_sums_of_many_become_sums_of_two(terms, expected):
    nodes = [node("Sum", terms, "s", name="sum"), node("Neg", "s", "y")]
    constants = {"b": normal(2, 3), "c": normal(3) * 2}
    check(build(nodes, {"x": [2, 3]}, {"y": [2, 3]}, constants), [*expected, "Neg"], normal(2, 3), split_sums=1)

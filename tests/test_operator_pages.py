"""The function bodies that docs/operators/ lists are those that converted models carry."""

import re
from pathlib import Path

import pytest
from onnx import FunctionProto, parser

from graphpass.forms import operators
from graphpass.maths.neuron import CODINGS

PAGES = Path(__file__).parents[1] / "docs" / "operators"
OPSET = 21  # of the listings; bodies in other opsets differ by their opset import alone
BODIES = {coding: {each.name: each for each in operators.functions(coding, OPSET)} for coding in CODINGS}
NAMES = sorted(BODIES[CODINGS[0]])


def listings(name: str) -> list[FunctionProto]:
    """The listed functions, in the order of the page."""
    page = (PAGES / f"{name}_v{operators.VERSION}.md").read_text("utf-8").split("## Function body")[1]
    return [parser.parse_function(text) for text in re.findall(r"^```\n(.*?)^```", page, re.MULTILINE | re.DOTALL)]


@pytest.mark.parametrize("name", NAMES)
def test_the_listings_are_the_bodies(name: str) -> None:
    found = listings(name)
    wanted = [BODIES[coding][name] for coding in CODINGS]
    assert found == (wanted[:1] if wanted[0] == wanted[1] else wanted)


@pytest.mark.parametrize("name", NAMES)
def test_bodies_of_other_opsets_differ_by_the_import_alone(name: str) -> None:
    for coding in CODINGS:
        (old,) = (each for each in operators.functions(coding, 15) if each.name == name)
        assert old != BODIES[coding][name]
        old.opset_import[0].version = OPSET
        assert old == BODIES[coding][name]

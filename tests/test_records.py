"""JSON that is nested deeply is refused alike by every version of Python, of which newer ones read it."""

from pathlib import Path

import pytest

from graphpass.datasets.processors import read_config
from graphpass.errors import DataError, PlanError
from graphpass.graph.plan import load_plan
from graphpass.nesting import is_deeper
from graphpass.records import DEEPEST, RecordError, parsed


@pytest.mark.parametrize("levels", [1, 2, 3, 50])
def test_levels_are_lists_and_objects_within_each_other(levels: int) -> None:
    for begin, end in (("[1, ", "]"), ('{"b": "[", "a": ', "}")):
        found = parsed(begin * levels + "1" + end * levels)
        assert is_deeper(found, levels - 1) and not is_deeper(found, levels)
    assert not is_deeper("[", 0)


@pytest.mark.parametrize("levels", [DEEPEST + 1, 900, 30_000])
def test_more_levels_than_any_document_has_are_refused(levels: int, tmp_path: Path) -> None:
    text = '{"time_steps": ' + "[" * levels + "]" * levels + "}"
    with pytest.raises(RecordError, match=f"more than {DEEPEST} levels"):
        parsed(text)
    (path := tmp_path / "deep.json").write_text(text)
    with pytest.raises(PlanError, match="levels"):
        load_plan(path)
    with pytest.raises(DataError, match="levels"):
        read_config(path)

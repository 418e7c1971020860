"""docs/coverage.md is what the code says, for the onnx that it was written with."""

import re

import pytest

from tests import coverage


def test_the_page_is_what_the_code_says() -> None:
    written = coverage.PAGE.read_text("utf-8")
    opset = re.search(r"up to opset (\d+)", written)
    assert opset
    if int(opset[1]) != coverage.NEWEST:
        pytest.skip(f"written for opset {opset[1]}, the installed onnx has {coverage.NEWEST}")
    assert coverage.page() == written, "run python -m tests.coverage"


def test_every_operator_that_is_not_refused_is_tested() -> None:
    rows = re.findall(r"^\| (\w+) \| .* \| (.*) \| (.*) \|$", coverage.PAGE.read_text("utf-8"), re.MULTILINE)
    assert len(rows) > 190
    untested = {op for op, role, tested in rows if tested == "—"}
    refused = {op for op, role, _ in rows if role.startswith(("refused", "no kernel", "stays as it is; no spikes"))}
    assert untested <= refused

"""Writes docs/coverage.md: every operator of ONNX, what becomes of it, and which file tests that.

    python -m tests.coverage

The entry for an operator behind spikes comes from converting it, not from a table.
"""

import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from graphpass.graph.domains import RUNTIME_OPERATORS
from graphpass.graph.refusals import QUANTISED, QUANTISED_PREFIXES
from graphpass.graph.upgrade import UPGRADES
from graphpass.sites.sites import SEQUENCE_OPS, SUBGRAPH_OPS
from tests.graph.test_upgrade import RANDOM, TEXTS, WITHOUT_KERNEL
from tests.operator_cases import HISTORY, NEWEST, OLDEST, versions_of
from tests.operators import CASES
from tests.test_operators import cases, prepared, reached

PAGE = Path(__file__).parents[1] / "docs" / "coverage.md"
HEAD = f"""# What becomes of every operator

`python -m tests.coverage` writes this page, and a test checks it against the code. The table has the operators of ONNX
up to opset {NEWEST}, and other operators that onnxruntime has in ONNX's domain. A result that depends only on constants
is computed before the conversion, for all operators.

* **Rewritten**: below this opset, the operator is written differently, or means something else. A rule of
  `graphpass/graph/upgrade.py` rewrites it in opset 21, so that it computes the same. Every other operator means the
  same from opset {OLDEST} on.
* **Behind spikes**: the result of a conversion of x → Relu → the operator → MatMul.
    * *neurons*: it is an activation, and neurons replace it.
    * *spikes drive it*: it is a weight layer, and its input is spikes.
    * *spikes pass*: it passes spikes step by step to the layer behind it.
    * *on the mean*: it works on the mean over time. This is exact, but the layer behind it is analogue.
    * *as it is*: it does not change, because its first input or its output is not float, or has no samples.
    * *named as random*: it draws other numbers in every run. `graphpass inspect` says so.
* **Tested**: where the operator is tested.
    * *versions*: each version from opset {OLDEST} on is compared with its upgrade, alone, in subgraphs and in functions
      (`tests/graph/test_upgrade.py`).
    * *forms*: it is converted in every form (`tests/test_operators.py`).
    * Otherwise the column names the test file.

| operator | versions | rewritten | behind spikes | tested |
|---|---|---|---|---|
"""
# where operators without a case are tested
FILES = {
    **dict.fromkeys(sorted(SEQUENCE_OPS), "tests/test_refusals.py"),
    **dict.fromkeys(["If", "Loop", "Scan"], "tests/test_legal_models.py, tests/test_refusals.py"),
    **dict.fromkeys(sorted(RANDOM), "tests/verification/test_source.py"),
    **dict.fromkeys(sorted(QUANTISED), "tests/test_refusals.py"),
}


def role(op: str, folder: Path) -> str:
    """What becomes of an operator, as the converter says."""
    if op in QUANTISED or op.startswith(QUANTISED_PREFIXES):
        return "refused: give the float model"
    if op in SEQUENCE_OPS or op in TEXTS or op.startswith(("Sequence", "Optional", "SplitTo")):
        return "stays as it is; no spikes pass"
    if op in SUBGRAPH_OPS:
        return "stays as it is, with its body"
    if op in RANDOM:
        return "stays as it is; named as random"
    if op not in cases():
        return "no kernel in onnxruntime" if not any(case.op == op for case in CASES) else "as it is"
    network, _ = prepared(op, folder)
    if "the_op" in {site.name for site in network.coverage.sites}:
        return "neurons"
    layers = reached(network)
    expected = all(entry.expected for entry in network.coverage.left if entry.node == "the_op")
    if layers:
        return "spikes drive it" if "the_op" in layers else "spikes pass"
    return "on the mean" if expected else "on the mean, with --allow-partial"


def tested(op: str) -> str:
    if not any(case.op == op for case in CASES):
        return FILES.get(op, "—")
    return "versions, forms" if op in cases() else "versions"


def versions(op: str) -> Iterator[str]:
    """Those in force from the oldest opset on."""
    known = versions_of(op)
    for version, after in zip(known, [*known[1:], NEWEST + 1], strict=True):
        if after > OLDEST:
            yield f"{version}†" if (op, version) in WITHOUT_KERNEL else str(version)


def operators() -> Iterable[str]:
    return sorted({each.name for each in HISTORY} | set(RUNTIME_OPERATORS))


def page() -> str:
    """The whole page."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for op in operators():
            since = UPGRADES[op][0] if op in UPGRADES else 0
            rewritten = "" if not since else "always" if since > NEWEST else f"below {since}"
            rows.append(
                f"| {op} | {' '.join(versions(op))} | {rewritten} | {role(op, Path(folder))} | {tested(op)} |\n"
            )
    return HEAD + "".join(rows) + "\n† onnxruntime has no kernel for this version.\n"


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")

"""Problem documents: their table is the one of the documentation, and the sandbox's errors are in it."""

import re
from pathlib import Path

from service.problems import PROBLEMS, JobError, ProblemError

PAGE = (Path(__file__).parents[2] / "docs" / "service.md").read_text("utf-8")


def test_the_documentation_has_every_type() -> None:
    table = PAGE.partition("<!-- problems:begin -->")[2].partition("<!-- problems:end -->")[0]
    rows = re.findall(r"^\| `/problems/([a-z-]+)` \| (\d+) \| (.*) \|$", table, re.MULTILINE)
    assert rows == [(slug, str(kind.status), kind.when) for slug, kind in PROBLEMS.items()]


def test_every_error_of_the_sandbox_is_a_problem() -> None:
    text = (Path(__file__).parents[2] / "service" / "sandbox" / "outcome.py").read_text("utf-8")
    user = "invalid-model unsupported-model invalid-data invalid-options coverage calibration plan verification"
    limits = "memory-limit time-limit output-limit crashed internal"
    for type in (user + " " + limits).split():
        assert type in PROBLEMS
        assert type in text, f"{type} is not a type of the sandbox any more"


def test_a_document_leaves_out_what_is_not_known() -> None:
    found = ProblemError("not-found", "there is no x").document()
    assert found == {
        "type": "/problems/not-found",
        "title": PROBLEMS["not-found"].title,
        "status": 404,
        "detail": "there is no x",
    }
    assert JobError("coverage", "what").to_json() == {"type": "coverage", "what": "what", "remedy": "", "where": ""}

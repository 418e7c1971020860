"""schemathesis over the whole OpenAPI document: every answer is documented and fits the document, and none is a 500."""

import json
import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.service.api.test_tus import begin
from tests.service.running import Server, finished

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "unsupported_method",
    "allow_header_conformance",
    "ignored_auth",
)
HOOKS = """
import schemathesis

@schemathesis.serializer("application/offset+octet-stream")
def piece(context, value):
    return value if isinstance(value, bytes) else str(value).encode()
"""


@pytest.mark.slow
def test_the_api_keeps_to_its_document(server: Server, http: httpx.Client, ids: dict[str, str], tmp_path: Path) -> None:
    few = {"time_steps": 1, "limit": 32, "method": "max"}
    asked = {"model": ids["model"], "calibration": ids["calibration"], "evaluation": ids["evaluation"], "options": few}
    conversion = finished(http, http.post("/v1/conversions", json=asked).headers["Location"])
    compare = {"ann": ids["model"], "snn": conversion["id"], "dataset": ids["evaluation"], "options": {"limit": 32}}
    evaluation = finished(http, http.post("/v1/evaluations", json=compare).headers["Location"])
    upload = begin(http, 1000, kind="dataset").headers["location"].rpartition("/")[2]
    known = {"conversions": conversion["id"], "evaluations": evaluation["id"], "uploads": upload}
    known |= {"models": ids["model"], "datasets": ids["evaluation"]}
    (tmp_path / "hooks.py").write_text(HOOKS)
    lines = ['hooks = "hooks"', "", "[headers]", f'Authorization = "Bearer {server.key}"']
    for collection, id in known.items():
        for path in httpx.get(f"{server.url}/openapi.json").json()["paths"]:
            if path.startswith(f"/v1/{collection}/{{id}}"):
                lines += ["", "[[operations]]", f"include-path = {json.dumps(path)}", 'exclude-method = "DELETE"']
                lines += [f'parameters = {{ "path.id" = "{id}" }}']
    (tmp_path / "schemathesis.toml").write_text("\n".join(lines) + "\n")
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", "schemathesis.toml", "run"]
    options = ["--checks", ",".join(CHECKS), "--max-examples", "10", "--continue-on-failure", "--seed", "1"]
    done = subprocess.run(
        [*command, f"{server.url}/openapi.json", *options, "--warnings", "off"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-2000:]
    assert not [line for line in server.lines() if line.get("traceback")]

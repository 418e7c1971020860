"""What the API takes and refuses: keys, tenants, bodies, idempotency, problem documents, headers."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.problems import PROBLEM_JSON, PROBLEMS
from tests.service.running import EXAMPLE, Server, example, finished, upload

NOBODY = "mod_01jdhq3n7s0h5kydfm6pvra2ce"
FEW = {"time_steps": 1, "limit": 32, "method": "max"}


def problem(answer: httpx.Response, status: int, slug: str) -> dict[str, Any]:
    """The problem document of an answer, which has to have this type."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == PROBLEM_JSON
    found: dict[str, Any] = answer.json()
    assert found["type"] == f"/problems/{slug}" and found["status"] == status == PROBLEMS[slug].status
    assert found["title"] and found["detail"]
    return found


def test_a_key_is_needed(server: Server) -> None:
    for headers in ({}, {"Authorization": "Bearer gp_wrong"}, {"Authorization": "Basic gp_wrong"}):
        answer = httpx.get(f"{server.url}/v1/models", headers=headers)
        problem(answer, 401, "unauthorized")
        assert answer.headers["www-authenticate"].startswith("Bearer")


def test_a_revoked_key_is_refused(server: Server) -> None:
    key = server.new_key("shortlived")
    with server.client(key) as client:
        assert client.get("/v1/models").status_code == 200
    listed = server.command("keys", "list")
    id = next(line.split()[0] for line in listed.splitlines() if "shortlived" in line)
    server.command("keys", "revoke", id)
    with server.client(key) as client:
        problem(client.get("/v1/models"), 401, "unauthorized")


def test_what_belongs_to_others_is_not_there(server: Server, http: httpx.Client, ids: dict[str, str]) -> None:
    job = http.post("/v1/conversions", json={"model": ids["model"], "calibration": ids["calibration"], "options": FEW})
    url = job.headers["Location"]
    with server.as_tenant("stranger") as stranger:
        for path in (f"/v1/models/{ids['model']}", f"/v1/datasets/{ids['evaluation']}", url, f"{url}/events"):
            problem(stranger.get(path), 404, "not-found")
        for path in (f"{url}/artifact", f"{url}/plan", f"{url}/report"):
            problem(stranger.get(path), 404, "not-found")
        for path in (f"/v1/models/{ids['model']}", url):
            problem(stranger.delete(path), 404, "not-found")
        asked = {"model": ids["model"], "calibration": ids["calibration"]}
        problem(stranger.post("/v1/conversions", json=asked), 404, "not-found")
        assert stranger.get("/v1/jobs").json()["items"] == []
        its = example(stranger)
        assert its["model"] != ids["model"]
        mixed = {"ann": its["model"], "snn": job.json()["id"], "dataset": its["evaluation"]}
        problem(stranger.post("/v1/evaluations", json=mixed), 404, "not-found")
    finished(http, url)


def test_the_same_key_and_body_make_one_job(http: httpx.Client, ids: dict[str, str]) -> None:
    asked = {"model": ids["model"], "calibration": ids["calibration"], "options": FEW}
    once = {"Idempotency-Key": "once"}
    first = http.post("/v1/conversions", json=asked, headers=once)
    again = http.post("/v1/conversions", json=asked, headers=once)
    assert first.status_code == again.status_code == 202 and first.json()["id"] == again.json()["id"]
    finished(http, first.headers["Location"])
    later = http.post("/v1/conversions", json=asked, headers=once)
    assert later.json()["id"] == first.json()["id"] and later.json()["state"] == "succeeded"
    other = {**asked, "options": {**FEW, "time_steps": 2}}
    problem(http.post("/v1/conversions", json=other, headers=once), 409, "idempotency-conflict")


def test_a_repeated_request_finds_its_job_after_its_inputs_are_gone(server: Server) -> None:
    once = {"Idempotency-Key": "once"}
    with server.as_tenant("forgetful") as client:
        its = example(client)
        asked = {"model": its["model"], "calibration": its["calibration"], "options": FEW}
        first = client.post("/v1/conversions", json=asked, headers=once)
        finished(client, first.headers["Location"])
        assert client.delete(f"/v1/datasets/{its['calibration']}").status_code == 204
        again = client.post("/v1/conversions", json=asked, headers=once)
        assert (again.status_code, again.json()["id"]) == (202, first.json()["id"])
        problem(client.post("/v1/conversions", json=asked), 404, "not-found")


@pytest.mark.parametrize(
    ("asked", "where"),
    [
        ({}, "model"),
        ({"model": "nonsense"}, "model"),
        ({"model": NOBODY, "options": {"time_steps": 0}}, "options.time_steps"),
        ({"model": NOBODY, "options": {"time_steps": "4"}}, "options.time_steps"),
        ({"model": NOBODY, "options": {"coding": "morse"}}, "options.coding"),
        ({"model": NOBODY, "options": {"timesteps": 4}}, "options.timesteps"),
        ({"model": NOBODY, "options": {"mean": ["a"]}}, "options.mean.0"),
    ],
)
def test_the_failing_field_is_named(http: httpx.Client, asked: dict[str, Any], where: str) -> None:
    assert problem(http.post("/v1/conversions", json=asked), 422, "invalid-request")["where"] == where


def test_broken_bodies(http: httpx.Client) -> None:
    json_body = {"Content-Type": "application/json"}
    problem(http.post("/v1/conversions", content=b"{", headers=json_body), 422, "invalid-request")
    problem(http.post("/v1/conversions", content=b"\xff", headers=json_body), 422, "invalid-request")
    problem(http.post("/v1/models", content=b""), 422, "invalid-request")
    found = problem(http.post("/v1/models", content=b"no model"), 422, "invalid-model")
    assert found["detail"] and found["request_id"]
    problem(http.post("/v1/datasets", content=b"no data"), 422, "invalid-data")
    problem(http.post("/v1/models", content=b"a", headers={"Content-Type": "text/html"}), 415, "media-type")
    for coding in ("gzip", "br, identity", "GZIP"):
        compressed = {"Content-Encoding": coding}
        found = problem(http.post("/v1/models", content=b"a", headers=compressed), 415, "media-type")
        assert found["where"] == "Content-Encoding"
        problem(http.post("/v1/conversions", json={}, headers=compressed), 415, "media-type")
        problem(http.patch(f"/v1/uploads/{NOBODY}", content=b"a", headers=compressed), 415, "media-type")
    problem(http.post("/v1/models", content=b"a", headers={"Content-Encoding": "identity"}), 422, "invalid-model")
    problem(http.post("/v1/conversions", json={"options": {"include": ["x" * 900] * 99}}), 413, "too-large")
    problem(http.get("/v1/nothing"), 404, "not-found")
    problem(http.put("/v1/models"), 405, "method-not-allowed")
    problem(http.get("/v1/uploads"), 405, "method-not-allowed")  # not a file of the page
    problem(http.get(f"/v1/models/{NOBODY}"), 404, "not-found")
    problem(http.get("/v1/models/mod_%00%ff"), 404, "not-found")


def test_equal_bytes_are_stored_and_described_once(http: httpx.Client) -> None:
    path = EXAMPLE / "calibration.npz"

    def described() -> list[str]:
        return re.findall(
            r"^graphpass_task_seconds_count.*describe_dataset.*$", http.get("/metrics").text, re.MULTILINE
        )

    first, before = upload(http, "dataset", path), described()
    again = http.post("/v1/datasets", content=path.read_bytes())
    assert before and described() == before
    assert again.status_code == 200 and again.json()["id"] == first["id"]
    assert first["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert first["expires"]


@pytest.mark.slow
def test_limits_of_size_and_number(tmp_path: Path) -> None:
    size = (EXAMPLE / "fashion_mnist.onnx").stat().st_size
    quota = 7 * size  # three files, and room for a conversion of the model: its network, and its weights once more
    with Server(
        tmp_path, MAX_UPLOAD_BYTES=str(size), QUOTA_BYTES=str(quota), QUOTA_QUEUED="1", RATE_PER_MINUTE="60"
    ) as server:
        http = server.http
        problem(http.post("/v1/models", content=b"0" * (size + 1)), 413, "too-large")

        def endless() -> Any:
            for _ in range(size // 1000 + 2):
                yield b"0" * 1000

        problem(http.post("/v1/models", content=endless()), 413, "too-large")
        model = upload(http, "model", EXAMPLE / "fashion_mnist.onnx")
        calibration = upload(http, "dataset", EXAMPLE / "calibration.npz")
        with np_file(tmp_path, size) as large:
            assert http.post("/v1/datasets", content=large.read_bytes()).status_code == 201
        asked = {"model": model["id"], "calibration": calibration["id"], "options": {"time_steps": 32}}
        urls = []
        for time_steps in range(1, 5):
            answer = http.post("/v1/conversions", json={**asked, "options": {"time_steps": time_steps}})
            if answer.status_code == 429:
                break
            urls.append(answer.headers["Location"])
        problem(answer, 429, "queue-quota")
        for seed in range(1, 6):  # what is reserved for the jobs counts
            with np_file(tmp_path, size, seed) as large:
                answer = http.post("/v1/datasets", content=large.read_bytes())
            if answer.status_code != 201:
                break
        problem(answer, 403, "storage-quota")
        for url in urls:
            http.delete(url)
        while (answer := http.get("/v1/jobs")).status_code == 200:
            pass
        problem(answer, 429, "rate-limited")
        assert int(answer.headers["retry-after"]) >= 1


def np_file(folder: Path, size: int, seed: int = 0) -> Any:
    """A context that makes a dataset of nearly this size."""
    import contextlib

    import numpy as np

    @contextlib.contextmanager
    def made() -> Any:
        path = folder / f"large{seed}.npz"
        count = (size - 5000) // (28 * 28)
        images = np.random.default_rng(seed).integers(0, 256, (count, 1, 28, 28), np.uint8)
        np.savez(path, image=images)
        yield path
        path.unlink()

    return made()


def test_headers_for_browsers(server: Server) -> None:
    answer = httpx.get(f"{server.url}/livez")
    assert answer.text == "ok\n"
    assert "script-src 'self'" in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff" and answer.headers["x-request-id"]
    assert httpx.get(f"{server.url}/assets/plotly.min.js").headers["content-type"].startswith("text/javascript")


def test_ready_and_metrics(server: Server, http: httpx.Client, ids: dict[str, str]) -> None:
    assert httpx.get(f"{server.url}/readyz").json() == {
        "ready": True,
        "checks": {"database": "ok", "store": "ok", "engine": "ok"},
    }
    finished(
        http,
        http.post(
            "/v1/conversions", json={"model": ids["model"], "calibration": ids["calibration"], "options": FEW}
        ).headers["Location"],
    )
    text = httpx.get(f"{server.url}/metrics").text
    for name in (
        "requests_total",
        "jobs_total",
        "job_seconds_bucket",
        "task_seconds_count",
        "jobs_known",
        "stored_bytes",
    ):
        assert f"graphpass_{name}" in text, name
    assert 'graphpass_requests_total{method="POST",route="/v1/conversions",status="202"}' in text


def test_problem_types_are_explained(server: Server) -> None:
    for slug, kind in PROBLEMS.items():
        assert httpx.get(f"{server.url}/problems/{slug}").json()["status"] == kind.status


def test_the_openapi_document_has_examples_and_problems(server: Server) -> None:
    document = httpx.get(f"{server.url}/openapi.json").json()
    schemas = document["components"]["schemas"]
    assert "Problem" in schemas and "HTTPValidationError" not in json.dumps(document)
    for name in ("ConversionRequest", "EvaluationRequest", "SweepRequest", "JobAnswer", "ObjectAnswer", "Problem"):
        assert schemas[name]["examples"], name
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            assert operation["summary"] and operation["tags"], (method, path)

"""The whole story on the real server: upload, convert, watch, evaluate, download, delete, and files in parts."""

import hashlib
import subprocess
from pathlib import Path

import httpx
import pytest

from tests.service.running import COMMAND, EXAMPLE, Server, events, finished, upload

FEW = {"time_steps": 2, "limit": 64, "method": "max"}


@pytest.fixture(scope="module")
def converted(server: Server, ids: dict[str, str]) -> dict[str, object]:
    """A small conversion that has succeeded."""
    asked = {"model": ids["model"], "calibration": ids["calibration"], "options": FEW}
    answer = server.http.post("/v1/conversions", json=asked)
    assert answer.status_code == 202, answer.text
    job = finished(server.http, answer.headers["Location"])
    assert job["state"] == "succeeded", job
    return job


def test_upload_convert_watch_evaluate_download(http: httpx.Client, tmp_path: Path) -> None:
    model = upload(http, "model", EXAMPLE / "fashion_mnist.onnx", "garments.onnx")
    assert model["sha256"] == hashlib.sha256((EXAMPLE / "fashion_mnist.onnx").read_bytes()).hexdigest()
    assert len(model["description"]["sites"]) == 5
    calibration = upload(http, "dataset", EXAMPLE / "calibration.npz")
    evaluation = upload(http, "dataset", EXAMPLE / "evaluation.npz")
    assert evaluation["description"]["labels"] and evaluation["description"]["samples"] == 1000

    asked = {"model": model["id"], "calibration": calibration["id"], "options": {"time_steps": 4, "limit": 128}}
    answer = http.post("/v1/conversions", json=asked)
    assert answer.status_code == 202
    url = answer.headers["Location"]
    assert answer.json()["state"] == "queued" and answer.json()["links"]["self"] == url

    seen = list(events(http, url))
    assert [number for number, _, _ in seen] == list(range(len(seen)))
    states = [data["state"] for _, name, data in seen if name == "state"]
    assert states == ["running", "succeeded"]
    assert {"calibrating"} <= {data["stage"] for _, name, data in seen if name == "progress"}
    assert list(events(http, url, after=seen[-3][0])) == seen[-2:]

    job = http.get(url).json()
    assert job["state"] == "succeeded" and job["error"] is None
    made = http.get(job["links"]["artifact"])
    plan = http.get(job["links"]["plan"]).json()
    assert plan["format"] == "graphpass-plan" and plan["time_steps"] == 4
    assert hashlib.sha256(made.content).hexdigest() == job["artifacts"]["snn.onnx"]

    here = tmp_path / "snn.onnx"
    line = [
        "convert",
        str(EXAMPLE / "fashion_mnist.onnx"),
        str(here),
        "--calibration",
        str(EXAMPLE / "calibration.npz"),
    ]
    subprocess.run([*COMMAND, *line, "--time-steps", "4", "--limit", "128"], check=True, capture_output=True)
    assert made.content == here.read_bytes()

    asked = {"ann": model["id"], "snn": job["id"], "dataset": evaluation["id"], "options": {"limit": 200}}
    answer = http.post("/v1/evaluations", json=asked)
    done = finished(http, answer.headers["Location"])
    assert done["state"] == "succeeded", done
    found = done["result"]["evaluation"]
    assert found["format"] == "graphpass-evaluation" and found["samples"] == 200 and found["ann"]["top1"] > 0.8
    assert http.get(done["links"]["report_json"]).json()["agreement"] == found["agreement"]
    pictures = http.get(done["links"]["pictures"]).json()
    assert [set(each) for each in pictures] == 2 * [{"title", "note", "summary", "data", "layout"}]
    report = http.get(done["links"]["report"])
    assert report.headers["content-type"].startswith("text/html")
    assert report.headers["content-security-policy"].startswith("sandbox allow-scripts")


@pytest.mark.slow
def test_a_conversion_evaluates_if_asked_to(http: httpx.Client, ids: dict[str, str]) -> None:
    asked = {name: ids[name] for name in ("model", "calibration", "evaluation")}
    options = {**FEW, "metric": ["classes", "embedding"]}
    job = finished(http, http.post("/v1/conversions", json={**asked, "options": options}).headers["Location"])
    assert job["state"] == "succeeded", job
    found = job["result"]["evaluation"]
    assert found["time_steps"] == 2 and [each["name"] for each in found["metrics"]] == ["probe_accuracy", "cosine"]
    assert set(job["artifacts"]) >= {"snn.onnx", "plan.json", "report.html", "report.json"}


def test_without_data_it_is_as_the_command_line_has_it(http: httpx.Client, ids: dict[str, str], tmp_path: Path) -> None:
    options = {"synthetic": True, "time_steps": 4, "limit": 32, "method": "max", "seed": 3}
    asked = {"model": ids["model"], "options": options}
    job = finished(http, http.post("/v1/conversions", json=asked).headers["Location"])
    assert job["state"] == "succeeded", job
    assert job["result"]["notes"]["data"] == "synthetic" and job["result"]["samples"] == 32
    assert job["result"]["warnings"][0].startswith("CALIBRATED ON SYNTHETIC DATA")
    here = tmp_path / "snn.onnx"
    line = ["convert", str(EXAMPLE / "fashion_mnist.onnx"), str(here), "--synthetic", "--time-steps", "4"]
    line += ["--limit", "32", "--method", "max", "--seed", "3"]
    subprocess.run([*COMMAND, *line], check=True, capture_output=True)
    assert http.get(job["links"]["artifact"]).content == here.read_bytes()


def test_made_up_data_beside_data_is_refused(http: httpx.Client, ids: dict[str, str]) -> None:
    asked = {"model": ids["model"], "calibration": ids["calibration"], "options": {"synthetic": True}}
    answer = http.post("/v1/conversions", json=asked)
    assert answer.status_code == 422
    problem = answer.json()
    assert (problem["type"], problem["where"]) == ("/problems/invalid-options", "options.synthetic")
    assert "exclude each other" in problem["detail"] and problem["remedy"]


@pytest.mark.parametrize("metric", [["mine.py:top"], ["embedding"]])
def test_metrics_of_ones_own_and_without_data_are_refused(http: httpx.Client, ids: dict[str, str], metric) -> None:
    asked = {"model": ids["model"], "calibration": ids["calibration"], "options": {"metric": metric}}
    answer = http.post("/v1/conversions", json=asked)
    assert answer.status_code == 422 and answer.json()["where"].startswith("options.metric")
    assert answer.json()["type"] == f"/problems/invalid-{'request' if '.py' in metric[0] else 'options'}"


def test_a_conversion_without_any_data_says_what_to_do(http: httpx.Client, ids: dict[str, str]) -> None:
    job = finished(http, http.post("/v1/conversions", json={"model": ids["model"]}).headers["Location"])
    assert job["error"]["type"] == "/problems/invalid-options" and "--synthetic" in job["error"]["remedy"]


@pytest.mark.slow
def test_a_sweep(http: httpx.Client, ids: dict[str, str]) -> None:
    asked = {
        "model": ids["model"],
        "calibration": ids["calibration"],
        "dataset": ids["evaluation"],
        "options": {"time_steps": [1, 2], "method": ["max"], "limit": 64, "calibration_limit": 64},
    }
    url = http.post("/v1/sweeps", json=asked).headers["Location"]
    counts = [
        data["done"] for _, name, data in events(http, url) if name == "progress" and data["stage"] == "conversions"
    ]
    assert counts == [0, 1, 2]
    job = finished(http, url)
    assert job["state"] == "succeeded", job
    assert [row["time_steps"] for row in job["result"]["rows"]] == [1, 2]


def test_a_conversion_that_fails_says_why(http: httpx.Client, ids: dict[str, str]) -> None:
    asked = {"model": ids["model"], "calibration": ids["calibration"], "options": {"include": ["no such site"]}}
    answer = http.post("/v1/conversions", json=asked)
    job = finished(http, answer.headers["Location"])
    assert job["state"] == "failed" and job["result"] is None
    assert job["error"]["type"].startswith("/problems/") and job["error"]["remedy"]
    last = list(events(http, answer.headers["Location"]))[-1]
    assert last[1] == "state" and last[2]["state"] == "failed"
    refused = http.get(f"{answer.headers['Location']}/artifact")
    assert refused.status_code == 409 and refused.json()["type"] == "/problems/not-ready"


def test_parts_of_a_file(http: httpx.Client, converted: dict[str, dict[str, str]]) -> None:
    url = converted["links"]["artifact"]
    whole = http.get(url)
    assert whole.headers["content-disposition"].endswith('-snn-T2.onnx"')
    tag, size = whole.headers["etag"], len(whole.content)
    for wanted, start, end in (("bytes=0-99", 0, 100), ("bytes=1000-", 1000, size), ("bytes=-7", size - 7, size)):
        part = http.get(url, headers={"Range": wanted})
        assert part.status_code == 206 and part.content == whole.content[start:end]
        assert part.headers["content-range"] == f"bytes {start}-{end - 1}/{size}"
    assert http.get(url, headers={"Range": "bytes=0-9", "If-Range": '"other"'}).status_code == 200
    assert http.get(url, headers={"If-None-Match": tag}).status_code == 304
    outside = http.get(url, headers={"Range": f"bytes={size}-"})
    assert outside.status_code == 416 and outside.headers["content-range"] == f"bytes */{size}"


def test_deleting_takes_the_files_along(http: httpx.Client, ids: dict[str, str]) -> None:
    asked = {"model": ids["model"], "calibration": ids["calibration"], "options": FEW}
    url = http.post("/v1/conversions", json=asked).headers["Location"]
    finished(http, url)
    assert http.delete(url).status_code == 204
    assert http.get(f"{url}/artifact").status_code == 404


def test_pages_and_filters(http: httpx.Client, converted: dict[str, str]) -> None:
    seen, link = [], "/v1/jobs?limit=2&kind=conversion&state=succeeded&state=cancelled"
    while link:
        page = http.get(link).json()
        assert len(page["items"]) <= 2
        seen += page["items"]
        link = page["next"]
    assert {job["state"] for job in seen} <= {"succeeded", "cancelled"} and {job["kind"] for job in seen} == {
        "conversion"
    }
    assert converted["id"] in {job["id"] for job in seen}
    assert [job["id"] for job in seen] == sorted({job["id"] for job in seen}, reverse=True)


def test_it_logs_json_with_ids(server: Server, converted: dict[str, str]) -> None:
    lines = server.lines()
    assert any(line.get("job") == converted["id"] for line in lines)
    assert any(line.get("request") and line["message"].startswith("POST /v1/conversions 202") for line in lines)


def test_the_api_process_never_imports_onnx(server: Server, converted: dict[str, str]) -> None:
    assert server.process is not None
    loaded = Path(f"/proc/{server.process.pid}/maps").read_text()
    assert "onnx" not in {part for line in loaded.splitlines() for part in line.replace(".", "/").split("/")}
    assert "onnxruntime" not in loaded and "onnx_cpp2py_export" not in loaded

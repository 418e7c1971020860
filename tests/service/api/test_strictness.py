"""What a request says twice, or under an unknown name, is refused, and JSON has one reading: nothing is ignored."""

from urllib.parse import quote

import httpx
import pytest

from tests.service.api.test_requests import FEW, NOBODY, problem

JSON = {"Content-Type": "application/json"}
DATASET = f"dat_{NOBODY[4:]}"
TWICE = f'{{"model": "{NOBODY}", "model": "{NOBODY}", "calibration": "{DATASET}"}}'


@pytest.mark.parametrize(
    ("method", "path", "where"),
    [
        ("GET", "/v1/models?stat=queued", "query.stat"),
        ("GET", "/v1/models?state=queued", "query.state"),
        ("GET", "/v1/conversions?kind=sweep", "query.kind"),
        ("GET", "/v1/jobs?limit=1&limit=2", "query.limit"),
        ("GET", "/v1/jobs?kind=sweep&kind=search", "query.kind"),
        ("POST", "/v1/models?nmae=net.onnx", "query.nmae"),
        ("POST", "/v1/datasets?name=a.npz&name=b.npz", "query.name"),
        ("POST", "/v1/uploads?name=a.npz", "query.name"),
        ("POST", "/v1/conversions?time_steps=4", "query.time_steps"),
        ("POST", "/v1/examples/fashion-mnist?again=1", "query.again"),
        ("GET", f"/v1/models/{NOBODY}?full=1", "query.full"),
        ("GET", f"/v1/conversions/con_{NOBODY[4:]}/report?format=html&format=json", "query.format"),
        ("GET", f"/v1/conversions/con_{NOBODY[4:]}/events?after=3", "query.after"),
        ("GET", "/v1/jobs?" + "x" * 5000, "query." + "x" * 94),
    ],
)
def test_parameters(http: httpx.Client, method: str, path: str, where: str) -> None:
    assert problem(http.request(method, path), 422, "invalid-request")["where"] == where


@pytest.mark.parametrize("number", ["0_0", "+0", "0.0", "1e1", "0x1", "\u0662".encode(), b"\xb2", ""])
def test_whole_numbers_are_digits_alone(http: httpx.Client, number: str | bytes) -> None:
    """As a proxy in front reads them, and no other way."""
    tus = {"Tus-Resumable": "1.0.0", "Content-Type": "application/offset+octet-stream"}
    piece = http.patch(f"/v1/uploads/upl_{NOBODY[4:]}", content=b"", headers={**tus, "Upload-Offset": number})
    found = problem(piece, 422, "invalid-request")
    assert found["where"] == "header.Upload-Offset" and "Value error" not in found["detail"]
    made = http.post("/v1/uploads", headers={**tus, "Upload-Length": number, "Upload-Metadata": "filename YS5ucHo="})
    assert problem(made, 422, "invalid-request")["where"] == "header.Upload-Length"
    listed = http.get(f"/v1/jobs?limit={quote(number)}")
    assert problem(listed, 422, "invalid-request")["where"] == "query.limit"
    events = http.get(f"/v1/conversions/con_{NOBODY[4:]}/events", headers={"Last-Event-ID": number})
    assert problem(events, 422, "invalid-request")["where"] == "header.Last-Event-ID"


def test_a_list_of_states_is_given_by_many_parameters(http: httpx.Client) -> None:
    assert http.get("/v1/jobs?state=queued&state=failed").status_code == 200


@pytest.mark.parametrize("name", ["Idempotency-Key", "Content-Type"])
def test_headers_of_one_value(http: httpx.Client, name: str) -> None:
    value = JSON["Content-Type"]
    headers = [(name, value), (name, value), *([] if name == "Content-Type" else JSON.items())]
    answer = http.post("/v1/conversions", content=TWICE, headers=headers)
    assert problem(answer, 422, "invalid-request")["where"] == f"header.{name.lower()}"


@pytest.mark.parametrize("path", ["/v1/conversions", "/v1/evaluations", "/v1/searches", "/v1/models", "/v1/datasets"])
@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (TWICE, "'model' appears twice"),
        ('{"options": {"seed": 1, "seed": 1}}', "'seed' appears twice"),
        ('{"options": {"seed": ' + "9" * 60_000 + "}}", "60,000 digits"),
        ('{"options": {"energy": NaN}}', "NaN is no number"),
        ('{"options": {"energy": -Infinity}}', "-Infinity is no number"),
        ('{"options": {"preprocess": ' + "[" * 900 + "]" * 900 + "}}", "32 levels"),
        ('{"options": {"preprocess": ' + '{"a":' * 40 + "1" + "}" * 40 + "}}", "32 levels"),
        ("[" * 30_000 + "]" * 30_000, "32 levels"),
        ("{} {}", "Extra data"),
        (b"\xff\xfe{\0}\0", "utf-8"),
        (b'{"model": "\xe9"}', "utf-8"),
    ],
    ids=lambda value: str(value)[:20] if isinstance(value, str) else "bytes",
)
def test_json_has_one_reading(http: httpx.Client, path: str, body: str | bytes, detail: str) -> None:
    found = problem(http.post(path, content=body, headers=JSON), 422, "invalid-request")
    assert detail in found["detail"] and found["remedy"]


def test_a_byte_order_mark_says_nothing(http: httpx.Client) -> None:
    answer = http.post("/v1/conversions", content=b"\xef\xbb\xbf{}", headers=JSON)
    assert problem(answer, 422, "invalid-request")["where"] == "model"


@pytest.mark.parametrize("type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
def test_json_is_sent_as_such(http: httpx.Client, type: str) -> None:
    """A body that is JSON, but does not say so: what `curl -d` sends."""
    answer = http.post("/v1/conversions", content=b"{}", headers={"Content-Type": type} if type else {})
    found = problem(answer, 415, "media-type")
    assert found["where"] == "Content-Type" and "application/json" in found["remedy"]


def test_the_answer_is_short_however_long_a_name_is(http: httpx.Client, ids: dict[str, str]) -> None:
    asked = {"model": ids["model"], "calibration": ids["calibration"], "options": {**FEW, "k" * 60_000: 1}}
    answer = http.post("/v1/conversions", json=asked)
    problem(answer, 422, "invalid-request")
    assert len(answer.content) < 2000

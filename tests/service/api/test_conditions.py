"""Entity tags and ranges as RFC 9110 has them: the functions, and the files of a job."""

import re

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.api.conditions import MOST_RANGES, Conditions, matches, parts_of
from service.problems import ProblemError
from tests.service.api.test_requests import FEW, problem
from tests.service.running import Server, finished

TAG, SIZE = '"abc"', 1000


@pytest.mark.parametrize(
    ("header", "weakly", "strongly"),
    [
        ('"abc"', True, True),
        ('W/"abc"', True, False),
        ("*", True, True),
        (' "x" , W/"abc","y"', True, False),
        ('"x","abc"', True, True),
        (',, "abc"', True, True),
        ('"a,b", "abc"', True, True),
        ('"abc,"', False, False),
        ('"ABC"', False, False),
        ("abc", False, False),
        ('w/"abc"', False, False),
        ('"x" "abc"', True, True),
        ("", False, False),
        ('"' * 10_000, False, False),
        ("," * 10_000 + '"abc"', True, True),
    ],
)
def test_lists_of_entity_tags(header: str, weakly: bool, strongly: bool) -> None:
    assert matches(header, TAG, weakly=True) == weakly
    assert matches(header, TAG, weakly=False) == strongly


@pytest.mark.parametrize(
    ("ranges", "parts"),
    [
        (None, None),
        ("bytes=0-99", [(0, 100)]),
        ("bytes=990-", [(990, 1000)]),
        ("bytes=-10", [(990, 1000)]),
        ("bytes=-5000", [(0, 1000)]),
        ("bytes=5-5000", [(5, 1000)]),
        (f"bytes=0-{'9' * 5000}", [(0, 1000)]),
        (f"bytes={'0' * 5000}5-9", [(5, 10)]),
        (f"bytes=-{'9' * 5000}", [(0, 1000)]),
        ("Bytes = 0-0", [(0, 1)]),
        ("bytes=0-1,5-6", [(0, 2), (5, 7)]),
        ("bytes= 5-6 , ,0-1 ,", [(0, 2), (5, 7)]),
        ("bytes=0-10,5-20,-990", [(0, 1000)]),
        ("bytes=0-4,5-9", [(0, 10)]),
        ("bytes=0-0,5000-", [(0, 1)]),  # the one that is not there is left out
        ("bytes=" + ",".join(f"{n}-{n}" for n in range(0, 2 * MOST_RANGES, 2)), [(n, n + 1) for n in range(0, 32, 2)]),
        ("bytes=" + ",".join(f"{n}-{n}" for n in range(0, 2 * MOST_RANGES + 2, 2)), None),  # too many pieces
        ("bytes=" + "0-," * 1000, None),
        ("bytes=5-2", None),
        ("bytes=a-b", None),
        ("bytes=-", None),
        ("bytes=", None),
        ("bytes=1", None),
        ("bytes=0x5-9", None),
        ("bytes=+1-2", None),
        ("bytes=٣-٤", None),
        ("bytes=1-2-3", None),
        ("items=0-9", None),
        ("nonsense", None),
    ],
)
def test_ranges(ranges: str | None, parts: list[tuple[int, int]] | None) -> None:
    found = parts_of(Conditions(ranges=ranges), TAG, SIZE)
    assert (None if found is None else list(found)) == parts


@pytest.mark.parametrize("ranges", ["bytes=1000-", "bytes=-0", f"bytes={'9' * 5000}-", "bytes=1000-1001,2000-"])
def test_ranges_behind_the_end(ranges: str) -> None:
    with pytest.raises(ProblemError) as caught:
        parts_of(Conditions(ranges=ranges), TAG, SIZE)
    assert caught.value.slug == "range" and caught.value.headers["Content-Range"] == "bytes */1000"


@given(st.text(alphabet="0123456789-, bytes=", max_size=40), st.integers(0, 200))
def test_whatever_is_asked_the_parts_lie_in_the_file_in_order_and_apart(ranges: str, size: int) -> None:
    try:
        parts = parts_of(Conditions(ranges="bytes=" + ranges), TAG, size)
    except ProblemError:
        return
    edges = [edge for part in parts or [] for edge in part]
    assert edges == sorted(edges) and len(set(edges)) == len(edges)
    assert parts is None or (edges[0] >= 0 and edges[-1] <= size)


@pytest.fixture(scope="module")
def artifact(server: Server, ids: dict[str, str]) -> str:
    """The path of a converted network."""
    asked = {"model": ids["model"], "calibration": ids["calibration"], "options": FEW}
    job = finished(server.http, server.http.post("/v1/conversions", json=asked).headers["Location"])
    return f"/v1/conversions/{job['id']}/artifact"


def test_conditional_requests_of_a_file(http: httpx.Client, artifact: str) -> None:
    whole = http.get(artifact)
    tag = whole.headers["etag"]
    for path in (artifact, artifact.replace("artifact", "plan")):
        its = http.get(path).headers["etag"]
        for named in (its, f"W/{its}", f'"x", W/{its}', "*"):
            answer = http.get(path, headers={"If-None-Match": named})
            assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", its)
    several = httpx.Headers([("If-None-Match", '"x"'), ("If-None-Match", tag)])
    assert http.get(artifact, headers=several).status_code == 304
    assert http.get(artifact, headers={"If-None-Match": '"x"'}).content == whole.content
    assert http.get(artifact, headers={"If-Match": f'"x", {tag}'}).status_code == 200
    for named in (f"W/{tag}", '"x"', ""):
        problem(http.get(artifact, headers={"If-Match": named}), 412, "precondition")


def test_ranges_of_a_file(http: httpx.Client, artifact: str) -> None:
    whole = http.get(artifact)
    size, tag = len(whole.content), whole.headers["etag"]
    part = http.get(artifact, headers={"Range": "bytes=10-19", "If-Range": tag})
    assert (part.status_code, part.content) == (206, whole.content[10:20])
    assert part.headers["content-range"] == f"bytes 10-19/{size}" and part.headers["content-length"] == "10"
    for headers in ({"If-Range": '"x"'}, {"If-Range": f"W/{tag}"}, {"If-Range": "Sat, 01 Jan 2022 00:00:00 GMT"}):
        assert http.get(artifact, headers={"Range": "bytes=10-19", **headers}).content == whole.content
    problem(http.get(artifact, headers={"Range": f"bytes={'9' * 5000}-"}), 416, "range")
    assert http.get(artifact.replace("artifact", "plan"), headers={"Range": "bytes=0-0"}).content == b"{"


def test_several_ranges_of_a_file(http: httpx.Client, artifact: str) -> None:
    whole = http.get(artifact).content
    answer = http.get(artifact, headers={"Range": "bytes=20-29,0-9,-5"})
    assert answer.status_code == 206 and int(answer.headers["content-length"]) == len(answer.content)
    boundary = re.fullmatch(r"multipart/byteranges; boundary=(\w+)", answer.headers["content-type"])
    assert boundary and "content-range" not in answer.headers
    pieces = answer.content.split(f"\r\n--{boundary[1]}".encode())
    assert pieces[0] == b"" and pieces[-1] == b"--\r\n"
    found = [piece.partition(b"\r\n\r\n") for piece in pieces[1:-1]]
    assert [body for _, _, body in found] == [whole[0:10], whole[20:30], whole[-5:]]
    assert b"Content-Range: bytes 20-29/" in found[1][0]


def test_head_is_get_without_the_body(server: Server, http: httpx.Client, artifact: str, ids: dict[str, str]) -> None:
    job = artifact.rpartition("/")[0]
    paths = ["/livez", "/readyz", "/metrics", "/problems/range", "/openapi.json", "/docs", "/", "/main.js"]
    paths += ["/assets/plotly.min.js", "/v1/models", f"/v1/models/{ids['model']}", "/v1/datasets", "/v1/jobs", job]
    paths += [artifact, f"{job}/plan", f"{job}/events", "/v1/conversions?limit=1"]
    for path in paths:
        head = http.head(path)
        assert (head.status_code, head.content) == (200, b""), path
        if not path.endswith("/events") and path != "/metrics":
            get = http.get(path)
            same = ("content-type", "content-length", "etag", "accept-ranges", "content-disposition")
            assert [head.headers.get(name) for name in same] == [get.headers.get(name) for name in same], path
    assert http.head(artifact, headers={"Range": "bytes=0-0"}).headers["content-length"] != "1"
    assert http.head(artifact, headers={"If-None-Match": "*"}).status_code == 304
    for path, status in (("/v1/nothing", 404), (f"{job}/report", 409), ("/v1/uploads", 405), ("/v1/examples/x", 405)):
        head = http.head(path)
        assert (head.status_code, head.content) == (status, b""), path
    assert httpx.head(f"{server.url}/v1/models").status_code == 401
    assert "HEAD" in http.put("/v1/models").headers["allow"]


def test_ranges_of_the_page_are_problems_too(server: Server) -> None:
    for ranges, status, slug in (("nonsense", 400, "malformed-request"), ("bytes=99999999-", 416, "range")):
        answer = httpx.get(f"{server.url}/assets/plotly.min.js", headers={"Range": ranges})
        problem(answer, status, slug)
        assert len(answer.content) == int(answer.headers["content-length"])

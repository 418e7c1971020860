"""Problems as answers in bytes, for connections from which no further request is read."""

import json
from http import HTTPStatus

from service.problems import PROBLEM_JSON, ProblemError


def raw_answer(problem: ProblemError, request_id: str = "") -> bytes:
    """A problem as an answer of HTTP/1.1 after which the connection is closed."""
    body = json.dumps(problem.document(request_id)).encode()
    headers = {
        **problem.headers,
        "Content-Type": PROBLEM_JSON,
        "Content-Length": str(len(body)),
        "Cache-Control": "no-store",
        "X-Content-Type-Options": "nosniff",
        "Connection": "close",
        **({"X-Request-Id": request_id} if request_id else {}),
    }
    lines = [f"HTTP/1.1 {problem.status} {HTTPStatus(problem.status).phrase}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body

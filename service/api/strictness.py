"""Routes that refuse what they would otherwise ignore: unknown parameters, second values, and JSON read in two ways.

?state=failed&stat=queued        422    a parameter that the route does not have
?limit=1&limit=2                 422    one value is asked for
?limit=1_0, Upload-Offset: +0    422    numbers are ASCII digits alone: other readers know no other numbers
{"limit": 1, "limit": 2}         422    readers of JSON differ in which of the two they take
NaN, [[[… more than DEEPEST      422    not JSON; or deeper than anything here
a body that is not JSON by type  415
"""

import json
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, get_args, get_origin

from fastapi import Request, Response, params
from fastapi.dependencies.utils import get_flat_params
from fastapi.routing import APIRoute
from pydantic import BeforeValidator
from starlette.requests import ClientDisconnect

from graphpass.nesting import is_deeper
from graphpass.options.values import whole_of
from graphpass.wording import counted
from service.problems import ProblemError, ended_early

DEEPEST = 32  # objects and lists within each other
LONGEST = 100  # digits of a whole number
SHOWN = 100  # characters of a name
LISTS = {"if-match", "if-none-match"}  # headers whose lines are one list


Digits = BeforeValidator(whole_of)  # of a whole number in a header or a query


class StrictRoute(APIRoute):
    """A route that takes each of its parameters once and no others, and a body of JSON that has one reading."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """See APIRoute."""
        handle, takes_json = super().get_route_handler(), self.body_field is not None
        known = [(each.alias, each.field_info) for each in get_flat_params(self.dependant)]
        queries = {name: _is_list(info.annotation) for name, info in known if isinstance(info, params.Query)}
        headers = {name.lower() for name, info in known if isinstance(info, params.Header)} | {"content-type"}

        async def strictly(request: Request) -> Response:
            _require_known(request, queries)
            _require_single(request, headers - LISTS)
            return await handle(await _with_json(request) if takes_json else request)

        return strictly


def read_json(text: bytes) -> Any:
    """A body as JSON. Problem: invalid-request."""
    try:
        found = json.loads(
            text.decode("utf-8-sig"), object_pairs_hook=_object, parse_int=_whole, parse_constant=_refuse_constant
        )
    except RecursionError:
        raise _too_deep() from None
    except ValueError as error:
        raise ProblemError("invalid-request", f"the body is not JSON: {error}", "send JSON in UTF-8") from None
    if is_deeper(found, DEEPEST):
        raise _too_deep()
    return found


class _Read(Request):
    """A request whose JSON is read already."""

    read: Any

    async def json(self) -> Any:
        """See Request."""
        return self.read


async def _with_json(request: Request) -> Request:
    """The request, its body read. Problems: media-type, invalid-request, malformed-request."""
    found = _Read(request.scope, request.receive)
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media != "application/json" and not (media.startswith("application/") and media.endswith("+json")):
        said = f"the body comes as {media[:SHOWN]}" if media else "the body comes without a type"
        raise ProblemError("media-type", said, "send Content-Type: application/json", where="Content-Type")
    try:
        text = await found.body()
    except ClientDisconnect:
        raise ended_early() from None
    found.read = read_json(text) if text else None
    return found


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        name = _twice(name for name, _ in pairs)
        raise ProblemError("invalid-request", f"{name!r} appears twice in one object", "give it once", where=name)
    return found


def _refuse_constant(text: str) -> float:
    raise ValueError(f"{text} is no number of JSON")


def _whole(text: str) -> int:
    if len(text) > LONGEST:
        raise ValueError(f"a number has {counted(len(text), 'digit')}")
    return int(text)


def _too_deep() -> ProblemError:
    return ProblemError("invalid-request", f"the body has more than {DEEPEST} levels", "send what /openapi.json shows")


def _is_list(annotation: Any) -> bool:
    return any(each is list or get_origin(each) is list for each in (annotation, *get_args(annotation)))


def _require_known(request: Request, queries: dict[str, bool]) -> None:
    """Problem: invalid-request, for a parameter that is unknown, or that has two values and takes one."""
    given = request.query_params.multi_items()
    if unknown := next((name for name, _ in given if name not in queries), None):
        remedy = f"use {', '.join(queries)}" if queries else "send it without"
        raise _refused(f"query.{unknown}", "there is no such parameter here", remedy)
    if twice := _twice(name for name, _ in given if not queries[name]):
        raise _refused(f"query.{twice}", "appears twice", "send it once")


def _require_single(request: Request, headers: set[str]) -> None:
    """Problem: invalid-request, for a header that takes one value and has two."""
    if twice := _twice(name for name in request.headers.keys() if name in headers):  # noqa: SIM118  (a list of all)
        raise _refused(f"header.{twice}", "appears twice", "send it once")


def _twice(names: Iterable[str]) -> str:
    return next((name[:SHOWN] for name, count in Counter(names).items() if count > 1), "")


def _refused(where: str, what: str, remedy: str) -> ProblemError:
    where = where[:SHOWN]
    return ProblemError("invalid-request", f"{where}: {what}", remedy, where=where)

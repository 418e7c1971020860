"""Files for browsers out of installed packages: the plots of the page, and Swagger UI for the OpenAPI document."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from fastapi import APIRouter, Request
from starlette.responses import FileResponse, Response

from service.api.conditions import matches
from service.problems import not_found

PAGE = Path(__file__).parents[1] / "page"
CACHED = "public, max-age=86400"
router = APIRouter(include_in_schema=False)


@dataclass(frozen=True)
class Asset:
    """A file of an installed package."""

    package: str
    path: str
    media: str


ASSETS: Mapping[str, Asset] = {
    "plotly.min.js": Asset("plotly", "package_data/plotly.min.js", "text/javascript"),
    "swagger-ui-bundle.js": Asset("fastapi_swagger", "resources/swagger-ui-bundle.js", "text/javascript"),
    "swagger-ui.css": Asset("fastapi_swagger", "resources/swagger-ui.css", "text/css"),
}


@router.get("/assets/{name}")
def asset(name: str, request: Request) -> Response:
    """A file of ASSETS. Nothing of the package is imported."""
    found = ASSETS.get(name)
    spec = find_spec(found.package) if found else None
    path = Path(spec.origin).parent / found.path if found and spec and spec.origin else PAGE / "absent"
    if found is None or not path.is_file():
        raise not_found(name[:64])
    answer = FileResponse(path, media_type=found.media, headers={"Cache-Control": CACHED}, stat_result=path.stat())
    if matches(",".join(request.headers.getlist("If-None-Match")), answer.headers["etag"], weakly=True):
        kept = {name: answer.headers[name] for name in ("etag", "cache-control", "last-modified")}
        return Response(status_code=304, headers=kept)
    return answer


@router.get("/docs")
def docs() -> Response:
    """Swagger UI on /openapi.json."""
    return FileResponse(PAGE / "docs.html", headers={"Cache-Control": "no-cache"})

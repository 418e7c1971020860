"""What FastAPI leaves out of the OpenAPI document: the problem document's schema, and that times end in Z."""

from typing import Any

from fastapi import FastAPI

from service.api.context import PROBLEM_SCHEMA
from service.api.responses import Problem
from service.problems import PROBLEM_JSON

REF = "#/components/schemas/{model}"


def complete(app: FastAPI) -> None:
    """Make `app.openapi()` complete; it is made once."""
    original = app.openapi

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            found = original()
            schemas = found.setdefault("components", {}).setdefault("schemas", {})
            schemas[Problem.__name__] = Problem.model_json_schema(ref_template=REF)
            for name in ("HTTPValidationError", "ValidationError"):  # FastAPI's own form of 422, which is never sent
                schemas.pop(name, None)
            for operations in found["paths"].values():
                for operation in operations.values():
                    refused = operation["responses"].get("422", {})
                    if "HTTPValidationError" in str(refused):
                        refused["content"] = {PROBLEM_JSON: PROBLEM_SCHEMA}
            app.openapi_schema = found
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]

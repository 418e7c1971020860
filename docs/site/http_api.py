"""An OpenAPI document as Markdown: a section for each operation, then a table for each schema.

Statuses that every operation has alike are listed once, in front of all.
"""

import json
from collections.abc import Iterator, Sequence
from typing import Any

Document = dict[str, Any]


def markdown(document: Document) -> str:
    """The page. document: of OpenAPI 3.1, as FastAPI makes it."""
    operations = [
        (f"{method.upper()} {path}", operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    shared = _shared_refusals([operation["responses"] for _, operation in operations])
    lines = ["## Refusals of every operation", "", *_table(("status", "`slug`: meaning"), shared.items()), ""]
    for tag in dict.fromkeys(_tag(operation) for _, operation in operations):
        lines += [f"## {tag.capitalize()}", ""]
        for title, operation in operations:
            if _tag(operation) == tag:
                lines += _operation(title, operation, shared)
    lines += ["## Schemas", ""]
    for name, schema in sorted(document["components"]["schemas"].items()):
        lines += _schema(name, schema)
    return "\n".join(lines)


def _tag(operation: Document) -> str:
    return str(operation.get("tags", ["other"])[0])


def _shared_refusals(responses: Sequence[Document]) -> dict[str, str]:
    """Statuses from 400 on that most operations have, with the same words."""
    counts: dict[tuple[str, str], int] = {}
    for each in responses:
        for status, response in each.items():
            if int(status) >= 400:
                key = (status, response["description"])
                counts[key] = counts.get(key, 0) + 1
    return {status: text for (status, text), count in sorted(counts.items()) if count > len(responses) * 0.6}


def _operation(title: str, operation: Document, shared: dict[str, str]) -> Iterator[str]:
    yield from (f"### `{title}`", "", f"{operation['summary']}.", "", operation.get("description", ""), "")
    parameters = operation.get("parameters", [])
    rows = (
        (f"`{each['name']}`", each["in"], type_of(each["schema"]), _required(each) + each.get("description", ""))
        for each in parameters
    )
    if parameters:
        yield from (*_table(("parameter", "in", "type", ""), rows), "")
    for kind, body in operation.get("requestBody", {}).get("content", {}).items():
        yield from (f"Body: `{kind}`, {type_of(body.get('schema', {}))}.", "")
    answers = operation["responses"].items()
    yield from _table(
        ("status", "body", "meaning"),
        (
            (status, _bodies(answer), answer["description"] + _headers(answer))
            for status, answer in answers
            if shared.get(status) != answer["description"]
        ),
    )
    yield ""


def _bodies(answer: Document) -> str:
    found = []
    for kind, body in answer.get("content", {}).items():
        schema = type_of(body.get("schema", {}))
        found.append(schema if kind.endswith("json") and schema.startswith("[") else f"`{kind}`")
    return ", ".join(found)


def _headers(answer: Document) -> str:
    return "".join(f"; `{name}`: {header['description']}" for name, header in answer.get("headers", {}).items())


def _schema(name: str, schema: Document) -> Iterator[str]:
    yield from (f"### {name}", "", schema.get("description", ""), "")
    required = schema.get("required", [])
    if properties := schema.get("properties"):
        rows = (
            (f"`{field}`", type_of(each), _required({"required": field in required}) + each.get("description", ""))
            for field, each in properties.items()
        )
        yield from (*_table(("field", "type", ""), rows), "")
    for example in schema.get("examples", [])[:1]:
        yield from ("```json", json.dumps(example, indent=1, ensure_ascii=False), "```", "")


def _required(parameter: Document) -> str:
    return "(required) " if parameter.get("required") else ""


def type_of(schema: Document) -> str:
    """What a schema allows, in a few words.

    >>> type_of({"anyOf": [{"type": "integer", "minimum": 1}, {"type": "null"}]})
    'integer ≥ 1'
    """
    if reference := schema.get("$ref"):
        name = reference.rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if choices := schema.get("anyOf") or schema.get("oneOf"):
        return " or ".join(dict.fromkeys(type_of(each) for each in choices if each.get("type") != "null"))
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    kind = schema.get("type", "any")
    if kind == "array":
        return f"list of {type_of(schema.get('items', {}))}"
    limits = "".join(
        f" {sign} {schema[key]:g}"
        for sign, key in (("≥", "minimum"), (">", "exclusiveMinimum"), ("≤", "maximum"), ("<", "exclusiveMaximum"))
        if key in schema
    )
    default = schema.get("default")
    return f"{kind}{limits}" + (f", default `{json.dumps(default)}`" if default not in (None, "", [], {}) else "")


def _table(header: Sequence[str], rows: Any) -> list[str]:
    cells = [[str(cell).replace("|", "\\|").replace("\n", " ") for cell in row] for row in rows]
    return [
        "| " + " | ".join(header) + " |",
        "|" + "---|" * len(header),
        *("| " + " | ".join(row) + " |" for row in cells),
    ]

"""Keyset pages: newest first, bounded by items and bytes; the cursor is opaque."""

from typing import Annotated
from urllib.parse import quote, urlencode

from fastapi import Query

from service.api.strictness import Digits

After = Annotated[
    str | None, Query(max_length=200, description="The cursor of the page before: use its `next` link instead.")
]
Limit = Annotated[int, Digits, Query(ge=1, le=200, description="Most items of one page; fewer where they are long.")]


def next_link(path: str, after: str | None, limit: int, **filters: object) -> str | None:
    """The link of the next page; None at the end. filters: the query parameters of the page; one may be a list."""
    if after is None:
        return None
    given = {name: value for name, value in filters.items() if value}
    return f"{path}?{urlencode({**given, 'after': after, 'limit': limit}, doseq=True, quote_via=quote)}"
